"""Builds a plan as a Keras model of stock layers. Saved files open in plain Keras on any backend, without reszoo."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

import keras
from keras import layers

from reszoo.arch.layers import activation, batch_normalization, initializer
from reszoo.arch.ops import Op, Segment
from reszoo.arch.plan import plan
from reszoo.arch.recover import prefix_of, spec_of, stock_model
from reszoo.arch.spec import NetSpec
from reszoo.errors import ReszooError
from reszoo.types import KerasModel, Tensor

LayerCall = Callable[[Tensor], Tensor]
"""A layer or a chain of layers, called on a tensor."""

NEST_FROM, NEST_BLOCKS = 800, 16
"""Keras traverses a graph with one Python call per layer and reaches the recursion limit near 1,000 layers. So from 800
operations on, every 16 blocks become a sub-model."""


def build(
    spec: NetSpec, *, input_tensor: Tensor | None = None, prefix: str = "", input_name: str | None = None
) -> KerasModel:
    """Returns the network as a functional Keras model.

    Args:
        spec: the network.
        input_tensor: a Keras tensor to build on, of the input shape of the spec.
        prefix: prefix of all layer names.
        input_name: name of the new input; by default `input`, numbered from the second network of the process on, so
            that several networks fit into one model.

    Raises:
        ReszooError: the initial weights cannot be drawn in the dtype of Keras' dtype policy.
    """
    _check_policy(spec)
    network = plan(spec)
    shape = spec.input_shape if spec.dense or not channels_first() else (spec.input_shape[-1], *spec.input_shape[:-1])
    if input_tensor is None:
        inputs = x = keras.Input(shape, name=input_name or unique_name(f"{prefix}input"))
    else:
        x, sources = input_tensor, keras.utils.get_source_inputs(input_tensor)
        inputs = sources[0] if len(sources) == 1 else sources
    nested = sum(len(segment.ops) for segment in network.segments) >= NEST_FROM
    for chain in _chains(network.segments, nested):
        x = _nest(chain, x, prefix) if nested and chain[0].branch else _apply(chain, x, prefix)
    return keras.Model(inputs, x, name=spec.name)


def names_of(model: KerasModel) -> dict[str, str]:
    """Returns the names that a network was built with, as arguments of `build` for one that takes its place."""
    names = {"prefix": prefix_of(model)}
    return {**names, "input_name": model.inputs[0].name} if len(model.inputs) == 1 else names


def features(model: KerasModel) -> KerasModel:
    """Returns a model with the same layers and weights whose outputs are the feature maps of all stages.

    The outputs are a dict `{"stage1": (batch, height, width, channels), "stage2": ...}`. In a pre-activation network
    the last map is normalized and activated, as the classifier reads it.

    Example:
        >>> import reszoo
        >>> reszoo.features(reszoo.resnet20_cifar(depths=1)).output["stage3"].shape
        (None, 8, 8, 64)

    Args:
        model: a network that reszoo built.

    Raises:
        ReszooError: reszoo did not build the model.
    """
    model = stock_model(model)
    parts = plan(spec_of(model)).parts
    stages = {part: segments[-1] for part, segments in parts.items() if part.startswith("stage")}
    names = {part: last.prefix + last.output.name for part, last in stages.items()}
    # The final norm and activation of a pre-activation network belong to its head.
    names |= {[*names][-1]: op.name for head in parts.get("head", ()) for op in head.ops if op.kind in ("norm", "act")}
    prefix = prefix_of(model)
    outputs = {part: _output(model, prefix + name) for part, name in names.items()}
    return keras.Model(model.input, outputs, name=model.name)


def _output(model: KerasModel, name: str) -> Tensor:
    """The output of a layer, or of the sub-model that ends with it."""
    for layer in model.layers:
        if layer.name == name or (isinstance(layer, keras.Model) and layer.layers[-1].name == name):
            # `output` of a sub-model is its inner tensor; `Operation.output` is the tensor in this graph.
            return keras.Operation.output.fget(layer)
    raise ReszooError(model.name, got=f"no layer {name}", expected="a model built by reszoo")


def channels_first() -> bool:
    """Whether Keras is set to `channels_first`."""
    return bool(keras.config.image_data_format() == "channels_first")


def refuse_channels_first(spec: NetSpec) -> None:
    """Checks that Keras is not set to `channels_first` for a network of images: data sources return channels last.

    Raises:
        ReszooError: Keras is set to `channels_first` and the network reads images.
    """
    if channels_first() and not spec.dense:
        expected = "channels_last, the order of data sources"
        hint = "keras.config.set_image_data_format('channels_last')"
        raise ReszooError(f"{spec.name}: image_data_format", got="channels_first", expected=expected, hint=hint)


def channels_last(shape: Sequence[int | None]) -> tuple[int | None, ...]:
    """Returns `(channels, height, width)` as `(height, width, channels)`."""
    return (*shape[1:], shape[0])


def shape_of(tensor: Tensor) -> tuple[int | None, ...]:
    """Returns the shape of a Keras tensor without the batch axis.

    Raises:
        ReszooError: it is not a Keras tensor.
    """
    if not keras.utils.is_keras_tensor(tensor):
        raise ReszooError(
            "input_tensor", got=f"a {type(tensor).__name__}", expected="a Keras tensor, such as keras.Input(...)"
        )
    return tuple(tensor.shape)[1:]


def _check_policy(spec: NetSpec) -> None:
    """No backend decomposes matrices in bfloat16, and only TensorFlow does in float16; saved files would not open."""
    kind = keras.config.dtype_policy().variable_dtype
    backend = keras.backend.backend()
    can_draw = kind not in ("bfloat16", "float16") or (kind == "float16" and backend == "tensorflow")
    if spec.init in ("orthogonal", "looks_linear") and not can_draw:
        got = f"{spec.init} for weights in {kind} on the {backend} backend"
        hint = f"keras.config.set_dtype_policy('mixed_{kind}') keeps the weights in float32"
        raise ReszooError(f"{spec.name}.init", got=got, expected="he, glorot", hint=hint)


def _chains(segments: tuple[Segment, ...], nested: bool) -> Iterator[tuple[Segment, ...]]:
    """The segments in groups: all in one, or up to NEST_BLOCKS blocks of a stage each."""
    if not nested:
        yield segments
        return
    for _, part in groupby(segments, lambda segment: segment.part):
        blocks = tuple(part)
        yield from (blocks[i : i + NEST_BLOCKS] for i in range(0, len(blocks), NEST_BLOCKS))


def unique_name(name: str) -> str:
    """An unused input name. As in Keras, the first has no number."""
    uid = keras.backend.get_uid(name)
    return name if uid == 1 else f"{name}_{uid - 1}"


def _nest(chain: tuple[Segment, ...], x: Tensor, prefix: str) -> Tensor:
    name = f"{prefix}{chain[0].name}_to_{chain[-1].name.rpartition('_')[2]}"
    return submodel(chain, x.shape[1:], name=name, prefix=prefix)(x)


def submodel(chain: Sequence[Segment], shape: Sequence[int | None], *, name: str, prefix: str = "") -> KerasModel:
    """Returns consecutive segments of a plan as a separate model.

    Args:
        chain: the segments.
        shape: input shape of the first segment, without the batch axis.
        name: name of the model.
        prefix: prefix of all layer names.
    """
    # An input of Keras' default type would round what a block of float64 reads.
    inputs = keras.Input(shape, name="input", dtype=keras.config.dtype_policy().compute_dtype)
    return keras.Model(inputs, _apply(tuple(chain), inputs, prefix), name=name)


def _apply(chain: tuple[Segment, ...], x: Tensor, prefix: str) -> Tensor:
    for segment in chain:
        tensors = {"input": x}
        for op in segment.ops:
            inputs = [tensors[name] for name in op.inputs]
            tensors[op.name] = LAYERS[op.kind](op, prefix + segment.prefix + op.name)(
                inputs if len(inputs) > 1 else inputs[0]
            )
        x = tensors[segment.output.name]
    return x


def _sequential(*steps: LayerCall) -> LayerCall:
    def call(x: Any) -> Any:
        for step in steps:
            x = step(x)
        return x

    return call


def _head_dtype() -> str | None:
    """The dtype of pooled features and logits, which stay in float32 under mixed precision."""
    policy = keras.config.dtype_policy()
    return policy.variable_dtype if policy.compute_dtype != policy.variable_dtype else None


def _conv(op: Op, name: str) -> LayerCall:
    # "same" pads symmetrically only at stride 1; otherwise imported weights would give different outputs.
    layer = layers.Conv2D(
        op.width,
        op.kernel,
        strides=op.stride,
        padding="valid" if op.padded else "same",
        dilation_rate=op.dilation,
        groups=op.groups,
        use_bias=op.bias,
        kernel_initializer=initializer(op),
        name=name,
    )
    return _sequential(layers.ZeroPadding2D((op.kernel - 1) // 2, name=f"{name}_pad"), layer) if op.padded else layer


def _channel_conv(op: Op, name: str) -> LayerCall:
    """A convolution along the channels of pooled maps, between two changes of shape."""
    settings = {"padding": "same", "data_format": "channels_last", "use_bias": False}
    layer = layers.Conv1D(1, op.kernel, kernel_initializer=initializer(op), name=name, **settings)
    shape = (op.width, 1, 1) if channels_first() else (1, 1, op.width)
    before = layers.Reshape((op.width, 1), name=f"{name}_in")
    return _sequential(before, layer, layers.Reshape(shape, name=f"{name}_out"))


def _dense(op: Op, name: str) -> LayerCall:
    head = {"activation": op.variant, "dtype": _head_dtype()} if op.variant else {}
    return layers.Dense(op.width, use_bias=op.bias, kernel_initializer=initializer(op), name=name, **head)


def _norm(op: Op, name: str) -> LayerCall:
    settings: dict[str, Any] = {
        "axis": 1 if channels_first() and len(op.shape) == 3 else -1,
        "epsilon": op.epsilon,
        "gamma_initializer": initializer(op),
        "name": name,
    }
    if op.variant == "group":
        return layers.GroupNormalization(groups=op.groups, **settings)
    return batch_normalization(momentum=op.momentum, **settings)


def _pool(op: Op, name: str) -> LayerCall:
    if op.variant == "avg":
        # A window of 2 starts at its output pixel and ignores values beyond the border, as in ResNet-D.
        return layers.AveragePooling2D(op.kernel, op.stride, padding="same" if op.kernel > 1 else "valid", name=name)
    if op.padding == "same":
        return layers.MaxPooling2D(op.kernel, op.stride, padding="same", name=name)
    if op.input_sign == "nonnegative":
        pad = layers.ZeroPadding2D((op.kernel - 1) // 2, name=f"{name}_pad")
        return _sequential(pad, layers.MaxPooling2D(op.kernel, op.stride, name=name))
    # Zero padding is not neutral here; "same" pads with the lowest number, on both sides at stride 1.
    window = layers.MaxPooling2D(op.kernel, 1, padding="same", name=f"{name}_window")
    return _sequential(window, layers.MaxPooling2D(1, op.stride, name=name))


def _global_pool(op: Op, name: str) -> LayerCall:
    kind = {"avg": layers.GlobalAveragePooling2D, "max": layers.GlobalMaxPooling2D}[op.variant]
    gate = len(op.shape) == 3
    return kind(keepdims=gate, name=name, dtype=None if gate else _head_dtype())


def _pad(op: Op, name: str) -> LayerCall:
    """Pads zero channels, half before and half after: option A of He 2015, as in its checkpoints; or all behind."""
    before_after = (op.zeros_before, op.width - op.width_in - op.zeros_before)
    # ZeroPadding2D pads two axes; with the opposite data format the channels are one of them.
    if channels_first():
        return layers.ZeroPadding2D((before_after, (0, 0)), data_format="channels_last", name=name)
    return layers.ZeroPadding2D(((0, 0), before_after), data_format="channels_first", name=name)


def _drop_path(op: Op, name: str) -> LayerCall:
    return layers.Dropout(op.rate, noise_shape=(None, *[1] * len(op.shape)), name=name)


LAYERS: dict[str, Callable[[Op, str], LayerCall]] = {
    "conv": _conv,
    "dense": _dense,
    "channel_conv": _channel_conv,
    "norm": _norm,
    "act": lambda op, name: activation(op.variant, op.slope, name=name),
    "pool": _pool,
    "global_pool": _global_pool,
    "pad": _pad,
    "dropout": lambda op, name: layers.Dropout(op.rate, name=name),
    "drop_path": _drop_path,
    "scale": lambda op, name: layers.Multiply(name=name),
    "add": lambda op, name: layers.Add(name=name),
}
"""Operation -> the stock layers that compute it."""
