"""Heads: the place of a checkpoint's unknown tensors, and linear layers behind the trunk as a classifier."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

from reszoo.types import KerasModel
from reszoo.weights.formats.checkpoint import Checkpoint, Tensor
from reszoo.weights.translated import (
    Linear,
    NamedTensor,
    Translated,
    foreign,
    grouped,
    is_auxiliary,
    is_beside,
    is_normalizer,
)

NORMALIZES = "the network in the file normalizes images itself"
"""The beginning of a note that is also a warning."""

ASSUMES = "its activations are not stored in the file, assuming ReLU"
"""Part of such a note, too."""


def placed(translated: Translated, whole: Checkpoint) -> Translated:
    """Returns the network with its unknown tensors in their places, and a head of linear layers as its classifier."""
    translated = _with_bias(translated)
    parts = foreign(translated.checkpoint, translated.unknown, translated.tensors)
    translated = replace(translated, foreign=parts)
    blocks = {*_blocks(translated)}
    if "predictions/kernel" in translated.tensors or parts.within or not blocks:
        return translated
    tensors = translated.checkpoint.tensors
    names = parts.head
    beside = _beside(translated, whole)
    if not names and beside:
        names, tensors = beside, whole.tensors
    kernels = [named.tensor for layer, named in sorted(translated.tensors.items()) if layer in blocks]
    layers = chain(names, tensors, kernels[-1].shape[-1], torch=translated.dialect.layout == "torch")
    layers = checked(layers, translated.checkpoint.attributes)
    if not layers:
        return translated
    unknown = tuple(name for name in translated.unknown if name not in names)
    outside = tuple(name for name in translated.outside if name not in names)
    translated = replace(translated, unknown=unknown, outside=outside, foreign=parts._replace(head=()))
    if len(layers) > 1 or layers[0].bias is None:
        return replace(translated, head=layers)
    separator = "/" if translated.dialect.layout == "keras" else "."
    added = {"kernel": layers[0].kernel, "bias": layers[0].bias}
    sources = {"kernel": "kernel" if separator == "/" else "weight", "bias": "bias"}
    classifier = {
        f"predictions/{variable}": NamedTensor(tensor, f"{layers[0].name}{separator}{sources[variable]}")
        for variable, tensor in added.items()
    }
    return replace(translated, tensors={**translated.tensors, **classifier})


def _with_bias(translated: Translated) -> Translated:
    """Returns the network with a bias of zeros for a classifier that has none."""
    kernel = translated.tensors.get("predictions/kernel")
    if kernel is None or "predictions/bias" in translated.tensors:
        return translated
    shape = kernel.tensor.shape[-1:]

    def zeros() -> Any:
        import numpy as np

        return np.zeros(shape, "float32")

    bias = NamedTensor(Tensor(shape, "float32", zeros), "")
    checkpoint = replace(
        translated.checkpoint, notes=(*translated.checkpoint.notes, "the classifier has no bias; zeros are placed")
    )
    return replace(translated, tensors={**translated.tensors, "predictions/bias": bias}, checkpoint=checkpoint)


def _blocks(translated: Translated) -> list[str]:
    return [layer for layer in translated.tensors if re.match(r"stage\d+_block\d+_unit\d+_(conv|dense)/kernel", layer)]


def _beside(translated: Translated, whole: Checkpoint) -> tuple[str, ...]:
    """Returns the tensors beside the network's module in its dict, such as `head.fc.weight` beside `backbone.`."""
    label = translated.prefix.rstrip("./")
    above = f"{label.rpartition('.')[0]}." if "." in label else ""
    dicts = [key for key in whole.keys if key and (label == key or label.startswith(f"{key}."))]
    if not label or any(len(f"{key}.") > len(above) for key in dicts):
        return ()
    within = tuple(f"{other}." for other in translated.others)
    names = [name for name in translated.outside if name.startswith(above) and not (within and name.startswith(within))]
    return tuple(name for name in names if not is_beside(name, whole.tensors[name]))


def with_notes(translated: Translated, whole: Checkpoint) -> Checkpoint:
    """Returns the network's tensors with notes about where it was and what is left aside."""
    notes, label = [*translated.checkpoint.notes], translated.prefix.rstrip("./")
    others = ", ".join(map(repr, translated.others))
    if label or others:
        also = f"; also in the file: {others} (choose with key=...)" if others else ""
        notes.append(f"read from {repr(label) if label else 'the top level'}{also}")
    within = tuple(f"{other}{separator}" for other in translated.others for separator in "./")
    beside = [name for name in translated.outside if not within or not name.startswith(within)]
    beside += [f"{translated.prefix}{name}" for name in translated.foreign.beside]
    beside = [name for name in beside if name in whole.tensors]
    normalizers = [name for name in beside if is_normalizer(name, whole.tensors[name])]
    if normalizers:
        notes.append(f"{NORMALIZES} ({', '.join(normalizers)}); the model does not")
        beside = [name for name in beside if name not in normalizers]
    if beside:
        start = max((f"{one}." for one in whole.keys if one and label.startswith(one)), key=len, default="")
        auxiliary = [name for name in beside if is_auxiliary(name)]
        for what, names in (
            ("auxiliary heads, which only training uses", auxiliary),
            ("no part of the network", [name for name in beside if name not in auxiliary]),
        ):
            notes += [f"{what}: {grouped(name.removeprefix(start) for name in names)}"] if names else []
    if translated.head:
        is_open = any(one.activation for one in translated.head) and not translated.checkpoint.attributes
        assumed = f"; {ASSUMES}" if is_open else ""
        notes.append(f"the head: {described(translated.head)}{assumed}")
    return replace(translated.checkpoint, notes=tuple(notes))


