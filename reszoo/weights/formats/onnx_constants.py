"""Nodes of an ONNX model that compute with constants alone, as exporters write the sizes of a padding."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from reszoo.weights.formats.checkpoint import Tensor
from reszoo.weights.formats.onnx_builder import Node

SMALL = 64
"""Most elements of an array that is computed."""


def computed(node: Node, arrays: Mapping[str, Tensor]) -> Tensor | None:
    """Returns the output of a node whose inputs are small arrays; None for any other node."""
    inputs = [arrays.get(name) if name else None for name in node.inputs]
    known = [each for each in inputs if each is not None and each.size <= SMALL]
    if node.operation not in _FUNCTIONS or not known or len(known) < sum(map(bool, node.inputs)):
        return None
    values = [None if each is None else each.read() for each in inputs]
    result = _FUNCTIONS[node.operation](node.attributes, *values)
    return Tensor(result.shape, result.dtype.name, lambda: result)


def _filled(attributes: Mapping[str, Any], shape: Any) -> Any:
    import numpy as np

    value = attributes.get("value")
    if any(axis < 0 for axis in shape.tolist()) or math.prod(shape.tolist()) > SMALL:
        raise ValueError(f"an array of shape {shape.tolist()[:8]}")
    return np.full(shape.tolist(), value.read().reshape(-1)[0] if value else np.float32(0))


def _joined(attributes: Mapping[str, Any], *arrays: Any) -> Any:
    import numpy as np

    return np.concatenate(arrays, axis=attributes["axis"])


def _unsqueezed(attributes: Mapping[str, Any], array: Any, axes: Any = None) -> Any:
    import numpy as np

    return np.expand_dims(array, tuple(attributes["axes"] if axes is None else axes.tolist()))


def _part(
    attributes: Mapping[str, Any], array: Any, starts: Any, ends: Any, axes: Any = None, steps: Any = None
) -> Any:
    places = [slice(None)] * array.ndim
    for number, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        step = 1 if steps is None else int(steps[number])
        places[number if axes is None else int(axes[number])] = slice(start, end, step)
    return array[tuple(places)]


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "ConstantOfShape": _filled,
    "Concat": _joined,
    "Slice": _part,
    "Unsqueeze": _unsqueezed,
    "Reshape": lambda attributes, array, shape: array.reshape(shape.tolist()),
    "Transpose": lambda attributes, array: array.transpose(attributes.get("perm")),
    "Cast": lambda attributes, array: array.astype({1: "float32", 6: "int32", 7: "int64"}[attributes["to"]]),
}
"""Operation -> its output for attributes and arrays."""
