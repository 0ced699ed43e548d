"""Keras' global settings while a network is built in the place of another one: dtype policy and random numbers."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

from reszoo.arch.recover import layers_of
from reszoo.types import KerasModel


@contextmanager
def policy_of(model: KerasModel) -> Iterator[None]:
    """Sets Keras' dtype policy to that of a network."""
    import keras

    previous = keras.config.dtype_policy()
    policies = [layer.dtype_policy for layer in layers_of(model) if layer.name.endswith(("_conv", "_dense"))]
    keras.config.set_dtype_policy(policies[0] if policies else previous)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(previous)


@contextmanager
def unchanged_randomness() -> Iterator[None]:
    """Leaves Python's generator as it was: Keras draws the seeds of initializers and dropout from it."""
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)
