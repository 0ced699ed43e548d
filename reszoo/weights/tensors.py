"""What a checkpoint file holds: named tensors that are read when they are placed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from reszoo.errors import ReszooError


@dataclass(frozen=True)
class Tensor:
    """One array of a file, not read yet."""

    shape: tuple[int, ...]
    dtype: str
    """NumPy's name, or `bfloat16`."""
    read: Callable[[], Any]
    """Returns the NumPy array, of `shape` and `dtype`."""

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def permuted(self, axes: tuple[int, ...]) -> Tensor:
        """Returns the tensor with its axes in another order."""
        shape = tuple(self.shape[axis] for axis in axes)
        return replace(self, shape=shape, read=lambda: self.read().transpose(axes))

    def reshaped(self, shape: tuple[int, ...]) -> Tensor:
        """Returns the tensor with the same elements in another shape."""
        return replace(self, shape=shape, read=lambda: self.read().reshape(shape))


@dataclass(frozen=True)
class Checkpoint:
    """A file, or a folder of files, opened."""

    path: Path
    container: str
    """What kind of file it is, in words."""
    tensors: Mapping[str, Tensor]
    config: Mapping[str, Any] = field(default_factory=dict)
    """What a `config.json` beside or in the file says."""
    layers: frozenset[str] = frozenset()
    """Of a Keras file: the names of all layers, those without weights too."""
    notes: tuple[str, ...] = ()
    """What was chosen on the way, such as one of several wrapped networks."""

    @property
    def dtypes(self) -> str:
        """The types of the tensors, the commonest first."""
        names = [tensor.dtype for tensor in self.tensors.values()]
        return ", ".join(sorted(set(names), key=names.count, reverse=True))


class BrokenFileError(ReszooError):
    """A file that is truncated, damaged, made to harm or no checkpoint at all."""

    def __init__(self, path: Path, found: str, *, allowed: str = "", mend: str = ""):
        super().__init__(str(path), given=found, allowed=allowed, mend=mend or MEND)


MEND = "download or save the file again"
