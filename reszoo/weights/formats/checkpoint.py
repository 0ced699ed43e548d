"""What a checkpoint file holds: named tensors that are read when they are placed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from reszoo.errors import ReszooError

ITEM_SIZES = {
    **{"bool": 1, "uint8": 1, "int8": 1, "uint16": 2, "int16": 2, "uint32": 4, "int32": 4, "uint64": 8, "int64": 8},
    **{"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8},
}
"""The types that a checkpoint's numbers may have, and the bytes of one number."""


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

    def __init__(self, path: Path, found: str, *, expected: str = "", hint: str = ""):
        # What is found may quote the file: it stays one line of a length that can be read.
        short = " ".join(found[:400].split()) + ("..." if len(found) > 400 else "")
        # What is allowed says what is wrong with a file that is whole: fetching it again would not help.
        super().__init__(str(path), got=short, expected=expected, hint=hint or ("" if expected else MEND))


MEND = "download or save the file again"
"""What helps where a file is damaged."""


def json_object(path: Path, text: str | bytes, what: str) -> dict[str, Any]:
    """Returns the object that a JSON text holds.

    Raises:
        BrokenFileError: it is too long, damaged, nested too deep or no object.
    """
    # A list of empty lists takes twenty times the memory of its text.
    if len(text) > JSON_LIMIT:
        raise BrokenFileError(path, f"{what} of {len(text):,} bytes", expected=f"up to {JSON_LIMIT:,}")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BrokenFileError(path, f"{what} that is not JSON ({error})") from None
    if not isinstance(content, dict):
        raise BrokenFileError(path, f"{what} that is no JSON object")
    return content


JSON_LIMIT = 1 << 24
