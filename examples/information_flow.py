"""Can later blocks still read the input? Ridge regression from every block of dense networks of 100 layers.

This measures recoverability, not information: a finite network destroys little, but makes it linearly unreachable.
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
    "residual, branches scaled by 1/sqrt(blocks)": {"norm": "none", "block": {"start": "scaled"}},
    "plain, looks-linear (control)": {**PLAIN, "init": "looks_linear"},
}

x, y = reszoo.open_data("digits").arrays("train")
x, y = x[:400].reshape(400, -1), y[:400]
figure, axis = pyplot.subplots(figsize=(7, 4), layout="constrained")
for name, changes in NETWORKS.items():
    keras.utils.set_random_seed(0)
    size = {"input_shape": (64,), "classes": 10, "width_multiplier": 0.25, "depths": 50}
    model = reszoo.create("residual_mlp18", **size, **changes)
    result = diagnosis.information(model, x, y, places=11)
    last = result.readouts[-1]
    print(f"{name:44} last block: R2 of the input {last.r2:5.2f}, class by a linear probe {last.probe:.0%}")
    axis.plot(result.places, [one.r2 for one in result.readouts], marker="o", markersize=3, label=name)
axis.axhline(result.control["r2, random"], color="black", linestyle=":", label="random projection of the input")
axis.set(xlabel="block", ylabel="R2 of the input, held out", title="Linear readout before training", ylim=(-0.2, 1.02))
axis.legend(fontsize=7)
axis.grid(alpha=0.3)
figure.savefig("information_flow.png", dpi=90)
print("\nSaved to information_flow.png")