def chain(names: Iterable[str], tensors: Mapping[str, Tensor], width: int, *, torch: bool) -> tuple[Linear, ...]:
    """Returns the linear layers that read a trunk's features one after the other; none if there are other layers.

    Args:
        names: the tensors of the head, in order.
        tensors: name -> tensor.
        width: number of features of the trunk.
        torch: whether the layout is PyTorch's.
    """
    separator, kernel_name = (".", "weight") if torch else ("/", "kernel")
    layers: dict[str, dict[str, Tensor]] = {}
    for name in names:
        layer, _, variable = name.rpartition(separator)
        layers.setdefault(layer, {})[variable] = tensors[name]
    result: list[Linear] = []
    for layer, variables in layers.items():
        kernel, bias = variables.get(kernel_name), variables.get("bias")
        if kernel is None or len(kernel.shape) != 2 or not {*variables} <= {kernel_name, "bias"}:
            return ()
        kernel = kernel.permuted((1, 0)) if torch else kernel
        if kernel.shape[0] != width or (bias is not None and bias.shape != kernel.shape[1:]):
            return ()
        if result:
            result[-1] = result[-1]._replace(activation=_has_activation(result[-1].name, layer))
        width = kernel.shape[1]
        result.append(Linear(layer, kernel, bias, activation=False))
    return tuple(result)


def _has_activation(first: str, second: str) -> bool:
    """Returns whether a ReLU stands between two layers: not if their numbers in a sequence follow each other."""
    one, other = re.fullmatch(r"(.*?)(\d+)", first), re.fullmatch(r"(.*?)(\d+)", second)
    in_sequence = one and other and one[1] == other[1] and one[1].endswith(".")
    return not (one and other and in_sequence and int(other[2]) - int(one[2]) == 1)


_PASSIVE = ("Linear", "ReLU", "Dropout", "Identity", "Flatten", "Sequential", "AdaptiveAvgPool2d")


def checked(head: tuple[Linear, ...], attributes: Mapping[str, Mapping[str, Any]]) -> tuple[Linear, ...]:
    """Returns a head with the activations of the layer objects in the file; none if it has other layers.

    Args:
        head: the linear layers.
        attributes: path of a module -> its settings; without any, the head is returned unchanged.
    """
    above = {linear.name.rpartition(".")[0] for linear in head}
    if not attributes or len(above) != 1 or not (parent := next(iter(above))):
        return head
    children = {path: str(one.get("class", "")) for path, one in attributes.items() if path.startswith(f"{parent}.")}
    classes = {path: name.rpartition(".")[2] for path, name in children.items()}
    if not {*classes.values()} <= {*_PASSIVE}:
        return ()
    order = [*classes]
    result = [
        one._replace(
            activation="ReLU" in [classes[path] for path in order[order.index(one.name) : order.index(two.name)]]
        )
        for one, two in pairwise(head)
        if one.name in classes and two.name in classes
    ]
    return (*result, head[-1]) if len(result) == len(head) - 1 else head


def with_head(model: KerasModel, head: tuple[Linear, ...], *, activation: str = "linear") -> KerasModel:
    """Returns a model of a pooled trunk with the layers of a head behind it, and their weights.

    Args:
        model: the trunk.
        head: the layers.
        activation: that of the last layer.
    """
    import keras

    x: Any = model.output
    layers = []
    for number, linear in enumerate(head, 1):
        name = "predictions" if number == len(head) else f"head_dense{number}"
        settings = {"activation": activation} if number == len(head) else {}
        layer = keras.layers.Dense(linear.kernel.shape[1], use_bias=linear.bias is not None, name=name, **settings)
        x = layer(x)
        layers.append(layer)
        if linear.activation:
            x = keras.layers.ReLU(name=f"head_relu{number}")(x)
    extended = keras.Model(model.input, x, name=model.name)
    for layer, linear in zip(layers, head, strict=True):
        parts = [linear.kernel, *filter(None, [linear.bias])]
        layer.set_weights([part.read().astype("float32") for part in parts])
    return extended


def described(head: tuple[Linear, ...]) -> str:
    """Returns a head in words."""
    words = []
    for linear in head:
        words.append(f"{linear.name} ({linear.kernel.shape[0]} to {linear.kernel.shape[1]})")
        words += ["ReLU"] if linear.activation else []
    return ", ".join(words)
