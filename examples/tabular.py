"""A residual MLP (linear, ReLU, linear, added to x) on a table of scikit-learn, beside its plain twin and a line."""

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
print(f"{data.shape[0]} features, scaled by the training rows' mean and deviation; {data.counts()}")

# Gorishniy 2021: BatchNorm - Linear - ReLU - Dropout - Linear - Dropout + x. Width and depth change as anywhere.
spec = reszoo.spec("tabular_resnet", widths=64, depths=3)
folder = Path(tempfile.mkdtemp())
for network in (spec, spec.plain()):
    done = reszoo.train(network, data, output=folder / network.name, epochs=15, batch=64, seed=0, verbose=0)
    params = reszoo.cost(network, input_shape=data.shape, classes=2).params
    print(f"{network.name}: {params:,} parameters, test accuracy {done.test_accuracy:.1%}")

# What a table of 400 rows asks for first.
line = StandardScaler().fit(x[train])
told = LogisticRegression(max_iter=1000).fit(line.transform(x[train]), y[train])
print(f"logistic regression: {told.score(line.transform(x[test]), y[test]):.1%}")

# From and to a file: the last column of a .csv is the class, words become columns.
table = np.column_stack([x[train][:, :3], y[train]])
header = "radius,texture,perimeter,benign"
np.savetxt(folder / "rows.csv", table, delimiter=",", header=header, comments="", fmt=["%g", "%g", "%g", "%d"])
print(reszoo.open_data(folder / "rows.csv").classes, reszoo.open_data(folder / "rows.csv").shape)
