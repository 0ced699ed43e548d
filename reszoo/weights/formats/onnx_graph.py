"""What the nodes of an ONNX model compute, as the configuration of a Keras model and weights in Keras layout.

Sources: the operators of ONNX, https://onnx.ai/onnx/operators/ (defaults of attributes).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from reszoo.weights.formats.checkpoint import Tensor
from reszoo.weights.formats.onnx_builder import Builder, Graph, Node, UnreadableGraphError
from reszoo.weights.formats.onnx_constants import computed, pad, subsampling, zeros_beside
from reszoo.weights.formats.onnx_gates import expanded, one_size, sizes, unsqueezed


def keras_model(graph: Graph) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Returns the configuration of a functional Keras model and its weights, such as `conv1/kernel`.

    Layouts are left out: every map is channels last, whether the model transposes its input or not.

    Raises:
        UnreadableGraphError: no network of the zoo has one of the nodes.
    """
    inputs = [(name, shape) for name, shape in graph.inputs if name not in graph.arrays]
    if len(inputs) != 1 or len(graph.outputs) != 1:
        raise UnreadableGraphError(f"{len(inputs)} inputs and {len(graph.outputs)} outputs")
    builder = Builder(graph)
    builder.input(*inputs[0])
    for node in graph.nodes:
        _add_node(builder, node)
    builder.unfold_norms()
    last = builder.layer_of(graph.outputs[0][0])
    inner = {"layers": builder.layers, "input_layers": [["input", 0, 0]], "output_layers": [[last, 0, 0]]}
    return {"class_name": "Functional", "config": inner}, builder.tensors


def _add_node(builder: Builder, node: Node) -> None:
    if not node.outputs:
        raise UnreadableGraphError(f"the node {node.operation} {node.name!r} without an output")
    if node.operation == "Constant":
        value = node.attributes.get("value")
        if isinstance(value, Tensor):
            builder.arrays[node.outputs[0]] = value
        return
    if node.operation == "Identity" and node.inputs[0] in builder.arrays:
        builder.arrays[node.outputs[0]] = builder.arrays[node.inputs[0]]
        return
    try:
        if (array := computed(node, builder.arrays)) is not None:
            builder.arrays[node.outputs[0]] = array
            return
        if node.operation not in _OPERATIONS:
            raise UnreadableGraphError(f"the operation {node.operation} ({node.name or node.outputs[0]})")
        _OPERATIONS[node.operation](builder, node)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise UnreadableGraphError(f"an invalid node {node.operation} {node.name!r} ({error})") from None


def _stem(array: str) -> str:
    """Returns the path of the module that a weight belongs to, if its name tells."""
    path, _, variable = array.rpartition(".")
    return path if variable in ("weight", "bias") else ""


