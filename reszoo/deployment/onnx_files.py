"""ONNX files, written by tf2onnx and run by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reszoo.arch.recover import layers_of
from reszoo.deployment.formats import Inputs, Order, Program
from reszoo.deployment.signature import calibration_batches, input_signature
from reszoo.types import Array, KerasModel

OPSET, ANTIALIASED = 17, 18
"""The first ones with every operation of the zoo, and with antialiased resizing; older runtimes read them, too."""
CHUNK = 8
"""Examples per calibration step."""
_MULTIPLY = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def export(model: KerasModel, path: Path, order: Order) -> tuple[str, ...]:
    """Writes the file; class names and the description are in its metadata."""
    import onnx

    with _without_inner_functions(model):
        signature = input_signature(model, order.batch)
        opset = ANTIALIASED if any(getattr(layer, "antialias", False) for layer in layers_of(model)) else OPSET
        model.export(str(path), format="onnx", verbose=False, opset_version=opset, input_signature=signature)
        graph = onnx.load(path)
        _store_constants(graph, model, signature)
    _replace_operations(graph)
    _name_batch(graph)
    notes: tuple[str, ...] = ()
    if order.quantize == "float16":
        _store_as_float16(graph)
    if order.quantize == "int8" and order.calibration is not None:
        onnx.save(graph, path)
        notes = _quantize(path, order.calibration)
        graph = onnx.load(path)
    entries = {"reszoo": order.description} | ({"labels": order.labels} if order.labels else {})
    onnx.helper.set_model_props(graph, entries)
    onnx.checker.check_model(graph)
    onnx.save(graph, path)
    return notes


def open_program(path: Path, *, threads: int | None = None) -> Program:
    """Returns the file opened by ONNX Runtime on the CPU.

    Args:
        path: the file.
        threads: their number; by default one for each core.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads or 0
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    inputs, outputs = ([tensor.name for tensor in each] for each in (session.get_inputs(), session.get_outputs()))

    def program(x: Inputs) -> dict[str, Array]:
        return dict(zip(outputs, session.run(outputs, x if isinstance(x, dict) else {inputs[0]: x}), strict=True))

    return program


@contextmanager
def _without_inner_functions(model: KerasModel) -> Iterator[None]:
    """Traces grouped convolutions eagerly: Keras compiles them as inner functions, which tf2onnx leaves as they are."""
    import tensorflow as tf

    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(any(getattr(layer, "groups", 1) != 1 for layer in layers_of(model)))
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


def _store_constants(graph: Any, model: KerasModel, signature: Any) -> None:
    """Stores constants of layers, such as the mean of a Normalization, in the graph: tf2onnx makes them inputs."""
    import keras
    import tensorflow as tf
    from onnx import numpy_helper

    constants = graph.graph.input[len(model.inputs) :]
    if not constants:
        return
    specs = keras.tree.map_structure(lambda spec: tf.TensorSpec(spec.shape, spec.dtype), signature)
    traced = tf.function(lambda x: model(x, training=False)).get_concrete_function(*specs)
    captures = zip(traced.graph.internal_captures, traced.graph.external_captures, strict=True)
    values = {inner.name: outer for inner, outer in captures if outer.dtype != tf.resource}
    for tensor in constants:
        if tensor.name in values:
            graph.graph.initializer.append(numpy_helper.from_array(values[tensor.name].numpy(), tensor.name))
            graph.graph.input.remove(tensor)


def _replace_operations(graph: Any) -> None:
    """Replaces operations of TensorFlow that tf2onnx leaves as they are by those of ONNX."""
    nodes = [new for node in graph.graph.node for new in _REPLACEMENTS.get(node.op_type, lambda node: [node])(node)]
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)


