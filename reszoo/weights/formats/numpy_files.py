"""NumPy's files: arrays by name in `.npz`, one array in `.npy`. Objects in them are refused."""

from __future__ import annotations

import ast
import math
import struct
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import Any

from reszoo.weights.formats.archives import checked_zip, read_member
from reszoo.weights.formats.checkpoint import ITEM_SIZES, BrokenFileError, Checkpoint, Tensor
from reszoo.weights.formats.numpy_pickles import is_shape, type_of

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


def is_npz(archive: zipfile.ZipFile) -> bool:
    """Whether an archive holds arrays of NumPy."""
    names = archive.namelist()
    return bool(names) and all(name.endswith(".npy") for name in names)
