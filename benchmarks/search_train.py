"""Trains a table for benchmarks/search.py: every network of a small space, its accuracy after each epoch.

    python benchmarks/search_train.py photos cifar10.npz
    python benchmarks/search_train.py fashion fashion_mnist_train.npz

The file is a .npz with `x` (images) and `y` (class numbers). Rows are appended to benchmarks/search_tables/NAME.jsonl;
an interrupted run resumes.
"""

import argparse
import json
import os
import time

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import numpy as np
from search import RECIPES, SPACES, TABLES

import reszoo

SIZES = {"fashion": (14, 800, 1000), "photos": (8, 1000, 2000)}
"""Table -> side of the images, examples for training, examples for validation."""


def load(file, name):
    side, count, held = SIZES[name]
    with np.load(file) as arrays:
        x, y = arrays["x"], arrays["y"]
    return reszoo.open_data(
        (x[:count], y[:count]), size=side, validation=(x[count : count + held], y[count : count + held])
    )


def values(space, point):
    """Returns the values of all axes, None where an axis does not apply."""
    return [point.get(axis) for axis in space.axes]


def train(data, name, point):
    """Trains one network; returns its row: values of the axes, MACs, accuracy after every epoch, and the seconds."""
    import keras
    import keras_tuner

    start = time.perf_counter()
    keras.utils.set_random_seed(0)
    space, recipe = SPACES[name], RECIPES[name]
    x, y = data.arrays("train")
    hp = keras_tuner.HyperParameters()
    hypermodel = reszoo.HyperResNet(space, recipe, steps=-(-len(x) // recipe.batch) * recipe.epochs)
    space.ask(hp)
    hp.values.update(point)
    model = hypermodel.build(hp)
    settings = {"epochs": recipe.epochs, "batch_size": recipe.batch, "validation_data": data.arrays("validation")}
    history = hypermodel.fit(hp, model, x, y, verbose=0, **settings).history
    keras.backend.clear_session()
    curve = [round(value, 4) for value in history["val_accuracy"]]
    return [values(space, point), space.cost(point).macs, curve, round(time.perf_counter() - start, 1)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=SIZES)
    parser.add_argument("file")
    arguments = parser.parse_args()
    path = TABLES / f"{arguments.name}.jsonl"
    lines = path.read_text().splitlines()[1:]
    trained = [json.loads(line)[0] for line in lines]
    data = load(arguments.file, arguments.name)
    with path.open("a") as stream:
        for point in SPACES[arguments.name].points():
            if values(SPACES[arguments.name], point) not in trained:
                stream.write(json.dumps(train(data, arguments.name, point)) + "\n")
                stream.flush()


if __name__ == "__main__":
    main()
