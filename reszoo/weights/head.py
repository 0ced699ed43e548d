"""Heads of fine-tuned networks: a chain of linear layers in place of the classifier, kept as layers of Keras."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

from reszoo.types import KerasModel
from reszoo.weights.formats.checkpoint import Tensor


class Linear(NamedTuple):
    """A linear layer of a head."""

    name: str
    """Its name in the file."""
    kernel: Tensor
    """In Keras layout."""
    bias: Tensor | None
    activation: bool
    """Whether a ReLU follows."""


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
