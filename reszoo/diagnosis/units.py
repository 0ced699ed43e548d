"""The units that leave a model's activations: how many are dead, saturated, or copies of another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from reszoo.diagnosis.autodiff import gradient
from reszoo.diagnosis.graph import Graph, Slot, Step


@dataclass(frozen=True, slots=True)
class Units:
    """The units (channels or features) that leave one activation."""

    layer: str
    count: int
    dead: int
    """Zero for every example and place, and no gradient passes."""
    saturated: int
    """No gradient passes, at another value than zero."""
    duplicated: int
    """The same as an earlier unit of the layer for every example; dead ones are not counted again."""


def units_of(graph: Graph, x: Any, weights: Iterable[tuple[Any, Any]]) -> Iterator[Units]:
    """Yields the units of every activation but the one at the end of the model, which is part of the loss.

    Args:
        graph: of the model.
        x: a batch of inputs.
        weights: variables and the values they have in this run.
    """
    found: dict[str, Units] = {}
    change = {}
    for step in graph.needed([graph.logits], graph.inputs):
        if (nonlinear := _activation(step)) is None:
            continue

        def look(value: Any, values: dict[Slot, Any], step: Step = step, nonlinear: Any = nonlinear) -> Any:
            found[step.name] = _counted(step, value, _slope(step, nonlinear, values))
            return value

        change[step.makes[0]] = look
    graph.run(x, wanted=[graph.logits], change=change, statistics="batch", weights=weights)
    yield from found.values()


def _activation(step: Step) -> str | None:
    """How a step is an activation: as a layer of its own, or as the end of a weighted layer."""
    kind = type(step.layer).__name__
    if kind in ("Activation", "ReLU", "LeakyReLU", "ELU", "PReLU", "Relu", "Sigmoid", "Tanh", "Elu", "Gelu", "Silu"):
        return None if getattr(getattr(step.layer, "activation", None), "__name__", "") == "linear" else "layer"
    word = getattr(getattr(step.layer, "activation", None), "__name__", "linear")
    # Of a Dense layer that ends the model only the linear part is a step with its kernel (`flatten`).
    whole = step.call is step.layer
    plain = word not in ("linear", "softmax") and hasattr(step.layer, "kernel") and not hasattr(step.layer, "cell")
    return "weighted" if whole and plain else None


def _slope(step: Step, nonlinear: str, values: dict[Slot, Any]) -> Any:
    """The derivative of an activation at its input."""
    read = values[step.reads[0]]
    if nonlinear == "weighted":
        with _linear(step.layer):
            read = step.layer(read)
        function = step.layer.activation
    else:
        function = step.call
    _, (slope,) = gradient(lambda at: ops.sum(ops.cast(function(at[0]), "float32")), [read])
    return ops.convert_to_numpy(ops.cast(slope, "float32"))


@contextmanager
def _linear(layer: Any) -> Iterator[None]:
    """A context in which a layer leaves out its activation."""
    activation = layer.activation
    layer.activation = None
    try:
        yield
    finally:
        layer.activation = activation


def _counted(step: Step, value: Any, slope: Any) -> Units:
    axis = channel_axis(step)
    rows = np.moveaxis(ops.convert_to_numpy(ops.cast(value, "float32")), axis, 0)
    rows = rows.reshape(len(rows), -1)
    shut = ~np.moveaxis(slope, axis, 0).reshape(len(rows), -1).any(axis=1)
    zero = ~rows.any(axis=1)
    return Units(
        layer=step.name,
        count=len(rows),
        dead=int((shut & zero).sum()),
        saturated=int((shut & ~zero).sum()),
        duplicated=_duplicates(rows[~shut]),
    )


def channel_axis(step: Step) -> int:
    """Returns the axis of channels in what a step reads and makes; an activation has no data format of its own."""
    first = getattr(step.layer, "data_format", None) or keras.config.image_data_format()
    return 1 if first == "channels_first" and len(step.layer.output.shape) == 4 else -1


def _duplicates(rows: Any) -> int:
    """How many rows equal an earlier one but for rounding: neighbours by a random projection are compared."""
    if len(rows) < 2 or rows.shape[1] < 2:
        return 0
    scale = np.abs(rows).max() or 1.0
    key = rows.astype("float64") @ np.random.default_rng(0).normal(size=rows.shape[1])
    ordered = rows[np.argsort(key)]
    return int((np.abs(np.diff(ordered, axis=0)).max(axis=1) <= 1e-6 * scale).sum())
