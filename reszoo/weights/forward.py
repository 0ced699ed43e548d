"""The outputs of a network for examples and arrays of weights, without building a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reszoo.arch.ops import Op
from reszoo.arch.plan import plan
from reszoo.arch.spec import NetSpec
from reszoo.errors import ReszooError
from reszoo.types import Array, Tensor

Known = dict[str, tuple[Op, Any]]
"""Name of an operation -> the operation and its output, in a network that was computed before on the same examples."""


def forward(spec: NetSpec, weights: Mapping[str, Tensor], x: Array, /, *, known: Known | None = None) -> Array:
    """Returns the outputs of a network in inference: logits, probabilities where its classifier has an activation.

    Args:
        spec: the network.
        weights: `layer/variable` -> array, in Keras layout.
        x: examples, channels last.
        known: outputs for the same weights and examples, which equal operations at the beginning of the network
            reuse; an empty one is filled.
    """
    from keras import ops

    values: dict[str, Any] = {"input": ops.convert_to_tensor(x.astype("float32"))}
    reused, is_first = {"input"}, known is not None and not known
    for op in plan(spec).ops:
        inputs = [values[name] for name in op.inputs]
        if known and not is_first and reused.issuperset(op.inputs) and known.get(op.name, (None,))[0] == op:
            values[op.name] = known[op.name][1]
            reused.add(op.name)
            continue
        own = {variable: weights[f"{op.name}/{variable}"] for variable in (*op.weights, *op.statistics)}
        values[op.name] = _apply(op, inputs, own)
        if known is not None and is_first:
            known[op.name] = op, values[op.name]
    return ops.convert_to_numpy(values[plan(spec).ops[-1].name])


def _apply(op: Op, inputs: list[Any], own: Mapping[str, Array]) -> Any:
    from keras import ops

    x = inputs[0]
    if op.kind == "conv":
        return _conv(op, x, own)
    if op.kind == "channel_conv":
        features = ops.reshape(x, (-1, op.width, 1))
        return ops.reshape(ops.conv(features, own["kernel"], padding="same"), ops.shape(x))
    if op.kind == "dense":
        y = ops.matmul(x, own["kernel"]) + own.get("bias", 0.0)
        return _activation(op.variant, 0.0, y) if op.variant else y
    if op.kind == "norm":
        return _norm(op, x, own)
    if op.kind == "act":
        return _activation(op.variant, op.slope, x)
    if op.kind == "pool":
        return _pool(op, x)
    if op.kind == "global_pool":
        reduce = ops.mean if op.variant == "avg" else ops.max
        return reduce(x, axis=(1, 2), keepdims=len(op.shape) == 3)
    if op.kind == "pad":
        extra = (op.zeros_before, op.width - op.width_in - op.zeros_before)
        return ops.pad(x, ((0, 0), (0, 0), (0, 0), extra))
    if op.kind == "scale":
        return inputs[0] * inputs[1]
    # Dropout of any kind changes nothing in inference.
    return inputs[0] + inputs[1] if op.kind == "add" else x


def _conv(op: Op, x: Any, own: Mapping[str, Array]) -> Any:
    from keras import ops

    if op.padded:
        side = (op.kernel - 1) // 2
        x = ops.pad(x, ((0, 0), (side, side), (side, side), (0, 0)))
    window = {"strides": op.stride, "padding": "valid" if op.padded else "same", "dilation_rate": op.dilation}
    return ops.conv(x, own["kernel"], data_format="channels_last", **window) + own.get("bias", 0.0)


def _norm(op: Op, x: Any, own: Mapping[str, Array]) -> Any:
    from keras import ops

    if op.variant == "batch":
        scale = own["gamma"] / (own["moving_variance"] + op.epsilon) ** 0.5
        return x * scale + (own["beta"] - own["moving_mean"] * scale)
    shape = ops.shape(x)
    grouped = ops.reshape(x, (shape[0], -1, op.groups, op.width // op.groups))
    mean = ops.mean(grouped, axis=(1, 3), keepdims=True)
    variance = ops.mean(ops.square(grouped - mean), axis=(1, 3), keepdims=True)
    return ops.reshape((grouped - mean) / ops.sqrt(variance + op.epsilon), shape) * own["gamma"] + own["beta"]


def _activation(kind: str, slope: float, x: Any) -> Any:
    from keras import ops

    if kind == "leaky_relu":
        return ops.where(x < 0, slope * x, x)
    if kind == "gelu":
        return ops.gelu(x, approximate=False)
    functions = {"relu": ops.relu, "silu": ops.silu, "softmax": ops.softmax, "sigmoid": ops.sigmoid}
    return functions[kind](x) if kind != "linear" else x


def _pool(op: Op, x: Any) -> Any:
    from keras import ops

    if op.variant == "avg":
        return ops.average_pool(x, op.kernel, op.stride, padding="same", data_format="channels_last")
    if op.padding == "same":
        return ops.max_pool(x, op.kernel, op.stride, padding="same", data_format="channels_last")
    whole = ops.max_pool(x, op.kernel, 1, padding="same", data_format="channels_last")
    return whole[:, :: op.stride, :: op.stride]


UNCHANGED = "unchanged"


def transformed(x: Array) -> dict[str, Array]:
    """Returns the inputs with other orders of channels and other scaling, by name."""
    import numpy as np

    result = {UNCHANGED: x}
    if x.ndim != 4:
        return result
    mean, std = np.array([0.485, 0.456, 0.406], "float32"), np.array([0.229, 0.224, 0.225], "float32")
    scaled = {"": x, "values divided by 255": x / 255.0}
    if x.shape[-1] == 3:
        result["channels reversed"] = x[..., ::-1]
        scaled["the mean and deviation of ImageNet"] = (x - mean) / std
        scaled["values divided by 255, the mean and deviation of ImageNet"] = (x / 255.0 - mean) / std
    scaled["values from -1 to 1 in place of 0 to 1"] = 2.0 * x - 1.0
    scaled["values from -1 to 1 in place of 0 to 255"] = x / 127.5 - 1.0
    return result | {name: np.ascontiguousarray(value) for name, value in scaled.items() if name}


def check_shapes(spec: NetSpec, x: Array, y: Array, where: str) -> None:
    """Checks that inputs and outputs have shapes that a network can have.

    Raises:
        ReszooError: they have not.
    """
    shape = spec.input_shape
    fits = x.ndim == len(shape) + 1 and all(one in (None, two) for one, two in zip(shape, x.shape[1:], strict=True))
    if not fits or len(x) == 0:
        expected = f"(examples, {', '.join('any' if side is None else str(side) for side in shape)}), channels last"
        raise ReszooError(f"{where}: inputs", got=f"shape {x.shape}", expected=expected)
    if len(y) != len(x) or (spec.head.classes and y.shape != (len(x), spec.head.classes)):
        expected = f"({len(x)}, {spec.head.classes or '...'}), one row for each example"
        raise ReszooError(f"{where}: outputs", got=f"shape {y.shape}", expected=expected)
