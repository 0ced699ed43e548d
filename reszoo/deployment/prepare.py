"""The model that is exported: in float32, with preprocessing in front and named outputs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras
import numpy as np

from reszoo.arch.recover import layers_of
from reszoo.deployment.network import Network
from reszoo.deployment.signature import pack_inputs, random_inputs
from reszoo.errors import ReszooError
from reszoo.types import KerasLayer, KerasModel, Tensor


class Prepared(NamedTuple):
    """The network in float32, and the model that is exported."""

    network: Network
    exported: KerasModel
    activations: dict[str, str]
    """Name of an output -> `softmax`, `sigmoid` or `linear`."""
    notes: tuple[str, ...]


def prepare(network: Network, *, inside: bool, size: int | None, quantize: str | None) -> Prepared:
    """Returns the model to export. The network itself is unchanged.

    Args:
        network: the network.
        inside: whether preprocessing belongs into the file, where it is known.
        size: side of the images in pixels, for networks of variable size.
        quantize: number type of the weights in the file.

    Raises:
        ReszooError: a model that cannot be exported.
    """
    model, notes = network.model, network.notes
    if not getattr(model, "inputs", None):
        got = "a model without a fixed graph"
        raise ReszooError(f"deploy: {model.name}", got=got, expected="a functional or built Sequential model")
    _refuse_channels_first(model)
    half = any({layer.compute_dtype, layer.variable_dtype} & {"float16", "bfloat16"} for layer in layers_of(model))
    if half or any(_ODD.search(layer.name) for layer in (model, *_parts(model))):
        model = _copy(model, {"dtype": "float32"} if half else {})
    notes = (*notes, *(["the network is in mixed or half precision; the file and the check are in float32"] * half))
    _check_weights(model, quantize)
    network = network._replace(model=model)
    inside = inside and network.scaling is not None
    if len(model.inputs) == 1:
        shape = _input_shape(model, size)
        x = inputs = keras.Input(
            shape, dtype=_input_type(network, inside), name="images" if len(shape) == 3 else "rows"
        )
        if inside:
            x = _preprocessing(network, x)
    elif inside or size is not None:
        got, expected = f"{len(model.inputs)} inputs", "one, for preprocessing in the file or a size"
        raise ReszooError(f"deploy: {model.name}", got=got, expected=expected)
    else:
        x = inputs = {each.name: keras.Input(each.shape[1:], dtype=each.dtype, name=each.name) for each in model.inputs}
    single = _name_of_single(model.outputs[0])
    outputs = _by_name(model(pack_inputs(model, x), training=False), single)
    exported = keras.Model(inputs, outputs, name=f"{model.name}_deployed")
    # Some exporters refuse a model that was never called.
    exported(pack_inputs(exported, random_inputs(exported, 1)), training=False)
    activations = {
        name: _activation(output)
        for name, output in _by_name(getattr(model, "output", model.outputs[0]), single).items()
    }
    return Prepared(network, exported, activations, notes)


def _refuse_channels_first(model: KerasModel) -> None:
    for layer in layers_of(model):
        if "Conv" in type(layer).__name__ and getattr(layer, "data_format", "") == "channels_first":
            hint = "build it with keras.config.set_image_data_format('channels_last'): the weights are the same"
            raise ReszooError(
                f"deploy: {model.name}.{layer.name}", got="channels_first", expected="channels_last", hint=hint
            )


def _parts(model: KerasModel) -> Iterator[KerasLayer]:
    """The layers of a model and, beside each sub-model, its own."""
    for layer in model.layers:
        yield layer
        if hasattr(layer, "layers"):
            yield from _parts(layer)


_ODD = re.compile(r"[^A-Za-z0-9_.-]")
"""TensorFlow refuses other characters in the names of layers."""


def _copy(model: KerasModel, changes: dict[str, str]) -> KerasModel:
    """A copy with other settings of its layers, and with names that converters take.

    Converters write invalid files from mixed precision, and report success.
    """

    taken: set[str] = set()

    def clean(name: str) -> str:
        name = _ODD.sub("_", name)
        while name in taken:
            name += "_"
        taken.add(name)
        return name

    def copy(layer: KerasLayer) -> KerasLayer:
        return type(layer).from_config(layer.get_config() | changes | {"name": clean(layer.name)})

    single = keras.models.clone_model(model, clone_function=copy, recursive=True)
    for part in (single, *_parts(single), *single.inputs):
        # Those of sub-models, and of tensors.
        part.name = _ODD.sub("_", part.name)
    single.set_weights([keras.ops.convert_to_numpy(keras.ops.cast(weight, "float32")) for weight in model.weights])
    return single


def _check_weights(model: KerasModel, quantize: str | None) -> None:
    for weight in model.weights:
        values = keras.ops.convert_to_numpy(weight)
        if values.dtype.kind != "f":
            continue
        if not np.isfinite(values).all():
            raise ReszooError(f"deploy: {weight.path}", got="NaN or infinity", expected="finite weights")
        if quantize == "float16" and values.size and np.abs(values).max() > np.finfo("float16").max:
            got = f"a weight of {np.abs(values).max():.3g}"
            raise ReszooError(f"deploy: {weight.path}", got=got, expected="up to 65504, the largest float16")


def _input_shape(model: KerasModel, size: int | None) -> tuple[int | None, ...]:
    shape = tuple(model.inputs[0].shape[1:])
    if size is None:
        return shape
    if len(shape) != 3 or any(side not in (None, size) for side in shape[:2]):
        raise ReszooError("deploy.size", got=size, expected=f"None, as the network takes {shape}")
    return (size, size, shape[2])


def _input_type(network: Network, inside: bool) -> str:
    """Pixels are bytes; other examples, and inputs that are scaled outside, are floats."""
    if not inside:
        return str(keras.backend.standardize_dtype(network.model.inputs[0].dtype))
    scaling = network.scaling
    return (
        "uint8"
        if scaling is not None and scaling.scale == 255 and len(network.model.inputs[0].shape) == 4
        else "float32"
    )


def _preprocessing(network: Network, x: Tensor) -> Tensor:
    """Scales and normalizes by layers whose numbers are weights: converters lose constants that a trace captured."""
    scaling = network.scaling
    if scaling is None:
        return x
    channels = x.shape[-1]
    mean, std = (np.resize(np.array(numbers, "float32"), channels) for numbers in (scaling.mean, scaling.std))
    x = keras.layers.Rescaling(1 / scaling.scale, dtype="float32", name="rescale")(x)
    settings: dict[str, Any] = {"epsilon": 0.0, "center": False, "scale": False, "trainable": False}
    normalize = keras.layers.BatchNormalization(axis=-1, dtype="float32", name="normalize", **settings)
    x = normalize(x, training=False)
    normalize.set_weights([mean, std**2])
    if network.reverse:
        # A 1x1 convolution with a reversed identity matrix: no stock layer reverses channels.
        reverse = keras.layers.Conv2D(channels, 1, use_bias=False, dtype="float32", name="rgb_to_bgr")
        x = reverse(x)
        reverse.set_weights([np.eye(channels, dtype="float32")[::-1][None, None]])
    return x


def _activation(output: Tensor) -> str:
    """The activation of an output, also in a sub-model or before a layer of dropout, which does nothing here."""
    history = output._keras_history
    while True:
        last = history.operation
        if getattr(last, "layers", None) and getattr(last, "outputs", None):
            history = last.outputs[history.tensor_index]._keras_history
        elif "Dropout" in type(last).__name__:
            history = last._inbound_nodes[history.node_index].input_tensors[0]._keras_history
        else:
            break
    if type(last).__name__ in ("Softmax", "Sigmoid"):
        return type(last).__name__.lower()
    name = getattr(getattr(last, "activation", None), "__name__", "linear")
    return name if name in ("softmax", "sigmoid") else "linear"


def _name_of_single(output: Tensor) -> str:
    """The name of the output of a model that has one."""
    if _activation(output) != "linear":
        return "probabilities"
    return "logits" if len(output.shape) == 2 else "features"


def _by_name(outputs: Any, single: str) -> dict[str, Any]:
    if isinstance(outputs, dict):
        return outputs
    if isinstance(outputs, (list, tuple)):
        return {f"output{index}": output for index, output in enumerate(outputs)}
    return {single: outputs}
