"""Other notations of weights as a plain state dict of PyTorch: kernels with masks or norms, Flax, Haiku, TensorFlow.

Flax keeps parameters and statistics in two collections (`params/bn/scale`, `batch_stats/bn/mean`), Haiku in two dicts
(`net/~/bn` with `scale` and `offset`; `net/~/bn/~/mean_ema` with `average`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from reszoo.errors import ReszooError
from reszoo.weights.formats.checkpoint import Checkpoint, Tensor
from reszoo.weights.formats.tensorflow_files import CONTAINER
from reszoo.weights.translated import in_torch_layout


def by_layers(checkpoint: Checkpoint) -> Checkpoint:
    """Returns a checkpoint with the tensors of each layer beside each other.

    Programs of torch.export, and dicts of `named_parameters()` and `named_buffers()`, list all statistics at the end.
    """
    if "Keras" in checkpoint.container:
        return checkpoint
    layers: dict[str, dict[str, Tensor]] = {}
    for name, tensor in checkpoint.tensors.items():
        layers.setdefault(name.rpartition(".")[0], {})[name] = tensor
    return replace(checkpoint, tensors={name: one for tensors in layers.values() for name, one in tensors.items()})


def restored(checkpoint: Checkpoint) -> Checkpoint:
    """Returns a checkpoint with the products of masks (pruning) and of norms and directions (weight normalization)."""
    tensors = dict(checkpoint.tensors)
    rebuilt: dict[str, tuple[str, Tensor]] = {}
    for name in checkpoint.tensors:
        for ending, (others, product) in _PARTS.items():
            if name.endswith(ending):
                stem = name.removesuffix(ending)
                parts = [tensors.get(stem + other) for other in others]
                if all(part is not None and _fits(tensors[name], part) for part in parts):
                    rebuilt[name] = (stem + _WHOLE, product(*[tensors[name], *filter(None, parts)]))
    replaced = {name.removesuffix(ending) for name in rebuilt for ending in _PARTS if name.endswith(ending)}
    parts_left = {stem + other for stem in replaced for others, _ in _PARTS.values() for other in others}
    if not rebuilt:
        return checkpoint
    result = {}
    for name, tensor in tensors.items():
        if name in rebuilt:
            result[rebuilt[name][0]] = rebuilt[name][1]
        elif name not in parts_left:
            result[name] = tensor
    note = f"{len(rebuilt)} weights are stored in parts and were put together ({next(iter(rebuilt))}, ...)"
    return replace(checkpoint, tensors=result, notes=(*checkpoint.notes, note))


def _fits(whole: Tensor, part: Tensor) -> bool:
    """Returns whether a part is a mask of the weight, or one norm for each of its output channels."""
    return part.shape in (whole.shape, whole.shape[:1] + (1,) * (len(whole.shape) - 1))


_WHOLE = ".weight"


def _masked(kernel: Tensor, mask: Tensor) -> Tensor:
    return replace(kernel, read=lambda: kernel.read() * mask.read().astype(kernel.read().dtype))


def _normalized(direction: Tensor, norm: Tensor) -> Tensor:
    def read() -> Any:
        import numpy as np

        array = direction.read().astype("float32")
        flat = np.sqrt((array.reshape(len(array), -1) ** 2).sum(axis=1)).reshape((-1,) + (1,) * (array.ndim - 1))
        return (array * (norm.read().astype("float32") / flat)).astype(direction.dtype)

    return replace(direction, read=read)


_PARTS: dict[str, tuple[tuple[str, ...], Callable[..., Tensor]]] = {
    ".weight_orig": ((".weight_mask",), _masked),
    ".weight_v": ((".weight_g",), _normalized),
    ".parametrizations.weight.original1": ((".parametrizations.weight.original0",), _normalized),
}
"""Ending of the stored weight -> endings of its other parts, and the function that puts them together."""

_UNSUPPORTED = re.compile(r"(.+)\.(weight_orig|weight_[uvg]|parametrizations\..+|weight_mask)")


def check_parts(checkpoint: Checkpoint, names: Iterable[str]) -> None:
    """Checks that no weight of a network is stored in parts of another kind.

    Raises:
        ReszooError: one is.
    """
    left = [name for name in names if _UNSUPPORTED.fullmatch(name)]
    if left:
        got = f"weights in parts that are not supported ({', '.join(left[:3])}, ...)"
        hint = "remove the parametrization before saving (torch.nn.utils.parametrize.remove_parametrizations)"
        raise ReszooError(str(checkpoint.path), got=got, hint=hint)


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
