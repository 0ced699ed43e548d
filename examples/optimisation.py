"""How long does a gradient stay valid? The gradient after a step along it, in dense networks of 50 layers.

The cosine is 1 where the loss is smooth on the scale of the step, and near 0 where the gradient does not predict the
loss around it. A step is a line through the loss surface: it does not show the shape of the surface elsewhere.
"""

import keras
from matplotlib import pyplot

import reszoo
from reszoo import diagnosis

PLAIN = {"shortcut": "none", "norm": "none", "block": {"order": "post"}}
NETWORKS = {
    "plain, He": PLAIN,
    "plain, batch norm": {"shortcut": "none"},
    "residual, batch norm": {"block": {"start": "random"}},
    "residual, branches from zero": {},
    "plain, looks-linear (control)": {**PLAIN, "init": "looks_linear"},
}
STEPS = (1e-5, 1e-4, 1e-3, 1e-2)

x, y = reszoo.open_data("digits").arrays("train")
x, y = x[:256].reshape(256, -1), y[:256]
figure, axis = pyplot.subplots(figsize=(7, 4), layout="constrained")
for name, changes in NETWORKS.items():
    keras.utils.set_random_seed(0)
    size = {"input_shape": (64,), "classes": 10, "width_multiplier": 0.25, "depths": 25}
    model = reszoo.create("residual_mlp18", **size, **changes)
    result = diagnosis.predictiveness(model, x, y, steps=STEPS)
    cosines = ", ".join(f"{cosine:6.3f}" for cosine in result.cosines)
    print(f"{name:32} cosine after steps of {', '.join(f'{step:g}' for step in STEPS)}: {cosines}")
    axis.semilogx(STEPS, result.cosines, marker="o", markersize=4, label=name)
axis.set(xlabel="step / norm of the weights", ylabel="cosine", title="The gradient after a step along it")
axis.legend(fontsize=7)
axis.grid(alpha=0.3)
figure.savefig("optimisation.png", dpi=90)
print("\nSaved to optimisation.png")
