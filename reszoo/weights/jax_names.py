"""Weights of Flax and Haiku in the words of PyTorch, whose dialects and order of layers then apply to them.

Flax keeps parameters and statistics in two collections (`params/bn/scale`, `batch_stats/bn/mean`), Haiku in two dicts
(`net/~/bn` with `scale` and `offset`; `net/~/bn/~/mean_ema` with `average`).
"""

from __future__ import annotations

import re
from dataclasses import replace

from reszoo.weights.formats.checkpoint import Checkpoint, Tensor
from reszoo.weights.translated import in_torch_layout

_WORDS = {
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
    for ending in sorted(_WORDS, key=len, reverse=True):
        if path.endswith(f".{ending}"):
            return path.removesuffix(f".{ending}"), _WORDS[ending]
    layer, _, word = path.rpartition(".")
    return layer, word


def _turned(tensor: Tensor) -> Tensor:
    """Returns a kernel in PyTorch's layout, and statistics of Haiku without their axes of one."""
    if len(tensor.shape) == 4 and tensor.shape[:3] == (1, 1, 1):
        return tensor.reshaped(tensor.shape[3:])
    return in_torch_layout(tensor)
