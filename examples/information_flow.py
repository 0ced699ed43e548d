"""Can later blocks still read the input? Ridge regression from every block of dense networks of 100 layers.

This measures recoverability, not information: a finite network destroys little, but makes it linearly unreachable.
"""

from pathlib import Path

import keras

import reszoo
from reszoo import diagnosis
from reszoo.report.lines import Line, draw_lines

PLAIN = {"shortcut": "none", "norm": "none", "block": {"order": "post"}}
NETWORKS = {
    "plain, He": PLAIN,
    "plain, batch norm": {"shortcut": "none"},
    "residual, batch norm": {"block": {"start": "random"}},
    "residual, branches scaled by 1/sqrt(blocks)": {"norm": "none", "block": {"start": "scaled"}},
    "plain, looks-linear (control)": {**PLAIN, "init": "looks_linear"},
}
KINDS = {"plain, batch norm": "plain", "residual, batch norm": "residual", "plain, looks-linear (control)": "control"}
"""Color of the line in the picture, where it has that of its kind."""

x, y = reszoo.open_data("digits").arrays("train")
x, y = x[:400].reshape(400, -1), y[:400]
lines = []
for name, changes in NETWORKS.items():
    keras.utils.set_random_seed(0)
    size = {"input_shape": (64,), "classes": 10, "width_multiplier": 0.25, "depths": 50}
    model = reszoo.create("residual_mlp18", **size, **changes)
    result = diagnosis.information(model, x, y, places=11)
    last = result.readouts[-1]
    print(f"{name:44} last block: R2 of the input {last.r2:5.2f}, class by a linear probe {last.probe:.0%}")
    lines.append(Line(name, [one.r2 for one in result.readouts], at=result.places, kind=KINDS.get(name, "")))
picture = draw_lines(
    lines,
    name="information_flow",
    title="Linear readout before training",
    caption="Share of the input's variance that ridge regression recovers at every block.",
    xlabel="block",
    ylabel="R2 of the input, held out",
    reference={"random projection": result.control["r2, random"]},
)
picture.save(Path("information_flow.png"))
print("\nSaved to information_flow.png")
