"""Does the gradient reach the first block? Activation gradients of dense networks of 100 layers before training.

It depends on the initialization and the norm: gradients of plain networks vanish or explode, and so do those of a
residual network whose branches are neither normalized nor scaled. Branches that start at zero pass it unchanged.
"""

from pathlib import Path

import keras

import reszoo
from reszoo import diagnosis
from reszoo.report.lines import Line, draw_lines

NETWORKS = {
    "plain, Keras' default": {"shortcut": "none", "norm": "none", "init": "glorot"},
    "plain, He": {"shortcut": "none", "norm": "none"},
    "plain, batch norm": {"shortcut": "none"},
    "residual, no norm, Keras' default": {"norm": "none", "init": "glorot", "block": {"start": "random"}},
    "residual, batch norm": {"block": {"start": "random"}},
    "residual, branches from zero": {},
    "plain, looks-linear (control)": {
        "shortcut": "none",
        "norm": "none",
        "init": "looks_linear",
        "block": {"order": "post"},
    },
}
KINDS = {
    "plain, batch norm": "plain",
    "residual, branches from zero": "residual",
    "plain, looks-linear (control)": "control",
}
"""Color of the line in the picture, where it has that of its kind."""

x, y = reszoo.open_data("digits").arrays("train")
x, y = x[:256].reshape(256, -1), y[:256]
lines = []
for name, changes in NETWORKS.items():
    keras.utils.set_random_seed(0)
    size = {"input_shape": (64,), "classes": 10, "width_multiplier": 0.25, "depths": 50}
    model = reszoo.create("residual_mlp18", **size, **changes)
    profile = diagnosis.gradient_profile(model, x, y)
    print(f"{name:34} first block / last block {profile.ratio:9.3g}, x{profile.gain:.3f} a block: {profile.level}")
    lines.append(Line(name, profile.rms, at=range(len(profile.rms)), kind=KINDS.get(name, "")))
picture = draw_lines(
    lines,
    name="gradient_flow",
    title="Gradients of dense networks of 100 layers",
    caption="The gradient of the loss at every block.",
    xlabel="block",
    ylabel="root mean square",
    yscale="log",
)
picture.save(Path("gradient_flow.png"))
print("\nA shortcut alone is not enough: what the branch adds must be small. Saved to gradient_flow.png")
