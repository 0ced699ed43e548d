"""NumPy's files and arrays in pickles, read from their bytes; objects in them are refused."""

from __future__ import annotations

import ast
import math
import re
import struct
from functools import lru_cache
from pathlib import Path
from typing import Any

from reszoo.weights.formats.archives import checked_zip, read_member
from reszoo.weights.formats.checkpoint import ITEM_SIZES, BrokenFileError, Checkpoint, Tensor

_CODES = {
    **{f"f{size}": f"float{8 * size}" for size in (2, 4, 8)},
    **{f"i{size}": f"int{8 * size}" for size in (1, 2, 4, 8)},
    **{f"u{size}": f"uint{8 * size}" for size in (1, 2, 4, 8)},
    **{"b1": "bool", "?": "bool"},
}


def type_of(code: Any) -> tuple[str, str] | None:
    """Returns name and byte order (`<`, `>`) of an element type such as `<f4`, or None for an unsupported one."""
    match = re.fullmatch(r"([<>|=]?)(\w\d?|\?)", code) if isinstance(code, str) else None
    if match is None or match[2] not in _CODES:
        return None
    return _CODES[match[2]], ">" if match[1] == ">" else "<"


class ElementType:
    """A `numpy.dtype`."""

    def __init__(self, code: Any = None, *_: Any):
        self.code = code
        self.order = "<"

    def fill(self, state: Any) -> None:
        """Takes the byte order from a state `(version, order, ...)`."""
        if isinstance(state, tuple) and len(state) > 1 and state[1] == ">":
            self.order = ">"

    def type(self) -> tuple[str, str] | None:
        """Returns name and byte order, or None for an unsupported type."""
        described = type_of(self.code)
        return (described[0], self.order if described[1] == "<" else ">") if described else None


class PickledArray:
    """A `numpy.ndarray`: shape, type and bytes, all in the pickle."""

    def __init__(self, *_: Any):
        self._shape: Any = None
        self._type: Any = None
        self._fortran = False
        self._data: Any = b""

    def fill(self, state: Any) -> None:
        """Takes shape, type and bytes from a state `(version, shape, type, is in Fortran's order, bytes)`."""
        if isinstance(state, tuple) and len(state) == 5:
            _, self._shape, self._type, self._fortran, self._data = state

    def tensor(self) -> Tensor | None:
        """Returns the array, or None if it is not a complete array of numbers."""
        described = self._type.type() if isinstance(self._type, ElementType) else None
        shape, data, fortran = self._shape, self._data, bool(self._fortran)
        if described is None or not isinstance(data, (bytes, bytearray, str)) or not is_shape(shape):
            return None
        dtype, order = described
        if math.prod(shape) * ITEM_SIZES[dtype] != len(data):
            return None

        def read() -> Any:
            import numpy as np

            numbers = data.encode("latin-1", "replace") if isinstance(data, str) else data
            array = np.frombuffer(numbers, np.dtype(dtype).newbyteorder(order))  # type: ignore[arg-type]
            return array.reshape(shape, order="F" if fortran else "C")

        return Tensor(shape, dtype, read)


def is_shape(shape: Any) -> bool:
    """Returns whether a value is the shape of an array that NumPy can hold."""
    if not isinstance(shape, tuple) or len(shape) > 32:
        return False
    # NumPy limits the axes of an empty array too.
    is_whole = all(isinstance(axis, int) and not isinstance(axis, bool) and 0 <= axis < 1 << 60 for axis in shape)
    return is_whole and math.prod(filter(None, shape)) < 1 << 60


def _from_buffer(data: Any = b"", dtype: Any = None, shape: Any = (), order: Any = "C", *_: Any) -> PickledArray:
    array = PickledArray()
    array.fill((1, shape, dtype, order == "F", data))
    return array


def _text(text: Any = "", *_: Any) -> str:
    """Returns the text of `_codecs.encode(text, "latin1")`, as bytes are written in protocols 0 to 2."""
    return text if isinstance(text, str) else ""


