"""Nodes of an ONNX model that compute with constants alone, as exporters write the sizes of a padding, or add zeros.

Zeros are added around a map, or as channels, as shortcuts without weights do; such shortcuts also subsample a map.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from reszoo.weights.formats.checkpoint import Tensor
from reszoo.weights.formats.onnx_builder import Builder, Node, UnreadableGraphError

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


def pad(builder: Builder, node: Node) -> None:
    """Adds zeros around a map, or channels of zeros."""
    pads, axes = builder.numbers(node, 1, "pads"), builder.numbers(node, 3, "axes")
    if axes and len(pads) == 2 * len(axes):
        ends = dict(zip([*axes, *(axis + 4 for axis in axes)], pads, strict=True))
        pads = [ends.get(each, 0) for each in range(8)]
    if node.attributes.get("mode", "constant") != "constant" or len(pads) != 8:
        raise UnreadableGraphError(f"a Pad of {pads}")
    if builder.scalar(node, 2, "value"):
        raise UnreadableGraphError(f"a Pad of {pads} with another number than zero")
    channels = builder.channel_axis(node.inputs[0])
    before_after = [pads[channels], pads[channels + 4]]
    sides = {pads[axis + end] for axis in range(1, 4) if axis != channels for end in (0, 4)}
    if pads[0] or pads[4] or len(sides) != 1 or (sides != {0} and any(before_after)):
        raise UnreadableGraphError(f"a Pad of {pads}")
    if any(before_after):
        # Keras pads the last two of three axes.
        builder.layer("ZeroPadding2D", node, padding=[[0, 0], before_after], data_format="channels_first")
    else:
        builder.layer("ZeroPadding2D", node, padding=sides.pop())


def subsampling(builder: Builder, node: Node) -> None:
    """Adds a subsampling of a map, of both sides at once or one after the other."""
    source = node.inputs[0]
    before, axis_before, step_before = builder.slices.get(source, (source, 0, 1))
    starts, ends = builder.numbers(node, 1, "starts"), builder.numbers(node, 2, "ends")
    axes = [axis % 4 for axis in builder.numbers(node, 3, "axes") or range(len(starts))]
    steps = builder.numbers(node, 4, "steps") or [1] * len(starts)
    both = {1, 2, 3} - {builder.channel_axis(before)}
    ends_behind = builder.side(before) or 2**31 - 1
    is_whole = not any(starts) and min(ends, default=0) >= ends_behind and len({*steps}) == 1 and {*axes} <= both
    if not is_whole or steps[0] < 1 or (axis_before and (axes == [axis_before] or steps[0] != step_before)):
        raise UnreadableGraphError(f"a Slice of the axes {axes} from {starts} to {ends} by {steps}")
    if len(axes) == 1 and not axis_before:
        builder.slices[node.outputs[0]] = before, axes[0], steps[0]
        return
    whole = node._replace(inputs=(before,))
    builder.layer("AveragePooling2D", whole, pool_size=[1, 1], strides=[steps[0]] * 2, padding="valid")


def zeros_beside(builder: Builder, node: Node) -> None:
    """Adds channels of zeros; only a constant of zeros can stand beside a map."""
    maps = [place for place, name in enumerate(node.inputs) if name not in builder.arrays]
    axis = int(node.attributes["axis"]) % 4
    zeros = [builder.zeros(name, axis) for name in node.inputs if name in builder.arrays]
    if len(maps) != 1 or axis != builder.channel_axis(node.inputs[maps[0]]) or not all(zeros):
        raise UnreadableGraphError(f"a Concat of {len(node.inputs)} values along axis {axis}")
    before_after = [sum(zeros[: maps[0]]), sum(zeros[maps[0] :])]
    source = node._replace(inputs=(node.inputs[maps[0]],))
    builder.layer("ZeroPadding2D", source, padding=[[0, 0], before_after], data_format="channels_first")
