"""Writes `.safetensors` and PyTorch's `.pth` (without PyTorch), atomically."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reszoo.files import atomic_write

STORAGES = {
    **{"float32": "FloatStorage", "float64": "DoubleStorage", "float16": "HalfStorage", "bfloat16": "BFloat16Storage"},
    **{"int64": "LongStorage", "int32": "IntStorage", "int16": "ShortStorage", "int8": "CharStorage"},
    **{"uint8": "ByteStorage", "bool": "BoolStorage"},
}


def write_safetensors(arrays: Mapping[str, Any], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Writes arrays as a safetensors file."""
    import numpy as np
    from safetensors.numpy import save_file

    with atomic_write(path) as temporary:
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, temporary, metadata)


def write_torch(arrays: Mapping[str, Any], path: Path) -> None:
    """Writes arrays as a state_dict in a PyTorch zip file, which `torch.load(path, weights_only=True)` reads."""
    import numpy as np

    with atomic_write(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", _pickle(arrays))
        archive.writestr("archive/byteorder", "little")
        for number, array in enumerate(arrays.values()):
            data = np.ascontiguousarray(array)
            archive.writestr(f"archive/data/{number}", data.astype(data.dtype.newbyteorder("<")).tobytes())
        archive.writestr("archive/version", "3\n")


def _pickle(arrays: Mapping[str, Any]) -> bytes:
    """Returns the pickle of an OrderedDict of tensors, built from opcodes: `pickle` would need PyTorch's classes."""
    parts = [b"\x80\x02", _name("collections", "OrderedDict"), b")R("]
    for number, (name, array) in enumerate(arrays.items()):
        stride = 1
        strides: list[int] = []
        for size in reversed(array.shape):
            strides.insert(0, stride)
            stride *= size
        storage = _tuple(
            _text("storage"),
            _name("torch", STORAGES[array.dtype.name]),
            _text(str(number)),
            _text("cpu"),
            _int(array.size),
        )
        shape, steps = _tuple(*map(_int, array.shape)), _tuple(*map(_int, strides))
        hooks = _name("collections", "OrderedDict") + b")R"
        arguments = _tuple(storage + b"Q", _int(0), shape, steps, b"\x89", hooks)
        parts += [_text(name), _name("torch._utils", "_rebuild_tensor_v2"), arguments, b"R"]
    return b"".join([*parts, b"u."])


def _name(module: str, name: str) -> bytes:
    return b"c%b\n%b\n" % (module.encode(), name.encode())


def _text(text: str) -> bytes:
    data = text.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def _int(number: int) -> bytes:
    if number < 1 << 31:
        return b"J" + struct.pack("<i", number)
    return b"\x8a\x08" + struct.pack("<q", number)


def _tuple(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"