def _scalar(*_: Any) -> None:
    """Stands for a number of NumPy; no weights are stored so."""


NUMPY: dict[str, Any] = {
    "numpy.dtype": ElementType,
    "numpy.ndarray": PickledArray,
    "_codecs.encode": _text,
    **{f"numpy.{core}.multiarray.scalar": _scalar for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray._reconstruct": PickledArray for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": _from_buffer for core in ("core", "_core")},
}
"""Names of NumPy in a pickle -> their replacements."""


MAGIC = b"\x93NUMPY"

_HEADER = 1 << 16
"""Longest header of an array, in bytes."""


def read_npz(path: Path) -> Checkpoint:
    """Returns the arrays in a `.npz`; a path `a/b` in a name separates layers as a dot does.

    Raises:
        BrokenFileError: the file is damaged or malicious.
    """
    archive = checked_zip(path)
    tensors: dict[str, Tensor] = {}

    @lru_cache(maxsize=1)
    def content(member: str) -> bytes:
        return read_member(path, archive, member)

    for member in archive.namelist():
        name = member.removesuffix(".npy")
        if name == member:
            raise BrokenFileError(path, f"the member {member!r} between arrays of NumPy", expected="members *.npy")
        try:
            with archive.open(member) as stream:
                head = stream.read(_HEADER)
        except Exception as error:
            raise BrokenFileError(path, f"a damaged member {member!r} ({error})") from None
        size = archive.getinfo(member).file_size
        if tensor := _tensor(path, name, head, size, lambda member=member: content(member)):
            tensors[name] = tensor
    return _checkpoint(path, "NumPy .npz", tensors)


def read_npy(path: Path) -> Checkpoint:
    """Returns the array in a `.npy`.

    Raises:
        BrokenFileError: the file is damaged or malicious.
    """
    with path.open("rb") as stream:
        head = stream.read(_HEADER)
    tensor = _tensor(path, path.stem, head, path.stat().st_size, path.read_bytes)
    return _checkpoint(path, "NumPy .npy", {path.stem: tensor} if tensor else {})


def _checkpoint(path: Path, container: str, tensors: dict[str, Tensor]) -> Checkpoint:
    if not tensors:
        raise BrokenFileError(path, f"no arrays of numbers ({container})", expected="a network's weights")
    return Checkpoint(path, container, tensors)


def _tensor(path: Path, name: str, head: bytes, size: int, content: Any) -> Tensor | None:
    """Returns an array from its header, or None for one of text."""
    broken = BrokenFileError(path, f"array {name!r} with a damaged header")
    if not head.startswith(MAGIC) or len(head) < 12:
        raise broken
    wide = head[6] > 1
    start = 12 if wide else 10
    end = start + struct.unpack_from("<I" if wide else "<H", head, 8)[0]
    try:
        header = ast.literal_eval(head[start:end].decode("latin-1"))
        code, fortran, shape = header["descr"], bool(header["fortran_order"]), header["shape"]
    except (ValueError, SyntaxError, KeyError, TypeError, MemoryError, RecursionError):
        raise broken from None
    if isinstance(code, str) and code.lstrip("<>|=")[:1] in ("U", "S"):
        return None
    described = type_of(code)
    if described is None:
        what = "objects" if "O" in str(code) else f"the type {str(code)[:40]!r}"
        raise BrokenFileError(path, f"array {name!r} of {what}", expected="arrays of numbers")
    dtype, order = described
    if not is_shape(shape) or end + math.prod(shape) * ITEM_SIZES[dtype] != size:
        raise BrokenFileError(path, f"array {name!r} of shape {str(shape)[:60]} in {size:,} bytes")

    def read() -> Any:
        import numpy as np

        stored = np.dtype(dtype).newbyteorder(order)  # type: ignore[arg-type]
        array = np.frombuffer(content(), stored, count=math.prod(shape), offset=end)
        return array.reshape(shape, order="F" if fortran else "C")

    return Tensor(shape, dtype, read)
