"""PyTorch's two file formats, read without PyTorch: the zip archive (since 1.6) and the legacy sequence of pickles."""

from __future__ import annotations

import io
import math
import sys
import zipfile
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

from reszoo.weights.formats import pickles
from reszoo.weights.formats.archives import checked_zip, read_member
from reszoo.weights.formats.checkpoint import ITEM_SIZES, BrokenFileError, Checkpoint, Tensor, check_count
from reszoo.weights.formats.pickles import Name, PickleRefusedError, Placeholder
from reszoo.weights.formats.torch_content import Modules, contents, modules_of
from reszoo.weights.formats.torch_globals import NAMES, OTHER_SIZES, Storage, View, storage_of


def _numpy_dtype(name: str, byteorder: str) -> Any:
    import numpy as np

    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name).newbyteorder("<" if byteorder == "little" else ">")


ReadStorage = Callable[[str], bytes]
"""Returns the bytes of the storage with this key."""


def _tensor(view: View, read_storage: ReadStorage, byteorder: str) -> Tensor:
    def read() -> Any:
        import numpy as np

        dtype = _numpy_dtype(view.storage.dtype, byteorder)
        data = read_storage(view.storage.key)
        if len(data) < (view.storage.offset + view.storage.elements) * dtype.itemsize:
            # A strided view of a shorter buffer would read the memory behind it.
            raise EOFError("the file was truncated after it was opened")
        if dtype.name == "bfloat16" and byteorder != sys.byteorder:
            data = np.frombuffer(data, np.uint16).byteswap().tobytes()
        flat = np.frombuffer(data, dtype, count=len(data) // dtype.itemsize)
        flat = flat[view.storage.offset + view.offset :]
        strides = tuple(step * dtype.itemsize for step in view.stride)
        return np.lib.stride_tricks.as_strided(flat, view.shape, strides, writeable=False)

    return Tensor(view.shape, view.storage.dtype, read)


def read_zip(path: Path) -> Checkpoint:
    """Returns the content of a PyTorch zip archive.

    Raises:
        BrokenFileError: the archive or its pickle is damaged or malicious.
    """
    archive = checked_zip(path)
    sizes = {info.filename: info.file_size for info in archive.infolist()}
    pickled = [name for name in sizes if name.rpartition("/")[2] == "data.pkl"]
    if len(pickled) != 1:
        raise BrokenFileError(path, f"a zip archive with {len(pickled)} members data.pkl", expected="one")
    root = pickled[0].removesuffix("data.pkl")
    order = read_member(path, archive, f"{root}byteorder", limit=9) if f"{root}byteorder" in sizes else b"little"
    if order not in (b"little", b"big"):
        raise BrokenFileError(path, f"numbers in the byte order {order!r}", expected="little, big")
    # A stored member is no longer than the file; a compressed one could be.
    is_stored = archive.getinfo(pickled[0]).compress_type == zipfile.ZIP_STORED
    limit = max(pickles.LIMIT, path.stat().st_size if is_stored else 0)
    content = _load(path, io.BytesIO(read_member(path, archive, pickled[0], limit=limit)), limit=limit)

    @lru_cache(maxsize=1)
    def read_storage(key: str) -> bytes:
        # Reading the whole member verifies its checksum; the last one is cached for tensors that share it.
        return read_member(path, archive, f"{root}data/{key}")

    storages = {
        name.removeprefix(f"{root}data/"): size for name, size in sizes.items() if name.startswith(f"{root}data/")
    }
    scripted = any(name.startswith(f"{root}code/") for name in sizes)
    container, modules = ("TorchScript", modules_of(path, archive, root)) if scripted else ("PyTorch zip", None)
    return checkpoint_of(path, container, content, storages, read_storage, order.decode(), modules)


def read_legacy(path: Path) -> Checkpoint:
    """Returns the content of a file written by PyTorch before 1.6: five pickles, then the storages.

    Raises:
        BrokenFileError: the file is damaged, truncated or malicious.
    """
    with path.open("rb") as stream:
        content, places = _legacy(path, stream, path.stat().st_size)

    @lru_cache(maxsize=1)
    def read_storage(key: str) -> bytes:
        with path.open("rb") as stream:
            stream.seek(places[key][0])
            return stream.read(places[key][1])

    sizes = {key: size for key, (_, size) in places.items()}
    # Legacy files are little-endian on every machine.
    return checkpoint_of(path, "PyTorch legacy pickle", content, sizes, read_storage, "little")


def _legacy(path: Path, stream: IO[bytes], total: int) -> tuple[Any, dict[str, tuple[int, int]]]:
    """Returns the object in a legacy file of `total` bytes, and the offset and size of every storage in it."""
    kinds: dict[str, int] = {}

    def persistent(identifier: Any) -> Storage | Placeholder | Name:
        storage = storage_of(identifier)
        if isinstance(storage, Name):
            return storage
        if isinstance(storage, Storage):
            kinds[storage.key] = ITEM_SIZES[storage.dtype]
            return storage
        # An unsupported type is skipped, which takes its size.
        kind, key = identifier[1].name, identifier[2]
        if kind not in OTHER_SIZES or not isinstance(key, str):
            raise PickleRefusedError(f"tensors of type {kind[:80]}, which a legacy file must not hold")
        kinds[key] = OTHER_SIZES[kind]
        return storage

    parts = (_load(path, stream, persistent, limit=total) for _ in range(5))
    _magic, _protocol, _system, content, keys = parts
    places: dict[str, tuple[int, int]] = {}
    if not isinstance(keys, list) or not all(isinstance(storage, str) for storage in keys):
        raise BrokenFileError(path, "a legacy file without a list of its storages")
    for storage in keys:
        head = stream.read(8)
        size = int.from_bytes(head, "little", signed=True) * kinds.get(storage, 1)
        start = stream.tell()
        if len(head) < 8 or size < 0 or start + size > total:
            raise BrokenFileError(path, f"a file of {total:,} bytes that ends within storage {storage[:40]!r}")
        places[storage] = start, size
        stream.seek(size, 1)
    return content, places


def read_pickle(path: Path) -> Checkpoint:
    """Returns the content of a plain pickle: arrays of NumPy, and tensors, whose storages are legacy files in it.

    Raises:
        BrokenFileError: the pickle is damaged, truncated or malicious.
    """
    stored: dict[str, bytes] = {}
    # A pickle may refer to the same bytes any number of times: they are kept, so that their identities are their own.
    storages: dict[int, tuple[Any, Storage | Placeholder]] = {}

    def storage(data: Any = b"", *_: Any) -> Storage | Placeholder:
        if id(data) not in storages:
            storages[id(data)] = data, read_one(data.encode("latin-1") if isinstance(data, str) else data)
        return storages[id(data)][1]

    def read_one(data: bytes) -> Storage | Placeholder:
        content, places = _legacy(path, io.BytesIO(data), len(data))
        if not isinstance(content, Storage) or content.key not in places:
            return Placeholder("torch.storage._load_from_bytes")
        start, size = places[content.key]
        key = str(len(stored))
        stored[key] = data[start : start + size]
        return content._replace(key=key)

    names = {**NAMES, "torch.storage._load_from_bytes": storage}
    with path.open("rb") as stream:
        content = _load(path, stream, limit=path.stat().st_size, names=names)
    sizes = {key: len(data) for key, data in stored.items()}
    return checkpoint_of(path, "pickle", content, sizes, stored.__getitem__, "little")


def _load(
    path: Path,
    stream: Any,
    persistent: Callable[[Any], Any] = storage_of,
    *,
    limit: int = pickles.LIMIT,
    names: Mapping[str, Any] = NAMES,
) -> Any:
    try:
        return pickles.load(stream, names, persistent, limit=limit)
    except pickles.ForbiddenNameError as error:
        hint = "save model.state_dict() instead"
        raise BrokenFileError(path, str(error), expected="tensors, numbers, text, dicts and lists", hint=hint) from None
    except PickleRefusedError as error:
        raise BrokenFileError(path, str(error)) from None


def checkpoint_of(
    path: Path,
    container: str,
    content: Any,
    sizes: Mapping[str, int],
    read_storage: ReadStorage,
    order: str,
    modules: Modules | None = None,
) -> Checkpoint:
    """Returns the tensors in the content of a file, after the storages behind them were checked."""
    parts = contents(content, modules)
    if parts.quantized:
        got, hint = f"a quantized network ({parts.quantized[0]!r})", "save the network before its quantization"
        raise BrokenFileError(path, got, expected="weights in floating point", hint=hint)
    tensors = {}
    check_count(path, len(parts.tensors))
    for name, view in parts.tensors.items():
        if isinstance(view, View):
            if fault := _fault(view, sizes.get(view.storage.key)):
                raise BrokenFileError(path, f"tensor {name!r} {fault}")
            tensors[name] = _tensor(view, read_storage, order)
        else:
            tensors[name] = view
    if not tensors:
        raise BrokenFileError(path, f"no tensors{parts.description()}", expected="a network's weights")
    return Checkpoint(path, container, tensors, keys=parts.keys, attributes=parts.attributes, aside=parts.aside)


def _fault(view: View, available: int | None) -> str:
    """Returns why a view is invalid, or an empty string; `available` counts the bytes of its storage in the file."""
    storage, size = view.storage, math.prod(view.shape)
    if available is None:
        return f"in storage {storage.key[:40]!r}, which is not in the file"
    if (storage.offset + storage.elements) * ITEM_SIZES[storage.dtype] > available:
        return f"in a storage of {storage.elements:,} elements of {storage.dtype} that has only {available:,} bytes"
    last = view.offset + sum((axis - 1) * step for axis, step in zip(view.shape, view.stride, strict=True))
    # A stride of zero repeats a stored number; how many numbers a file may claim is checked for all its tensors. NumPy
    # limits the axes of an empty array too.
    fits = last < storage.elements if size else math.prod(filter(None, view.shape)) < 1 << 60
    return "" if fits else f"of shape {view.shape} in a storage of {storage.elements:,} elements"
