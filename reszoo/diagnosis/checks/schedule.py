"""The settings of training: learning rate, number of steps, batch."""

from __future__ import annotations

from collections.abc import Iterator

import keras

from reszoo.diagnosis.causes import Cause
from reszoo.diagnosis.program import Program

USUAL = {"SGD": (1e-5, 1.0), "Adadelta": (1e-3, 10.0), "Adagrad": (1e-4, 1.0), "Ftrl": (1e-4, 1.0)}
"""Optimizer -> usual learning rates; the defaults of Keras and the papers lie inside."""
ADAPTIVE = (1e-6, 0.1)
"""Those of optimizers that divide by the size of the gradient (Adam, RMSprop, ...): a step moves every weight by about
the rate."""


def rate_causes(program: Program) -> Iterator[Cause]:
    """Yields learning rates outside the usual ones of the optimizer."""
    rate = program.rate
    if rate is None:
        return
    name = type(program.optimizer).__name__
    low, high = USUAL.get(name, ADAPTIVE)
    if low <= rate * (1 + 1e-6) and rate <= high * (1 + 1e-6):
        return
    size = "high" if rate > high else "low"
    usual = 0.01 if name in USUAL else 0.001
    yield Cause(
        "learning_rate",
        f"the learning rate {rate:g} of {name} is unusually {size}",
        "the weights overshoot" if size == "high" else "the weights hardly move",
        f"optimizer=keras.optimizers.{name}({usual:g})",
        certain=False,
        evidence={
            "learning rate": rate,
            f"{'greatest' if size == 'high' else 'least'} usual one": high if size == "high" else low,
        },
    )


def batch_causes(program: Program) -> Iterator[Cause]:
    """Yields a batch of one example for a batch norm of vectors, whose variance is then zero."""
    norms = [
        layer
        for layer in program.layers
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable and len(layer.input.shape) == 2
    ]
    if program.batch_size == 1 and norms:
        yield Cause(
            "batch_size",
            f"batches of one example and the batch norm {norms[0].name}",
            "the mean of one example is the example itself: the norm returns its beta whatever the input is",
            "model.fit(..., batch_size=32)",
            evidence={"batch size": 1},
        )
