"""A residual MLP (linear, ReLU, linear, added to x) on a table, compared with its plain twin and a linear model."""

import tempfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

import reszoo

x, y = load_breast_cancer(return_X_y=True)
rows = np.random.default_rng(0).permutation(len(x))
train, test = rows[:400], rows[400:]
data = reszoo.open_data((x[train], y[train]), test=(x[test], y[test]))
print(f"{data.shape[0]} features, scaled by mean and standard deviation of the training rows; {data.counts()}")

# Gorishniy 2021: BatchNorm - Linear - ReLU - Dropout - Linear - Dropout + x. Width and depth change as for any network.
spec = reszoo.spec("tabular_resnet", widths=64, depths=3)
folder = Path(tempfile.mkdtemp())
for network in (spec, spec.plain()):
    run = reszoo.train(network, data, output=folder / network.name, epochs=15, batch=64, seed=0, verbose=0)
    params = reszoo.cost(network, input_shape=data.shape, classes=2).params
    print(f"{network.name}: {params:,} parameters, test accuracy {run.test_accuracy:.1%}")

# The first baseline for a table of 400 rows.
scaler = StandardScaler().fit(x[train])
baseline = LogisticRegression(max_iter=1000).fit(scaler.transform(x[train]), y[train])
print(f"logistic regression: test accuracy {baseline.score(scaler.transform(x[test]), y[test]):.1%}")

# From a file: the last column of a .csv is the class; text columns are one-hot encoded.
table = np.column_stack([x[train][:, :3], y[train]])
header = "radius,texture,perimeter,benign"
np.savetxt(folder / "rows.csv", table, delimiter=",", header=header, comments="", fmt=["%g", "%g", "%g", "%d"])
print(reszoo.open_data(folder / "rows.csv").classes, reszoo.open_data(folder / "rows.csv").shape)