def _erfc(node: Any) -> list[Any]:
    """GELU: erfc(x) is 1 - erf(x)."""
    from onnx import TensorProto, helper

    (target,) = node.output
    one = helper.make_tensor(f"{target}_one", TensorProto.FLOAT, (), [1.0])
    return [
        helper.make_node("Constant", [], [one.name], f"{node.name}_one", value=one),
        helper.make_node("Erf", [*node.input], [f"{target}_erf"], f"{node.name}_erf"),
        helper.make_node("Sub", [one.name, f"{target}_erf"], [target], f"{node.name}_sub"),
    ]


def _antialiased_resize(node: Any) -> list[Any]:
    """Resizing with `antialias=True`; its third and fourth inputs follow from the sizes."""
    from onnx import TensorProto, helper

    source, size = node.input[:2]
    kernel = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}["kernel_type"]
    settings: dict[str, Any] = {"antialias": 1, "axes": [1, 2], "exclude_outside": 1}
    settings |= {"mode": "cubic", "cubic_coeff_a": -0.5} if kernel == b"keyscubic" else {"mode": "linear"}
    settings["coordinate_transformation_mode"] = "half_pixel"
    sizes = f"{node.output[0]}_sizes"
    return [
        helper.make_node("Cast", [size], [sizes], f"{node.name}_sizes", to=TensorProto.INT64),
        helper.make_node("Resize", [source, "", "", sizes], [*node.output], node.name, **settings),
    ]


_REPLACEMENTS: dict[str, Callable[[Any], list[Any]]] = {"Erfc": _erfc, "ScaleAndTranslate": _antialiased_resize}


def _name_batch(graph: Any) -> None:
    """Calls the free batch axis `batch`; tf2onnx numbers it."""
    for tensor in (*graph.graph.input, *graph.graph.output):
        first = tensor.type.tensor_type.shape.dim[0]
        if not first.dim_value:
            first.dim_param = "batch"


def _store_as_float16(graph: Any) -> None:
    """Stores kernels as float16 and casts them at loading: the file is half as large, the arithmetic is float32."""
    import onnx
    from onnx import numpy_helper

    casts = []
    for tensor in list(graph.graph.initializer):
        if tensor.data_type != onnx.TensorProto.FLOAT or len(tensor.dims) < 2:
            continue
        values, name = numpy_helper.to_array(tensor), tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype("float16"), f"{name}_float16"))
        casts.append(onnx.helper.make_node("Cast", [tensor.name], [name], f"{name}_cast", to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.graph.node]
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)


def _quantize(path: Path, calibration: Array) -> tuple[str, ...]:
    """Replaces the file by one with 8-bit weights per channel and 8-bit unsigned activations.

    x86 processors multiply unsigned by signed bytes: with signed activations ONNX Runtime is as slow as in float.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    optimized = path.with_suffix(".optimized.onnx")
    quant_pre_process(path, optimized, skip_symbolic_shape=True)
    graph = onnx.load(optimized).graph
    excluded = _float_nodes(graph)
    batch = graph.input[0].type.tensor_type.shape.dim[0].dim_value or CHUNK
    quantize_static(
        optimized,
        path,
        _reader(graph.input[0].name, calibration, batch),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
        nodes_to_exclude=[node.name for node in excluded],
    )
    optimized.unlink()
    kinds = ", ".join(sorted({node.op_type for node in excluded}))
    return (f"in float: {kinds} of the preprocessing and the probabilities",) if excluded else ()


def _reader(name: str, calibration: Array, batch: int) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.feeds = ({name: x} for x in calibration_batches(calibration, batch))

        def get_next(self) -> Any:
            return next(self.feeds, None)

    return Reader()


def _float_nodes(graph: Any) -> list[Any]:
    """Nodes before the first multiplication by weights, which are the preprocessing, and activations of the outputs."""
    first = next((index for index, node in enumerate(graph.node) if node.op_type in _MULTIPLY), 0)
    outputs = {tensor.name for tensor in graph.output}
    heads = [node for node in graph.node if node.op_type in ("Softmax", "Sigmoid") and {*node.output} & outputs]
    return [*graph.node[:first], *heads]
