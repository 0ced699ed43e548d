"""How long does a gradient stay valid? The gradient after a step along it, in dense networks of 50 layers.

The cosine is 1 where the loss is smooth on the scale of the step, and near 0 where the gradient does not predict the
loss around it. A step is a line through the loss surface: it does not show the shape of the surface elsewhere.
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
    "residual, branches from zero": {},
    "plain, looks-linear (control)": {**PLAIN, "init": "looks_linear"},
}
KINDS = {
    "plain, batch norm": "plain",
    "residual, branches from zero": "residual",
    "plain, looks-linear (control)": "control",
}
"""Color of the line in the picture, where it has that of its kind."""
STEPS = (1e-5, 1e-4, 1e-3, 1e-2)

x, y = reszoo.open_data("digits").arrays("train")
x, y = x[:256].reshape(256, -1), y[:256]
lines = []
for name, changes in NETWORKS.items():
    keras.utils.set_random_seed(0)
    size = {"input_shape": (64,), "classes": 10, "width_multiplier": 0.25, "depths": 25}
    model = reszoo.create("residual_mlp18", **size, **changes)
    result = diagnosis.predictiveness(model, x, y, steps=STEPS)
    cosines = ", ".join(f"{cosine:6.3f}" for cosine in result.cosines)
    print(f"{name:32} cosine after steps of {', '.join(f'{step:g}' for step in STEPS)}: {cosines}")
    lines.append(Line(name, result.cosines, at=STEPS, kind=KINDS.get(name, "")))
picture = draw_lines(
    lines,
    name="optimisation",
    title="The gradient after a step along it",
    caption="Cosine of the gradient with itself after a step.",
    xlabel="step / norm of the weights",
    ylabel="cosine",
    xscale="log",
)
picture.save(Path("optimisation.png"))
print("\nSaved to optimisation.png")
