"""The content of a checkpoint file: named tensors, read lazily."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

from reszoo.errors import ReszooError

ITEM_SIZES = {
    **{"bool": 1, "uint8": 1, "int8": 1, "uint16": 2, "int16": 2, "uint32": 4, "int32": 4, "uint64": 8, "int64": 8},
    **{"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8},
}
"""Supported element types and their size in bytes."""


@dataclass(frozen=True)
class Tensor:
    """An array in a file: its shape and type are known, its numbers are read on demand."""

    shape: tuple[int, ...]
    dtype: str
    """NumPy's name, or `bfloat16`."""
    read: Callable[[], Any]
    """Returns the NumPy array, of `shape` and `dtype`."""

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return self.size * ITEM_SIZES[self.dtype]

    def permuted(self, axes: tuple[int, ...]) -> Tensor:
        """Returns the tensor with its axes in another order."""
        shape = tuple(self.shape[axis] for axis in axes)
        return replace(self, shape=shape, read=lambda: self.read().transpose(axes))

    def reshaped(self, shape: tuple[int, ...]) -> Tensor:
        """Returns the tensor with the same elements in another shape."""
        return replace(self, shape=shape, read=lambda: self.read().reshape(shape))


def constant(shape: tuple[int, ...], value: float, dtype: str = "float32") -> Tensor:
    """Returns an array of one number."""

    def read() -> Any:
        import numpy as np

        return np.full(shape, value, dtype)

    return Tensor(shape, dtype, read)


def stored_array(path: Path, shape: tuple[int, ...], dtype: str, offset: int) -> Callable[[], Any]:
    """Returns a reader of an array that a file holds uncompressed, in little-endian numbers from an offset on."""

    def read() -> Any:
        import ml_dtypes
        import numpy as np

        stored = np.dtype(ml_dtypes.bfloat16) if dtype == "bfloat16" else np.dtype(dtype).newbyteorder("<")
        return np.fromfile(path, stored, count=math.prod(shape), offset=offset).reshape(shape)

    return read


@dataclass(frozen=True)
class Checkpoint:
    """An opened file or folder of files."""

    path: Path
    container: str
    """The kind of file, such as `PyTorch zip`."""
    tensors: Mapping[str, Tensor]
    config: Mapping[str, Any] = field(default_factory=dict)
    """Content of the `config.json` beside or inside the file."""
    layers: frozenset[str] = frozenset()
    """Keras files: names of all layers, including those without weights."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Content of the `reszoo.json` in a Keras file: what the network knows of its inputs and classes."""
    notes: tuple[str, ...] = ()
    """Choices made by the reader, such as which of several wrapped networks was read."""
    keys: tuple[str, ...] = ("",)
    """Paths of the dicts and modules that hold the tensors; a tensor's name begins with one of them."""
    attributes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Files of whole models: path of a module -> its class (`class`) and settings, such as `stride` and `eps`."""
    aside: Mapping[str, str] = field(default_factory=dict)
    """Path -> class of the objects beside the tensors that were not read, such as an optimizer."""
    files: tuple[Path, ...] = ()
    """The other files that hold its tensors."""

    @property
    def dtypes(self) -> str:
        """The element types of the tensors, most frequent first."""
        names = [tensor.dtype for tensor in self.tensors.values()]
        return ", ".join(sorted(set(names), key=names.count, reverse=True))

    def __repr__(self) -> str:
        return f"Checkpoint({self.path.name!r}, {self.container}, {len(self.tensors)} tensors)"


def common_parts(paths: Sequence[Sequence[str]]) -> list[str]:
    """Returns the first parts that all paths have in common."""
    return [parts[0] for parts in takewhile(lambda parts: len({*parts}) == 1, zip(*paths, strict=False))]


class BrokenFileError(ReszooError):
    """A weights file that is truncated, damaged, malicious or not a checkpoint."""

    def __init__(self, path: Path, got: str, *, expected: str = "", hint: str = ""):
        # The text may quote the file: keep it on one line of readable length.
        short = " ".join(got[:400].split()) + ("..." if len(got) > 400 else "")
        # With `expected` the file is complete but unsupported: downloading it again would not help.
        super().__init__(str(path), got=short, expected=expected, hint=hint or ("" if expected else REDOWNLOAD))


def check_count(path: Path, count: int) -> None:
    """Checks the number of tensors in a file before anything is made for each of them.

    Raises:
        BrokenFileError: there are more than in any checkpoint of a network with an optimizer.
    """
    if count > _TENSORS:
        raise BrokenFileError(path, f"{count:,} tensors", expected=f"up to {_TENSORS:,}")


_TENSORS = 1 << 15

REDOWNLOAD = "download or save the file again"
"""The hint for a damaged file."""


def json_object(path: Path, text: str | bytes, what: str) -> dict[str, Any]:
    """Returns the object in a JSON text.

    Raises:
        BrokenFileError: the text is too long, malformed, nested too deeply or not an object.
    """
    if len(text) > JSON_LIMIT:
        raise BrokenFileError(path, f"{what} of {len(text):,} bytes", expected=f"up to {JSON_LIMIT:,}")
    # Empty lists take thirty times the memory of their text.
    data = text.encode("utf-8", "replace") if isinstance(text, str) else text
    values = sum(data.count(mark) for mark in (b"[", b"{", b","))
    if values > _JSON_VALUES:
        raise BrokenFileError(path, f"{what} with {values:,} brackets and commas", expected=f"up to {_JSON_VALUES:,}")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BrokenFileError(path, f"{what} that is not JSON ({error})") from None
    if not isinstance(content, dict):
        raise BrokenFileError(path, f"{what} that is not a JSON object")
    return content


JSON_LIMIT = 1 << 24
_JSON_VALUES = 1 << 20
