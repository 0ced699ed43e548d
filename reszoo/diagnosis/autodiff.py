"""The gradient of a function, exact on all three backends; the only module that calls a backend directly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras

from reszoo.types import Tensor

Scalar = Callable[[list[Tensor]], Tensor]
"""A scalar function of a list of tensors."""


def gradient(function: Scalar, tensors: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Returns the value of a scalar function of tensors, and its gradients; zeros where it does not depend on one."""
    backends = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
    return backends[keras.backend.backend()](function, list(tensors))


def without_gradient() -> AbstractContextManager[Any]:
    """Returns a context in which nothing is recorded for a gradient; only torch records by default."""
    if keras.backend.backend() != "torch":
        return nullcontext()
    import torch

    return torch.no_grad()


def _tensorflow(function: Scalar, tensors: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    import tensorflow as tf

    # What the function reads besides its arguments needs no gradient.
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(tensors)
        value = function(tensors)
    return value, tape.gradient(value, tensors, unconnected_gradients=tf.UnconnectedGradients.ZERO)


def _jax(function: Scalar, tensors: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    import jax

    return jax.value_and_grad(function)(tensors)


def _torch(function: Scalar, tensors: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    import torch

    leaves = [tensor.detach().clone().requires_grad_(True) for tensor in tensors]
    value = function(leaves)
    gradients = torch.autograd.grad(value, leaves, allow_unused=True)
    pairs = zip(gradients, leaves, strict=True)
    return value.detach(), [torch.zeros_like(leaf) if slope is None else slope for slope, leaf in pairs]
