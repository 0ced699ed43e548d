"""Does the gradient reach the first block? Activation gradients of dense networks of 100 layers before training.

It depends on the initialization and the norm: gradients of plain networks vanish or explode, and so do those of a
residual network whose branches are neither normalized nor scaled. Branches that start at zero pass it unchanged.
"""

import keras
from matplotlib import pyplot

import reszoo
from reszoo import diagnosis

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

x, y = reszoo.open_data("digits").arrays("train")
x, y = x[:256].reshape(256, -1), y[:256]
figure, axis = pyplot.subplots(figsize=(7, 4), layout="constrained")
for name, changes in NETWORKS.items():
    keras.utils.set_random_seed(0)
    size = {"input_shape": (64,), "classes": 10, "width_multiplier": 0.25, "depths": 50}
    model = reszoo.create("residual_mlp18", **size, **changes)
    profile = diagnosis.gradient_profile(model, x, y)
    print(f"{name:34} first block / last block {profile.ratio:9.3g}, x{profile.gain:.3f} a block: {profile.level}")
    axis.semilogy(profile.rms, label=name)
axis.set(xlabel="block", ylabel="dL/dh, root mean square", title="Gradients of dense networks of 100 layers")
axis.legend(fontsize=7)
axis.grid(alpha=0.3)
figure.savefig("gradient_flow.png", dpi=90)
print("\nA shortcut alone is not enough: what the branch adds must be small. Saved to gradient_flow.png")
