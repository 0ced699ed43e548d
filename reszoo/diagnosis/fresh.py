"""Ordinary initial weights for any model, as a control of what is due to the data and the architecture alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reszoo.types import Array, KerasVariable


def fresh_weights(variables: Sequence[KerasVariable], *, seed: int) -> list[Array]:
    """Returns values for variables: kernels by He (2015), gammas 1, biases 0.

    Args:
        variables: trainable variables of a model.
        seed: random seed.
    """
    random = np.random.default_rng(seed)
    return [_value(variable, random).astype("float32") for variable in variables]


def _value(variable: KerasVariable, random: np.random.Generator) -> Array:
    shape = tuple(variable.shape)
    if "embeddings" in variable.name:
        return random.uniform(-0.05, 0.05, shape)
    if len(shape) > 1:
        return random.normal(0.0, np.sqrt(2 / max(np.prod(shape[:-1]), 1)), shape)
    return np.ones(shape) if "gamma" in variable.name or "scale" in variable.name else np.zeros(shape)
