"""Compiled copies of a model, for trials that must not touch the user's own."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from reszoo.types import KerasLayer, KerasModel

Remake = Callable[[KerasLayer], "KerasLayer | None"]
"""Returns another layer in place of one; None for a copy of it."""


def copy_of(model: KerasModel, *, weights: bool, remake: Remake | None = None) -> KerasModel:
    """Returns a copy of a functional or Sequential model, not compiled.

    Args:
        model: the model; it does not change.
        weights: whether the copy gets its weights; otherwise it starts with fresh ones.
        remake: returns other layers in place of some.

    Raises:
        Exception: whatever a custom layer raises that cannot be made anew from its configuration.
    """

    def clone(layer: KerasLayer) -> KerasLayer:
        if isinstance(layer, keras.layers.Lambda):
            # Its configuration holds code, which is not loaded again.
            copy = keras.layers.Lambda(layer.function, arguments=layer.arguments, name=layer.name)
            copy._output_shape = layer._output_shape
            return copy
        other = remake(layer) if remake is not None else None
        return type(layer).from_config(layer.get_config()) if other is None else other

    compiled, model.compiled = model.compiled, False
    try:
        # A compiled model would be compiled again from its configuration, which a function as the loss does not have.
        copy = keras.models.clone_model(model, clone_function=clone)
    finally:
        model.compiled = compiled
    if weights:
        copy.set_weights(model.get_weights())
    else:
        _keep_fixed(model, copy)
    for layer in copy._flatten_layers():
        if isinstance(layer, keras.layers.Normalization):
            # Its call reads what is computed from its weights.
            layer.finalize_state()
    return copy


def _keep_fixed(model: KerasModel, copy: KerasModel) -> None:
    """Gives a copy the weights of layers that do not learn: adapted statistics, frozen pretrained layers."""
    pairs = zip(model._flatten_layers(), copy._flatten_layers(), strict=False)
    for layer, other in pairs:
        own = [*layer._trainable_variables, *layer._non_trainable_variables]
        fixed = own and not layer.trainable_variables and not isinstance(layer, keras.layers.BatchNormalization)
        mine = [*other._trainable_variables, *other._non_trainable_variables]
        if fixed and type(layer) is type(other) and [v.shape for v in own] == [v.shape for v in mine]:
            for target, source in zip(mine, own, strict=True):
                target.assign(source)


def optimizer_of(model: KerasModel, *, rate: float) -> Any:
    """Returns a new optimizer of the model's kind and settings, with a constant learning rate."""
    optimizer = unscaled(model.optimizer)
    return type(optimizer).from_config({**optimizer.get_config(), "learning_rate": rate})


def unscaled(optimizer: Any) -> Any:
    """Returns the optimizer inside one that scales the loss, as `compile` makes one for float16; else itself."""
    return getattr(optimizer, "inner_optimizer", optimizer)


@contextmanager
def own_randomness(seed: int) -> Iterator[None]:
    """Returns a context in which Python's and NumPy's random states are seeded, and as before afterwards."""
    before, numpy_before = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        random.setstate(before)
        np.random.set_state(numpy_before)
