"""Flax's msgpack files: maps of arrays, read without msgpack or Flax. Other content is refused."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import IO, Any

from reszoo.weights.formats.checkpoint import ITEM_SIZES, BrokenFileError, Checkpoint, Tensor, check_count, stored_array
from reszoo.weights.formats.numpy_files import is_shape

_DEPTH = 64
_ITEMS = 1 << 20
"""Most values in a file."""

_ARRAY, _SCALAR = 1, 3
"""Flax's extension types."""


class _DamagedError(Exception):
    """A file that is not valid msgpack."""


def read_msgpack(path: Path) -> Checkpoint:
    """Returns the arrays in a msgpack file of Flax by their paths, such as `params/conv/kernel`.

    Raises:
        BrokenFileError: the file is damaged, or has values that Flax does not write.
    """
    tensors: dict[str, Tensor] = {}
    with path.open("rb") as stream:
        reader = _Reader(path, stream, tensors)
        try:
            reader.value("", 0)
            if stream.tell() != reader.total:
                raise _DamagedError("more bytes than values")
        except (_DamagedError, struct.error, UnicodeDecodeError, IndexError) as error:
            raise BrokenFileError(path, f"a damaged or truncated msgpack file of Flax ({error})") from None
    if not tensors:
        raise BrokenFileError(path, "a msgpack file without arrays", expected="weights saved by Flax")
    return Checkpoint(path, "Flax msgpack", tensors)


class _Reader:
    """Reads values from a stream; arrays are added to `tensors` and left in the file."""

    def __init__(self, path: Path, stream: IO[bytes], tensors: dict[str, Tensor]):
        self.total = path.stat().st_size
        self._path, self._stream, self._tensors = path, stream, tensors
        self._items = 0

    def _read(self, size: int) -> bytes:
        # Checked before anything is allocated.
        if size > self.total - self._stream.tell():
            raise _DamagedError("a length beyond the end of the file")
        return self._stream.read(size)

    def _uint(self, size: int) -> int:
        return int.from_bytes(self._read(size), "big")

    def value(self, where: str, depth: int) -> Any:
        """Returns a text or a number; of maps, lists and arrays None, after their content was read."""
        self._items += 1
        if depth > _DEPTH or self._items > _ITEMS or len(where) > 1000:
            raise _DamagedError("too many values, or nested too deeply")
        code = self._uint(1)
        if code < 0x80:
            return code
        if code >= 0xE0:
            return code - 256
        if code < 0xC0:
            kind, length = ("map", code & 15) if code < 0x90 else ("list", code & 15)
            kind, length = ("text", code & 31) if code >= 0xA0 else (kind, length)
            return self._sized(kind, length, where, depth)
        return self._coded(code, where, depth)

    def _coded(self, code: int, where: str, depth: int) -> Any:
        if code in (0xC0, 0xC2, 0xC3):
            return {0xC0: None, 0xC2: False, 0xC3: True}[code]
        if code in (0xCA, 0xCB):
            return struct.unpack(">f" if code == 0xCA else ">d", self._read(4 if code == 0xCA else 8))[0]
        if 0xCC <= code <= 0xD3:
            size = 1 << (code - 0xCC) % 4
            return int.from_bytes(self._read(size), "big", signed=code >= 0xD0)
        if 0xD4 <= code <= 0xD8:
            return self._extension(1 << (code - 0xD4), where)
        sizes: dict[int, tuple[str, int]] = {
            **{0xC4: ("bytes", 1), 0xC5: ("bytes", 2), 0xC6: ("bytes", 4)},
            **{0xC7: ("extension", 1), 0xC8: ("extension", 2), 0xC9: ("extension", 4)},
            **{0xD9: ("text", 1), 0xDA: ("text", 2), 0xDB: ("text", 4)},
            **{0xDC: ("list", 2), 0xDD: ("list", 4), 0xDE: ("map", 2), 0xDF: ("map", 4)},
        }
        if code not in sizes:
            raise _DamagedError(f"the code {code:#x}")
        kind, width = sizes[code]
        return self._sized(kind, self._uint(width), where, depth)

    def _sized(self, kind: str, length: int, where: str, depth: int) -> Any:
        if kind == "text":
            return self._read(length).decode()
        if kind == "bytes":
            self._read(length)
        elif kind == "extension":
            self._extension(length, where)
        elif kind == "list":
            for number in range(length):
                self.value(f"{where}/{number}", depth + 1)
        else:
            for _ in range(length):
                key = self.value(where, depth + 1)
                if not isinstance(key, (str, int)):
                    raise _DamagedError("a key that is not text")
                self.value(f"{where}/{key}" if where else str(key), depth + 1)
        return None

    def _extension(self, length: int, where: str) -> None:
        kind, start = self._uint(1), self._stream.tell()
        if length > self.total - start:
            raise _DamagedError("a length beyond the end of the file")
        if kind in (_ARRAY, _SCALAR):
            check_count(self._path, len(self._tensors) + 1)
            self._tensors[where] = self._array(start + length)
        self._stream.seek(start + length)

    def _array(self, end: int) -> Tensor:
        """Returns an array, stored as a list of shape, type and bytes."""
        if self._uint(1) != 0x93:
            raise _DamagedError("an array without shape, type and numbers")
        axes = self._uint(1)
        if not 0x90 <= axes <= 0x9F:
            raise _DamagedError("an array without a shape")
        shape = tuple(self._number() for _ in range(axes & 15))
        dtype = self.value("", _DEPTH)
        width = {0xC4: 1, 0xC5: 2, 0xC6: 4}.get(self._uint(1))
        if width is None or dtype not in ITEM_SIZES or not is_shape(shape):
            raise _DamagedError(f"an array of type {str(dtype)[:20]!r}")
        size, offset = self._uint(width), self._stream.tell()
        if math.prod(shape) * ITEM_SIZES[dtype] != size or offset + size != end:
            raise _DamagedError(f"an array of shape {shape} in {size:,} bytes")
        return Tensor(shape, dtype, stored_array(self._path, shape, dtype, offset))

    def _number(self) -> Any:
        return self.value("", _DEPTH)