def _padding(builder: Builder, node: Node, kernel: int, stride: int, dilation: int) -> tuple[str, tuple[str, ...]]:
    """Returns Keras' word for the padding of a window; equal padding becomes a layer of its own."""
    automatic = node.attributes.get("auto_pad") or "NOTSET"
    pads = [int(each) for each in node.attributes.get("pads") or [0, 0, 0, 0]]
    if automatic == "SAME_UPPER":
        return "same", ()
    if automatic not in ("NOTSET", "VALID") or len(pads) != 4 or pads[:2] != pads[1::-1] or pads[2:] != pads[:1:-1]:
        raise UnreadableGraphError(f"padding {automatic if automatic != 'NOTSET' else pads} of {node.operation}")
    before, after = pads[0], pads[2]
    if before == after:
        if not before:
            return "valid", ()
        padded = node._replace(outputs=(f"{node.outputs[0]} padded",))
        return "valid", (builder.layer("ZeroPadding2D", padded, f"{node.outputs[0]}_pad", padding=before),)
    # A stride of two over an even side: "same" pads one pixel less before than after; over an odd one it pads both.
    whole = (kernel - 1) * dilation + 1 - stride
    if (before, after) != (whole // 2, whole - whole // 2) or not builder.is_whole(node.inputs[0], stride):
        raise UnreadableGraphError(f"padding {pads} of {node.operation}")
    return "same", ()


def _square(values: Any, default: int = 1) -> int:
    sides = {*(values or [default])}
    if len(sides) != 1:
        raise UnreadableGraphError(f"a window of {'x'.join(map(str, values))}")
    return int(sides.pop())


def _conv(builder: Builder, node: Node) -> None:
    width, _, *sides = builder.shape(node.inputs[1])
    if len(sides) != 2:
        raise UnreadableGraphError(f"{len(sides)}-D convolutions")
    kernel, stride = _square(sides), _square(node.attributes.get("strides"))
    dilation = _square(node.attributes.get("dilations"))
    padding, sources = _padding(builder, node, kernel, stride, dilation)
    config = {
        "filters": width,
        "kernel_size": [kernel] * 2,
        "strides": [stride] * 2,
        "padding": padding,
        "dilation_rate": [dilation] * 2,
    }
    config |= {"groups": int(node.attributes.get("group") or 1), "use_bias": len(node.inputs) > 2}
    layer = builder.layer("Conv2D", node, _stem(node.inputs[1]), sources, **config)
    builder.weight(layer, "kernel", node.inputs[1], (2, 3, 1, 0))
    if len(node.inputs) > 2:
        builder.weight(layer, "bias", node.inputs[2])


def _norm(builder: Builder, node: Node) -> None:
    if node.attributes.get("training_mode"):
        raise UnreadableGraphError("norms in training, whose statistics are those of the batch")
    epsilon, momentum = node.attributes.get("epsilon", 1e-5), node.attributes.get("momentum", 0.9)
    # float32 1e-5 is 9.99999974e-06: the number that was meant has few digits.
    numbers = {"epsilon": float(f"{epsilon:.6g}"), "momentum": float(f"{momentum:.6g}")}
    layer = builder.layer("BatchNormalization", node, _stem(node.inputs[1]), (), **numbers)
    for variable, array in zip(("gamma", "beta", "moving_mean", "moving_variance"), node.inputs[1:5], strict=True):
        builder.weight(layer, variable, array)


def _pool(builder: Builder, node: Node, kind: str) -> None:
    kernel, stride = _square(node.attributes["kernel_shape"]), _square(node.attributes.get("strides"))
    pads, counts = any(node.attributes.get("pads") or ()), node.attributes.get("count_include_pad")
    ceils = node.attributes.get("ceil_mode")
    # Where no window reaches over the border, and where it is cut there, "same" is the same.
    is_plain = kind == "AveragePooling2D" and (kernel, stride, pads) == (2, 2, False)
    if is_plain and (builder.is_whole(node.inputs[0], 2) or (ceils and not counts)):
        builder.layer(kind, node, pool_size=[2, 2], strides=[2, 2], padding="same")
        return
    if _square(node.attributes.get("dilations")) > 1 or ceils:
        raise UnreadableGraphError(f"{node.operation} with dilation or ceil_mode")
    if kind == "MaxPooling2D" and node.attributes.get("pads") == [(kernel - 1) // 2] * 4:
        # Padding of ONNX is never the largest; Keras' is so in a pool of stride one.
        whole = node._replace(outputs=(f"{node.outputs[0]} whole",))
        source = builder.layer(
            kind, whole, f"{node.outputs[0]}_window", pool_size=[kernel] * 2, strides=[1, 1], padding="same"
        )
        builder.layer(kind, node, "", (source,), pool_size=[1, 1], strides=[stride] * 2, padding="valid")
        return
    padding, sources = _padding(builder, node, kernel, stride, 1)
    if kind == "AveragePooling2D" and ((sources and not counts) or (padding == "same" and counts)):
        raise UnreadableGraphError(f"an average pool that {'counts' if counts else 'leaves out'} its padding")
    builder.layer(kind, node, "", sources, pool_size=[kernel] * 2, strides=[stride] * 2, padding=padding)


def _dense(builder: Builder, node: Node) -> None:
    settings = node.attributes
    if settings.get("alpha", 1.0) != 1.0 or settings.get("beta", 1.0) != 1.0 or settings.get("transA"):
        raise UnreadableGraphError(f"a {node.operation} with factors")
    turned = bool(settings.get("transB"))
    shape = builder.shape(node.inputs[1])
    if len(shape) != 2:
        raise UnreadableGraphError(f"a {node.operation} of shape {shape}")
    has_bias = len(node.inputs) > 2
    units = shape[0] if turned else shape[1]
    layer = builder.layer("Dense", node, _stem(node.inputs[1]), units=units, use_bias=has_bias)
    builder.weight(layer, "kernel", node.inputs[1], (1, 0) if turned else None)
    if has_bias:
        builder.weight(layer, "bias", node.inputs[2])


def _add(builder: Builder, node: Node) -> None:
    if not builder.bias(node):
        builder.layer("Add", node, "", tuple(builder.layer_of(name) for name in node.inputs))


def _transpose(builder: Builder, node: Node) -> None:
    axes = list(node.attributes.get("perm") or [])
    if node.inputs[0] in builder.arrays:
        array = builder.arrays[node.inputs[0]]
        builder.arrays[node.outputs[0]] = array.permuted(tuple(axes or range(len(array.shape))[::-1]))
    elif axes in ([0, 3, 1, 2], [0, 2, 3, 1]):
        builder.same(node)
        builder.place_channels(node.outputs[0], last=axes == [0, 2, 3, 1])
    else:
        raise UnreadableGraphError(f"a Transpose of {axes}")


def _mean(builder: Builder, node: Node) -> None:
    axes = sorted(axis % 4 for axis in builder.numbers(node, 1, "axes"))
    if axes != sorted({1, 2, 3} - {builder.channel_axis(node.inputs[0])}):
        raise UnreadableGraphError(f"a mean over the axes {axes}")
    builder.layer("GlobalAveragePooling2D", node, keepdims=bool(node.attributes.get("keepdims", 1)))


def _global(builder: Builder, node: Node, kind: str) -> None:
    builder.layer(kind, node, keepdims=True)


def _activation(builder: Builder, node: Node, kind: str) -> None:
    if node.attributes.get("approximate", "none") != "none":
        raise UnreadableGraphError(f"an approximate {node.operation}")
    builder.layer("Activation", node, activation=kind)


def _times(builder: Builder, node: Node) -> None:
    """Adds SiLU, which exporters write as x times its sigmoid, or the product of a map and its gate."""
    gates = [(one, other) for one in node.inputs for other in node.inputs if builder.is_sigmoid_of(other, one)]
    if len(node.inputs) != 2 or any(name in builder.arrays for name in node.inputs):
        raise UnreadableGraphError(f"the operation {node.operation} ({node.name or node.outputs[0]})")
    if gates:
        builder.layer("Activation", node._replace(inputs=(gates[0][0],)), activation="silu")
    else:
        builder.layer("Multiply", node, "", tuple(builder.layer_of(name) for name in node.inputs))


def _leak(builder: Builder, node: Node) -> None:
    slope = float(f"{node.attributes.get('alpha', 0.01):.6g}")
    builder.layer("LeakyReLU", node, negative_slope=slope)


def _flat(builder: Builder, node: Node) -> None:
    if node.operation == "Reshape":
        shape = builder.numbers(node, 1, "shape")
        array = builder.arrays.get(node.inputs[0])
        if array is not None:
            builder.arrays[node.outputs[0]] = array.reshaped(tuple(shape))
            return
        if len(shape) == 4 and shape[2:] == [1, 1] and shape[0] in (-1, 0, 1):
            builder.pixel(node, shape[1])
            return
        if len(shape) != 2 or (-1 not in shape and shape[0] not in (0, 1)):
            raise UnreadableGraphError(f"a Reshape to {shape}")
    if node.operation == "Flatten" and node.attributes.get("axis", 1) != 1:
        raise UnreadableGraphError("a Flatten of another axis than the first")
    builder.layer("Flatten", node)


_OPERATIONS: dict[str, Callable[[Builder, Node], None]] = {
    "Conv": _conv,
    "BatchNormalization": _norm,
    "Gemm": _dense,
    "MatMul": _dense,
    "Add": _add,
    "Pad": pad,
    "Slice": subsampling,
    "Concat": zeros_beside,
    "Transpose": _transpose,
    "MaxPool": partial(_pool, kind="MaxPooling2D"),
    "AveragePool": partial(_pool, kind="AveragePooling2D"),
    "GlobalAveragePool": partial(_global, kind="GlobalAveragePooling2D"),
    "GlobalMaxPool": partial(_global, kind="GlobalMaxPooling2D"),
    "ReduceMean": _mean,
    "Relu": partial(_activation, kind="relu"),
    "Softmax": partial(_activation, kind="softmax"),
    "Sigmoid": partial(_activation, kind="sigmoid"),
    "Mul": _times,
    "Gelu": partial(_activation, kind="gelu"),
    "LeakyRelu": _leak,
    **dict.fromkeys(("Flatten", "Reshape", "Squeeze"), _flat),
    "Unsqueeze": unsqueezed,
    "Expand": expanded,
    "Shape": sizes,
    "Gather": one_size,
    **dict.fromkeys(("Identity", "Dropout", "Cast"), Builder.same),
}
"""Operation -> what adds its layer."""
