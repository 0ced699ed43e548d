"""Variables of TensorFlow whose names belong to no library, in the order of the layers and in the words of PyTorch."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from reszoo.weights.formats.checkpoint import Checkpoint, Tensor
from reszoo.weights.formats.tensorflow_files import CONTAINER
from reszoo.weights.translated import in_torch_layout

_WORDS = {
    **{"kernel": "weight", "weights": "weight", "bias": "bias", "biases": "bias", "gamma": "weight", "beta": "bias"},
    **{"moving_mean": "running_mean", "moving_variance": "running_var"},
}
"""Name of a variable in TensorFlow -> in PyTorch."""
_NORM = ("weight", "bias", "running_mean", "running_var")
_NUMBERED = re.compile(r"variables/(\d+)")
"""A variable in a SavedModel of Keras 3, in the order of the layers."""


def in_order(checkpoint: Checkpoint) -> Checkpoint:
    """Returns a TensorFlow checkpoint as a state dict of PyTorch; any other as it is."""
    if checkpoint.container != CONTAINER:
        return checkpoint
    numbered = {int(match[1]): name for name in checkpoint.tensors if (match := _NUMBERED.fullmatch(name))}
    if numbered:
        tensors = dict(_by_shape([checkpoint.tensors[numbered[number]] for number in sorted(numbered)]))
        return replace(checkpoint, tensors=tensors)
    layers: dict[str, dict[str, Tensor]] = {}
    for name, tensor in checkpoint.tensors.items():
        layer, _, variable = name.rpartition("/")
        layers.setdefault(layer, {})[_WORDS.get(variable, variable)] = in_torch_layout(tensor)
    ordered = sorted(layers, key=lambda layer: _place(layer, layers[layer]))
    words = {
        f"{layer.replace('/', '.')}.{word}": layers[layer][word]
        for layer in ordered
        for word in sorted(layers[layer], key=lambda word: _NORM.index(word) if word in _NORM else len(_NORM))
    }
    return replace(checkpoint, tensors=words)


def _place(layer: str, variables: dict[str, Tensor]) -> tuple[object, ...]:
    """Returns a key that sorts layers by number, a norm behind the convolution of the same number, linear ones last."""
    parent, _, own = layer.rpartition("/")
    rank = max(len(tensor.shape) for tensor in variables.values())
    number = re.search(r"(\d+)$", own)
    natural = [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", parent)]
    return rank == 2, natural, int(number[1]) if number else 0, rank != 4


def _by_shape(tensors: list[Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Yields the variables of layers that follow each other: a kernel, its bias, and the four variables of a norm."""
    number, at = 0, 0
    while at < len(tensors):
        if len(tensors[at].shape) > 1:
            number += 1
            yield f"layer{number}.weight", in_torch_layout(tensors[at])
            at += 1
            continue
        run = at
        while run < len(tensors) and len(tensors[run].shape) == 1:
            run += 1
        if (run - at) % 4 == 1 and number:
            yield f"layer{number}.bias", tensors[at]
            at += 1
        while run - at >= 4:
            number += 1
            yield from ((f"layer{number}.{word}", tensors[at + place]) for place, word in enumerate(_NORM))
            at += 4
        for left in range(at, run):
            yield f"variable{left}", tensors[left]
        at = run
