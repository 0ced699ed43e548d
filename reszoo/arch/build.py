"""The plan as a Keras model of stock layers. Saved files open in plain Keras, on any backend, without reszoo."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from math import sqrt
from typing import Any

import keras
from keras import initializers, layers

from reszoo.arch.ops import Op, Segment
from reszoo.arch.plan import plan
from reszoo.arch.recover import prefix_of, spec_of
from reszoo.arch.spec import NetSpec
from reszoo.arch.stock import LooksLinear, batch_normalization
from reszoo.errors import ReszooError

NEST_FROM, NEST_BLOCKS = 800, 16
"""Keras walks a graph with a Python call per layer and meets the recursion limit near 1,000 layers: from 800 operations
on, every 16 blocks become a sub-model of their own."""


def build(spec: NetSpec, *, input_tensor: Any = None, prefix: str = "", input_name: str | None = None) -> keras.Model:
    """Returns the network as a functional Keras model.

    Args:
        spec: the network.
        input_tensor: a Keras tensor of the spec's input shape to build on.
        prefix: of the name of every layer.
        input_name: of the input that is made; by default `input`, with a number from a process' second network on, so
            that several fit into one model.

    Raises:
        ReszooError: the initial weights cannot be drawn in the type that Keras' dtype policy asks for.
    """
    _check_policy(spec)
    network = plan(spec)
    shape = spec.input_shape if spec.dense or not channels_first() else (spec.input_shape[-1], *spec.input_shape[:-1])
    if input_tensor is None:
        inputs = x = keras.Input(shape, name=input_name or _numbered(f"{prefix}input"))
    else:
        sources, x = keras.utils.get_source_inputs(input_tensor), input_tensor
        inputs = sources[0] if len(sources) == 1 else sources
    nested = sum(len(segment.ops) for segment in network.segments) >= NEST_FROM
    for chain in _chains(network.segments, nested):
        x = _nest(chain, x, prefix) if nested and chain[0].branch else _apply(chain, x, prefix)
    return keras.Model(inputs, x, name=spec.name)


def names_of(model: keras.Model) -> dict[str, str]:
    """Returns the names that a network was built with, as arguments of `build` for one that takes its place."""
    names = {"prefix": prefix_of(model)}
    return {**names, "input_name": model.inputs[0].name} if len(model.inputs) == 1 else names


def features(model: keras.Model) -> keras.Model:
    """Returns a model of the same layers and weights that puts out every stage's feature map.

    The outputs are a dict `{"stage1": (batch, height, width, channels), "stage2": ...}`. Of a pre-activation network
    the last one is normalised and activated, as its classifier sees it.

    Raises:
        ReszooError: the model is not one of reszoo's.
    """
    parts = plan(spec_of(model)).parts
    stages = {part: segments[-1] for part, segments in parts.items() if part.startswith("stage")}
    names = {part: last.prefix + last.output.name for part, last in stages.items()}
    # The final norm and activation of a pre-activation network stand in its head.
    names |= {[*names][-1]: op.name for head in parts.get("head", ()) for op in head.ops if op.kind in ("norm", "act")}
    prefix = prefix_of(model)
    outputs = {part: _output(model, prefix + name) for part, name in names.items()}
    return keras.Model(model.input, outputs, name=model.name)


def _output(model: keras.Model, name: str) -> Any:
    """The output of a layer, or of the sub-model that ends with it."""
    for layer in model.layers:
        if layer.name == name or (isinstance(layer, keras.Model) and layer.layers[-1].name == name):
            # A sub-model's own `output` is the one inside it; an operation's is the one in this graph.
            return keras.Operation.output.fget(layer)
    raise ReszooError(model.name, given=f"no layer {name}", allowed="a model built by reszoo")


def channels_first() -> bool:
    """Whether Keras is set to `channels_first`."""
    return bool(keras.config.image_data_format() == "channels_first")


def refuse_channels_first(spec: NetSpec) -> None:
    """Refuses a network of images where Keras is set to `channels_first`: data sources give channels last.

    Raises:
        ReszooError: it is such a network.
    """
    if channels_first() and not spec.dense:
        allowed, mend = "channels_last, as data sources give images", "keras.config.set_image_data_format"
        raise ReszooError(
            f"{spec.name}: image_data_format", given="channels_first", allowed=allowed, mend=f"{mend}('channels_last')"
        )


def channels_last(shape: Sequence[int | None]) -> tuple[int | None, ...]:
    """Returns `(channels, height, width)` as `(height, width, channels)`."""
    return (*shape[1:], shape[0])


def shape_of(tensor: Any) -> tuple[int | None, ...]:
    """Returns the shape of a Keras tensor without its batch.

    Raises:
        ReszooError: it is not a Keras tensor.
    """
    if not keras.utils.is_keras_tensor(tensor):
        raise ReszooError("input_tensor", given=repr(tensor), allowed="a Keras tensor, such as keras.Input(...)")
    return tuple(tensor.shape)[1:]


def _check_policy(spec: NetSpec) -> None:
    """No backend decomposes matrices in bfloat16, and TensorFlow alone in float16; a saved file could not be opened."""
    kind, backend = keras.config.dtype_policy().variable_dtype, keras.backend.backend()
    drawable = kind not in ("bfloat16", "float16") or (kind == "float16" and backend == "tensorflow")
    if spec.init in ("orthogonal", "looks_linear") and not drawable:
        given = f"{spec.init} for weights in {kind} on the {backend} backend"
        mend = f"keras.config.set_dtype_policy('mixed_{kind}') keeps the weights in float32"
        raise ReszooError(f"{spec.name}.init", given=given, allowed="he, glorot", mend=mend)


def _chains(segments: tuple[Segment, ...], nested: bool) -> Iterator[tuple[Segment, ...]]:
    """The segments in the pieces they are built in: all in one, or up to NEST_BLOCKS blocks of a stage at a time."""
    if not nested:
        yield segments
        return
    for _, part in groupby(segments, lambda segment: segment.part):
        whole = tuple(part)
        yield from (whole[i : i + NEST_BLOCKS] for i in range(0, len(whole), NEST_BLOCKS))


def _numbered(name: str) -> str:
    """A name that no input has yet. As Keras does, the first has no number."""
    uid = keras.backend.get_uid(name)
    return name if uid == 1 else f"{name}_{uid - 1}"


def _nest(chain: tuple[Segment, ...], x: Any, prefix: str) -> Any:
    name = f"{prefix}{chain[0].name}_to_{chain[-1].name.rpartition('_')[2]}"
    return part(chain, x.shape[1:], name=name, prefix=prefix)(x)


def part(chain: Sequence[Segment], shape: Sequence[int | None], *, name: str, prefix: str = "") -> keras.Model:
    """Returns consecutive segments of a plan as a model of their own.

    Args:
        chain: the segments.
        shape: of what the first of them reads, without the batch.
        name: of the model.
        prefix: of the name of every layer.
    """
    inputs = keras.Input(shape, name="input")
    return keras.Model(inputs, _apply(tuple(chain), inputs, prefix), name=name)


def _apply(chain: tuple[Segment, ...], x: Any, prefix: str) -> Any:
    for segment in chain:
        tensors, begin = {"input": x}, prefix + segment.prefix
        for op in segment.ops:
            inputs = [tensors[name] for name in op.inputs]
            tensors[op.name] = LAYERS[op.kind](op, begin + op.name)(inputs if len(inputs) > 1 else inputs[0])
        x = tensors[segment.output.name]
    return x


def _in_turn(*steps: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def call(x: Any) -> Any:
        for step in steps:
            x = step(x)
        return x

    return call


def _initializer(op: Op) -> Any:
    if op.init == "looks_linear":
        # A pair that was not rectified has twice its value in the difference.
        return LooksLinear(gain=0.5 if op.reads == "linear" else 1.0, paired_input=op.reads != "raw")
    if op.init == "orthogonal":
        return initializers.Orthogonal(gain=sqrt(2.0))
    if op.gain is not None:
        if op.init == "one":
            return initializers.Constant(op.gain)
        scale, mode = {"he": (2.0, "fan_in"), "glorot": (1.0, "fan_avg")}[op.init]
        return initializers.VarianceScaling(scale * op.gain**2, mode, "uniform")
    # He's variance, drawn uniformly: drawing normal numbers would take a fifth of the time of building ResNet-50.
    return {"he": "he_uniform", "glorot": "glorot_uniform", "zero": "zeros", "one": "ones"}[op.init]


def _head_dtype() -> Any:
    """Pooled features and logits stay in float32 under mixed precision."""
    policy = keras.config.dtype_policy()
    return policy.variable_dtype if policy.compute_dtype != policy.variable_dtype else None


def _conv(op: Op, name: str) -> Callable[[Any], Any]:
    # "same" is symmetric only at stride 1; strided it would pad one side, and imported weights give other numbers.
    layer = layers.Conv2D(
        op.width,
        op.kernel,
        strides=op.stride,
        padding="valid" if op.padded else "same",
        dilation_rate=op.dilation,
        groups=op.groups,
        use_bias=op.bias,
        kernel_initializer=_initializer(op),
        name=name,
    )
    return _in_turn(layers.ZeroPadding2D((op.kernel - 1) // 2, name=f"{name}_pad"), layer) if op.padded else layer


def _dense(op: Op, name: str) -> Callable[[Any], Any]:
    word = {"activation": op.word, "dtype": _head_dtype()} if op.word else {}
    return layers.Dense(op.width, use_bias=op.bias, kernel_initializer=_initializer(op), name=name, **word)


def _norm(op: Op, name: str) -> Callable[[Any], Any]:
    settings: dict[str, Any] = {
        "axis": 1 if channels_first() and len(op.shape) == 3 else -1,
        "epsilon": op.epsilon,
        "gamma_initializer": _initializer(op),
        "name": name,
    }
    if op.word == "group":
        return layers.GroupNormalization(groups=op.groups, **settings)
    return batch_normalization(momentum=op.momentum, **settings)


def _pool(op: Op, name: str) -> Callable[[Any], Any]:
    if op.word == "avg":
        # The window of 2 starts at its own pixel and leaves out what lies beyond the border, as in ResNet-D.
        return layers.AveragePooling2D(op.kernel, op.stride, padding="same" if op.kernel > 1 else "valid", name=name)
    if op.reads == "rectified":
        pad = layers.ZeroPadding2D((op.kernel - 1) // 2, name=f"{name}_pad")
        return _in_turn(pad, layers.MaxPooling2D(op.kernel, op.stride, name=name))
    # Zero is not neutral here. "same" at stride 1 pads both sides with the lowest number; then pixels are left out.
    whole = layers.MaxPooling2D(op.kernel, 1, padding="same", name=f"{name}_window")
    return _in_turn(whole, layers.MaxPooling2D(1, op.stride, name=name))


def _global_pool(op: Op, name: str) -> Callable[[Any], Any]:
    kind = {"avg": layers.GlobalAveragePooling2D, "max": layers.GlobalMaxPooling2D}[op.word]
    gate = len(op.shape) == 3
    return kind(keepdims=gate, name=name, dtype=None if gate else _head_dtype())


def _pad(op: Op, name: str) -> Callable[[Any], Any]:
    """Zero channels, half before and half after: option A of He 2015 as its checkpoints have it."""
    extra = op.width - op.width_in
    before_after = (extra // 2, extra - extra // 2)
    # ZeroPadding2D pads two axes: told the other data format, the channels are one of them.
    if channels_first():
        return layers.ZeroPadding2D((before_after, (0, 0)), data_format="channels_last", name=name)
    return layers.ZeroPadding2D(((0, 0), before_after), data_format="channels_first", name=name)


def _drop_path(op: Op, name: str) -> Callable[[Any], Any]:
    return layers.Dropout(op.rate, noise_shape=(None, *[1] * len(op.shape)), name=name)


LAYERS: dict[str, Callable[[Op, str], Callable[[Any], Any]]] = {
    "conv": _conv,
    "dense": _dense,
    "norm": _norm,
    "act": lambda op, name: layers.Activation(op.word, name=name),
    "pool": _pool,
    "global_pool": _global_pool,
    "pad": _pad,
    "dropout": lambda op, name: layers.Dropout(op.rate, name=name),
    "drop_path": _drop_path,
    "scale": lambda op, name: layers.Multiply(name=name),
    "add": lambda op, name: layers.Add(name=name),
}
"""Operation -> the stock layer (or two) that computes it."""
