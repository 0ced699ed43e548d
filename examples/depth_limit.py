"""How deep does a network train? Dense networks of 10 and 100 layers on handwritten digits, 150 steps each.

The limit depends on initialization, norm, learning rate and number of steps. Shortcuts are not the only cure: the
looks-linear control is a plain network.
"""

from pathlib import Path

import reszoo
from reszoo.report.lines import Line, draw_lines

comparison = reszoo.compare(
    "residual_mlp18",
    "digits",
    width_multiplier=0.25,
    depths=50,
    shallow=5,
    against=("plain twin", "plain, looks-linear"),
    seeds=(0,),
    measure=(),
)
lines = []
for pair in zip(comparison.shallow, comparison.contestants, strict=True):
    accuracies = [comparison.of(one.family, one.depth)[0].batch_accuracy for one in pair]
    layers = [one.depth - 2 for one in pair]
    lines.append(Line(pair[0].family, accuracies, at=layers, kind=pair[0].kind))
    for depth, accuracy in zip(layers, accuracies, strict=True):
        print(f"{depth:3} layers, {pair[0].family:30} training accuracy {accuracy:.1%}")
picture = draw_lines(
    lines,
    name="depth_limit",
    title=f"after {comparison.budget.steps} steps",
    caption="Training accuracy of networks of 10 and 100 layers.",
    xlabel="layers in blocks",
    ylabel="training accuracy",
    xscale="log",
    reference={"chance": 0.1},
)
picture.save(Path("depth_limit.png"))
print("\nSaved to depth_limit.png")
