"""Weights of Flax, Haiku and TensorFlow in the words of PyTorch, whose dialects and order of layers then apply.

Flax keeps parameters and statistics in two collections (`params/bn/scale`, `batch_stats/bn/mean`), Haiku in two dicts
(`net/~/bn` with `scale` and `offset`; `net/~/bn/~/mean_ema` with `average`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from reszoo.weights.formats.checkpoint import Checkpoint, Tensor
from reszoo.weights.formats.tensorflow_files import CONTAINER
from reszoo.weights.translated import in_torch_layout

_JAX_WORDS = {
    **{"kernel": "weight", "w": "weight", "scale": "weight", "bias": "bias", "b": "bias", "offset": "bias"},
    **{"mean": "running_mean", "var": "running_var"},
    **{"mean_ema.average": "running_mean", "var_ema.average": "running_var"},
}
"""Name of a variable in Flax or Haiku -> in PyTorch."""
_COLLECTIONS = ("params", "batch_stats", "state", "~")
_STATISTICS = re.compile(r"(?:.*[/.])?(?:batch_stats[/.].+|~[/.](?:mean|var)_ema[/.]\w+)")
_PAIR = re.compile(r"^[01][/.](?=.+/~/)")
"""A pair of Haiku's parameters and state."""
_BESIDE = re.compile(r".+\.(?:mean|var)_ema\.(?:hidden|counter)")


def in_torch_words(checkpoint: Checkpoint) -> Checkpoint:
    """Returns a checkpoint of Flax or Haiku with PyTorch's names and layout; any other as it is."""
    if checkpoint.config or not any(_STATISTICS.fullmatch(name) for name in checkpoint.tensors):
        return checkpoint
    layers: dict[str, dict[str, Tensor]] = {}
    for name, tensor in checkpoint.tensors.items():
        path = ".".join(part for part in re.split(r"[/.]", _PAIR.sub("", name)) if part not in _COLLECTIONS)
        if _BESIDE.fullmatch(path):
            continue
        layer, word = _split(path)
        layers.setdefault(layer, {})[word] = _turned(tensor)
    tensors = {f"{layer}.{word}": tensor for layer, words in layers.items() for word, tensor in words.items()}
    note = "names and layout of JAX were read as those of PyTorch"
    return replace(checkpoint, tensors=tensors, notes=(*checkpoint.notes, note))


def _split(path: str) -> tuple[str, str]:
    """Returns the layer and PyTorch's name of a variable."""
    for ending in sorted(_JAX_WORDS, key=len, reverse=True):
        if path.endswith(f".{ending}"):
            return path.removesuffix(f".{ending}"), _JAX_WORDS[ending]
    layer, _, word = path.rpartition(".")
    return layer, word


def _turned(tensor: Tensor) -> Tensor:
    """Returns a kernel in PyTorch's layout, and statistics of Haiku without their axes of one."""
    if len(tensor.shape) == 4 and tensor.shape[:3] == (1, 1, 1):
        return tensor.reshaped(tensor.shape[3:])
    return in_torch_layout(tensor)


_TENSORFLOW_WORDS = {
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
        layers.setdefault(layer, {})[_TENSORFLOW_WORDS.get(variable, variable)] = in_torch_layout(tensor)
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
