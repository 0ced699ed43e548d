"""Narrow, fast networks of every kind, with their inputs and outputs."""

import keras
import numpy as np

import reszoo
from reszoo.arch import zoo

IMAGES = {"depths": 1, "widths": [64, 64], "stem": {"width": 8}, "classes": 7, "input_shape": (32, 32, 3)}
ROWS = {"depths": 1, "widths": 16, "stem": {"width": 16}, "classes": 7, "input_shape": (20,)}


def narrow(entry, /, **changes):
    """A narrow variant of an entry with one block per stage."""
    return reszoo.create(entry, **{**(ROWS if zoo.spec(entry).dense else IMAGES), **changes})


def batch(model, count=4):
    """A fixed batch of inputs for a model."""
    return np.random.default_rng(0).normal(size=(count, *model.input_shape[1:])).astype("float32")


def outputs(model, x):
    """The outputs of a model as a NumPy array."""
    return keras.ops.convert_to_numpy(model(x, training=False)).astype("float32")


def randomise(model, seed=0):
    """Draws weights and statistics that keep activations near one, so that no block is the identity."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape).astype("float32"))
        elif "seed" not in weight.name:
            size = np.prod(weight.shape[:-1]) ** -0.5 if len(weight.shape) > 1 else 0.1
            weight.assign(rng.normal(0, size, weight.shape).astype("float32"))
