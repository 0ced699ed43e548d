"""The units of a model's activations: how many are dead, saturated or duplicated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import isfunction
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from reszoo.diagnosis.autodiff import gradient
from reszoo.diagnosis.graph import Graph, Slot, Step, Values
from reszoo.types import Array, KerasLayer, KerasVariable, Tensor

_LAYERS = ("Activation", "ReLU", "LeakyReLU", "ELU", "PReLU", "Relu", "Sigmoid", "Tanh", "Elu", "Gelu", "Silu")
"""Types of layers and operations that are activations."""


@dataclass(frozen=True, slots=True)
class Units:
    """The units (channels or features) of the output of one activation."""

    layer: str
    count: int
    dead: int
    """Units that are zero for every example and position, and pass no gradient."""
    saturated: int
    """Units that pass no gradient at values other than zero."""
    duplicated: int
    """Units equal to an earlier unit of the layer for every example, dead ones not counted."""
    activation: str = ""
    """Name of the activation."""
    flat: float = 0.0
    """Of sigmoid and tanh: share of values at which the slope is below 5 % of the greatest one."""


def units_of(
    graph: Graph, x: Tensor, weights: Iterable[tuple[KerasVariable, Tensor]], *, duplicates: bool = True
) -> Iterator[Units]:
    """Yields the units of every activation, except the one at the end of the model, which is part of the loss.

    Args:
        graph: the graph of the model.
        x: a batch of inputs.
        weights: variables and the values they have in this run.
        duplicates: whether equal units are counted, which takes about as long as the rest.
    """
    units: dict[str, Units] = {}
    change = {}
    for step in graph.between(graph.inputs, [graph.logits]):
        if (kind := _activation(step)) is None:
            continue

        def count(value: Tensor, values: Values, step: Step = step, kind: _Kind = kind) -> Tensor:
            output = np.asarray(ops.convert_to_numpy(ops.cast(value, "float32")))
            units[step.name] = _units(step, output, _derivative(step, kind, values, output), duplicates)
            return value

        change[step.outputs[0]] = count
    graph.run(x, outputs=[graph.logits], change=change, statistics="batch", weights=weights)
    yield from units.values()


FLAT = 0.05
"""Share of the greatest slope below which sigmoid and tanh are called flat."""
_SLOPES = {"sigmoid": 0.25, "tanh": 1.0}
"""Greatest slopes of the activations that saturate."""


def activation_name(step: Step) -> str:
    """Returns the name of the activation of a step, such as relu; "linear" without one."""
    if isfunction(step.layer):
        # The activation of a last layer, a step of its own in the graph.
        return step.layer.__name__
    if step.call is not step.layer:
        return "linear"
    layer = step.layer.layer if isinstance(step.layer, keras.layers.TimeDistributed) else step.layer
    name = getattr(getattr(layer, "activation", None), "__name__", None)
    kind = type(layer).__name__
    if name is None:
        name = kind.lower() if kind in _LAYERS or kind == "Softmax" else "linear"
    return str(name)


_Kind = Literal["layer", "weighted"]
"""A separate activation, or one at the end of a weighted layer."""


def _activation(step: Step) -> _Kind | None:
    """Returns how a step is an activation; None if it is not."""
    name = getattr(getattr(step.layer, "activation", None), "__name__", None)
    if type(step.layer).__name__ in _LAYERS:
        return None if name == "linear" else "layer"
    # Where a Dense layer ends the model, only the linear part is a step with its kernel (`flatten`).
    whole = step.call is step.layer
    nonlinear = (name or "linear") not in ("linear", "softmax")
    weighted = hasattr(step.layer, "kernel") and not hasattr(step.layer, "cell")
    return "weighted" if whole and nonlinear and weighted else None


_OF_OUTPUT: dict[Any, Callable[[Array], Array]] = {
    keras.activations.relu: lambda output: output > 0,
    keras.activations.sigmoid: lambda output: output * (1 - output),
    keras.activations.tanh: lambda output: 1 - output**2,
}
"""Activation -> its derivative as a function of its output, which takes no gradient and no second pass."""


def _of_output(layer: KerasLayer) -> Callable[[Array], Array] | None:
    if isinstance(layer, keras.layers.ReLU) and any((layer.max_value, layer.negative_slope, layer.threshold)):
        return None
    function = getattr(layer, "activation", None)
    return _OF_OUTPUT.get(function or getattr(keras.activations, type(layer).__name__.lower(), None))


def _derivative(step: Step, kind: _Kind, values: dict[Slot, Tensor], output: Array) -> Array:
    """Returns the derivative of an activation at its input."""
    if (slope_of := _of_output(step.layer)) is not None:
        return np.asarray(slope_of(output), "float32")
    value = values[step.inputs[0]]
    if kind == "weighted":
        with _without_activation(step.layer):
            value = step.layer(value)
        function = step.layer.activation
    else:
        function = step.call
    _, (slope,) = gradient(lambda tensors: ops.sum(ops.cast(function(tensors[0]), "float32")), [value])
    return np.asarray(ops.convert_to_numpy(ops.cast(slope, "float32")))


@contextmanager
def _without_activation(layer: KerasLayer) -> Iterator[None]:
    """Returns a context in which a layer leaves out its activation."""
    activation = layer.activation
    layer.activation = None
    try:
        yield
    finally:
        layer.activation = activation


def _units(step: Step, output: Array, slope: Array, duplicates: bool) -> Units:
    axis = channel_axis(step)
    rows = np.moveaxis(output, axis, 0)
    rows = rows.reshape(len(rows), -1)
    shut = ~np.moveaxis(slope, axis, 0).reshape(len(rows), -1).any(axis=1)
    zero = ~rows.any(axis=1)
    steepest = _SLOPES.get(activation_name(step))
    return Units(
        layer=step.name,
        count=len(rows),
        dead=int((shut & zero).sum()),
        saturated=int((shut & ~zero).sum()),
        duplicated=_duplicates(rows[~shut]) if duplicates else 0,
        activation=activation_name(step),
        flat=float((np.abs(slope) < FLAT * steepest).mean()) if steepest and slope.size else 0.0,
    )


def channel_axis(step: Step) -> int:
    """Returns the axis of channels of a step's inputs and outputs."""
    # An activation has no data format: Keras' default holds.
    layout = getattr(step.layer, "data_format", None) or keras.config.image_data_format()
    return 1 if layout == "channels_first" and len(step.layer.output.shape) == 4 else -1


def _duplicates(rows: Array) -> int:
    """Returns how many rows equal an earlier one up to rounding: neighbors by a random projection are compared."""
    if len(rows) < 2 or rows.shape[1] < 2:
        return 0
    scale = np.abs(rows).max() or 1.0
    key = rows.astype("float64") @ np.random.default_rng(0).normal(size=rows.shape[1])
    ordered = rows[np.argsort(key)]
    return int((np.abs(np.diff(ordered, axis=0)).max(axis=1) <= 1e-6 * scale).sum())
