"""The one place that speaks to a backend: the gradient of a function, exact on all three."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras


def gradient(function: Callable[[list[Any]], Any], at: Sequence[Any]) -> tuple[Any, list[Any]]:
    """Returns the value of a scalar function of tensors, and its gradients; zeros where it does not depend on one."""
    return {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}[keras.backend.backend()](function, list(at))


def without_gradient() -> AbstractContextManager[Any]:
    """Returns a context in which nothing is remembered for a gradient; only torch remembers unasked."""
    if keras.backend.backend() != "torch":
        return nullcontext()
    import torch

    return torch.no_grad()


def _tensorflow(function: Callable[[list[Any]], Any], at: list[Any]) -> tuple[Any, list[Any]]:
    import tensorflow as tf

    # What the function reads beside its arguments needs no gradient.
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(at)
        value = function(at)
    return value, tape.gradient(value, at, unconnected_gradients=tf.UnconnectedGradients.ZERO)


def _jax(function: Callable[[list[Any]], Any], at: list[Any]) -> tuple[Any, list[Any]]:
    import jax

    return jax.value_and_grad(function)(at)


def _torch(function: Callable[[list[Any]], Any], at: list[Any]) -> tuple[Any, list[Any]]:
    import torch

    leaves = [tensor.detach().clone().requires_grad_(True) for tensor in at]
    value = function(leaves)
    found = torch.autograd.grad(value, leaves, allow_unused=True)
    pairs = zip(found, leaves, strict=True)
    return value.detach(), [torch.zeros_like(leaf) if slope is None else slope for slope, leaf in pairs]
