"""Initial weights: whether a layer still has them, their size beside the usual ones, and ordinary ones as a control."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reszoo.diagnosis.graph import Step
from reszoo.types import Array, KerasLayer, KerasVariable


@dataclass(frozen=True)
class Size:
    """The deviation of a kernel beside those that keep the size of a signal."""

    deviation: float
    """Root mean square of the kernel."""
    great: float
    """The greater of the deviations of He (2015) and Glorot (2010)."""
    little: float
    """The smaller one of LeCun (1998) and Glorot."""
    initial: bool
    """Whether the kernel still looks as its initializer made it."""

    @property
    def ratio_great(self) -> float:
        """Returns the deviation over the greater usual one."""
        return self.deviation / self.great

    @property
    def ratio_little(self) -> float:
        """Returns the deviation over the smaller usual one."""
        return self.deviation / self.little


def size_of(step: Step) -> Size | None:
    """Returns the size of a layer's kernel; None for layers without a kernel of the usual form."""
    kernel = getattr(step.layer, "kernel", None)
    if kernel is None or len(kernel.shape) < 2 or hasattr(step.layer, "depthwise_initializer"):
        return None
    value = np.asarray(kernel.numpy(), "float64")
    if not np.isfinite(value).all():
        return None
    inputs, outputs = _fans(value.shape)
    glorot = float(np.sqrt(2 / (inputs + outputs)))
    return Size(
        deviation=float(np.sqrt((value**2).mean())),
        great=max(float(np.sqrt(2 / inputs)), glorot),
        little=min(float(np.sqrt(1 / inputs)), glorot),
        initial=_matches(value, getattr(step.layer, "kernel_initializer", None)),
    )


def looks_initial(layer: KerasLayer) -> bool:
    """Returns whether all kernels in a layer look as their initializers made them."""
    parts = [part for part in layer._flatten_layers() if getattr(part, "kernel", None) is not None]
    kernels = [
        (np.asarray(part.kernel.numpy(), "float64"), getattr(part, "kernel_initializer", None)) for part in parts
    ]
    return bool(kernels) and all(_matches(value, initializer) for value, initializer in kernels)


def _matches(value: Array, initializer: Any) -> bool:
    """Returns whether values are within the bounds of an initializer and deviate as it says, but for chance."""
    expected = _expected(value.shape, initializer)
    if expected is None:
        return False
    mean, deviation, bound = expected
    if deviation == 0:
        return bool(np.allclose(value, mean, atol=1e-7))
    # A mean and a deviation of n numbers differ from the true ones by about 1 / sqrt(n).
    chance = 4 / np.sqrt(value.size)
    inside = bool(np.abs(value - mean).max() <= bound * 1.0001)
    center = abs(value.mean() - mean) <= chance * deviation
    return inside and bool(center) and bool(abs(value.std() / deviation - 1) <= chance + 0.01)


def _expected(shape: tuple[int, ...], initializer: Any) -> tuple[float, float, float] | None:
    """Returns mean, deviation and greatest distance from the mean that an initializer gives; None if unknown."""
    name = type(initializer).__name__
    if name in ("Zeros", "Ones", "Constant"):
        value = {"Zeros": 0.0, "Ones": 1.0}.get(name)
        return (float(np.mean(initializer.value)) if value is None else value), 0.0, 0.0
    if name == "RandomUniform":
        half = (initializer.maxval - initializer.minval) / 2
        return (initializer.maxval + initializer.minval) / 2, half / np.sqrt(3), half
    if name in ("RandomNormal", "TruncatedNormal"):
        truncated = name == "TruncatedNormal"
        shrink = 0.8796 if truncated else 1.0
        return initializer.mean, initializer.stddev * shrink, 2 * initializer.stddev if truncated else np.inf
    if not hasattr(initializer, "scale") or not hasattr(initializer, "distribution"):
        return None
    inputs, outputs = _fans(shape)
    fan = {"fan_in": inputs, "fan_out": outputs}.get(initializer.mode, (inputs + outputs) / 2)
    deviation = float(np.sqrt(initializer.scale / fan))
    bounds = {"uniform": np.sqrt(3) * deviation, "truncated_normal": 2 * deviation / 0.8796}
    return 0.0, deviation, float(bounds.get(initializer.distribution, np.inf))


def _fans(shape: tuple[int, ...]) -> tuple[int, int]:
    field = int(np.prod(shape[:-2]))
    return max(field * shape[-2], 1), max(field * shape[-1], 1)


def fresh_weights(variables: Sequence[KerasVariable], *, seed: int) -> list[Array]:
    """Returns ordinary initial values for variables: kernels by He (2015), gammas 1, biases 0.

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
