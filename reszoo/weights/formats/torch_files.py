"""PyTorch's two file formats, read without PyTorch: the zip archive (since 1.6) and the legacy sequence of pickles."""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from reszoo.weights.formats import pickles
from reszoo.weights.formats.archives import checked_zip, read_member
from reszoo.weights.formats.checkpoint import ITEM_SIZES, BrokenFileError, Checkpoint, Tensor
from reszoo.weights.formats.pickles import PickleRefusedError
from reszoo.weights.formats.torch_globals import NAMES, Storage, View, storage_of

MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
"""The first bytes of a legacy file: a pickle of the magic number."""


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


def read_zip(path: Path, key: str | None = None) -> Checkpoint:
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
    content = _load(path, io.BytesIO(read_member(path, archive, pickled[0], limit=pickles.LIMIT)))

    @lru_cache(maxsize=1)
    def read_storage(key: str) -> bytes:
        # Reading the whole member verifies its checksum; the last one is cached for tensors that share it.
        return read_member(path, archive, f"{root}data/{key}")

    storages = {
        name.removeprefix(f"{root}data/"): size for name, size in sizes.items() if name.startswith(f"{root}data/")
    }
    return _checkpoint(path, "PyTorch zip", content, key, storages, read_storage, order.decode())


def read_legacy(path: Path, key: str | None = None) -> Checkpoint:
    """Returns the content of a file written by PyTorch before 1.6: five pickles, then the storages.

    Raises:
        BrokenFileError: the file is damaged, truncated or malicious.
    """
    total = path.stat().st_size
    kinds: dict[str, str] = {}

    def persistent(identifier: Any) -> Storage:
        storage = storage_of(identifier)
        kinds[storage.key] = storage.dtype
        return storage

    with path.open("rb") as stream:
        _magic, _protocol, _system, content, keys = (_load(path, stream, persistent) for _ in range(5))
        offsets: dict[str, int] = {}
        sizes: dict[str, int] = {}
        if not isinstance(keys, list) or not all(isinstance(storage, str) for storage in keys):
            raise BrokenFileError(path, "a legacy file without a list of its storages")
        for storage in keys:
            head = stream.read(8)
            size = int.from_bytes(head, "little", signed=True) * ITEM_SIZES[kinds.get(storage, "uint8")]
            start = stream.tell()
            if len(head) < 8 or size < 0 or start + size > total:
                raise BrokenFileError(path, f"a file of {total:,} bytes that ends within storage {storage[:40]!r}")
            offsets[storage] = start
            sizes[storage] = size
            stream.seek(size, 1)

    @lru_cache(maxsize=1)
    def read_storage(key: str) -> bytes:
        with path.open("rb") as stream:
            stream.seek(offsets[key])
            return stream.read(sizes[key])

    # Legacy files are little-endian on every machine.
    return _checkpoint(path, "PyTorch legacy pickle", content, key, sizes, read_storage, "little")


def _load(path: Path, stream: Any, persistent: Callable[[Any], Any] = storage_of) -> Any:
    try:
        return pickles.load(stream, NAMES, persistent)
    except pickles.UnknownGlobalError as error:
        module = error.name.partition(".")[0]
        hint = "save model.state_dict() instead of the whole model"
        if module == "__torch__":
            hint = "load it with TorchScript and save its model.state_dict()"
        raise BrokenFileError(path, str(error), expected="tensors, numbers, text, dicts and lists", hint=hint) from None
    except PickleRefusedError as error:
        raise BrokenFileError(path, str(error)) from None


def _checkpoint(
    path: Path,
    container: str,
    content: Any,
    key: str | None,
    sizes: Mapping[str, int],
    read_storage: ReadStorage,
    order: str,
) -> Checkpoint:
    where, views, notes = _state_dict(path, content, key)
    tensors = {}
    for name, view in views.items():
        if fault := _fault(view, sizes.get(view.storage.key)):
            raise BrokenFileError(path, f"tensor {name!r} {fault}")
        tensors[name] = _tensor(view, read_storage, order)
    return Checkpoint(path, container + (f", key {where!r}" if where else ""), tensors, notes=notes)


def _fault(view: View, available: int | None) -> str:
    """Returns why a view is invalid, or an empty string; `available` counts the bytes of its storage in the file."""
    storage, size = view.storage, math.prod(view.shape)
    if available is None:
        return f"in storage {storage.key[:40]!r}, which is not in the file"
    if (storage.offset + storage.elements) * ITEM_SIZES[storage.dtype] > available:
        return f"in a storage of {storage.elements:,} elements of {storage.dtype} that has only {available:,} bytes"
    last = view.offset + sum((axis - 1) * step for axis, step in zip(view.shape, view.stride, strict=True))
    if size:
        # A stride of zero would turn one stored number into any number of them.
        fits = last < storage.elements and size <= storage.elements
    else:
        # NumPy limits the axes of an empty array too.
        fits = math.prod(filter(None, view.shape)) < 1 << 60
    return "" if fits else f"of shape {view.shape} in a storage of {storage.elements:,} elements"


_PREFERRED = ("state_dict_ema", "model_ema", "ema", "state_dict", "model", "module", "net", "network", "weights", "")
"""Keys of a network, in order of preference. Averaged weights come first, as in timm: they are what is evaluated."""


def _state_dict(path: Path, content: Any, key: str | None) -> tuple[str, dict[str, View], tuple[str, ...]]:
    """Returns the key of the network, its tensors and notes; dicts are searched three levels deep."""
    candidates = dict(_dicts(content))
    ranked = sorted(filter(_usual, candidates), key=_rank)
    if not candidates:
        raise BrokenFileError(path, "no tensors", expected="a state_dict", hint="save model.state_dict()")
    if key is None and not ranked and len(candidates) > 1:
        got = f"tensors under {', '.join(map(repr, [*candidates][:6]))}"
        raise BrokenFileError(path, got, expected="one network", hint="choose one with key=...")
    where = key if key is not None else [*ranked, *candidates][0]
    if where not in candidates:
        expected = ", ".join(map(repr, [*candidates][:6]))
        raise BrokenFileError(path, f"no tensors under key {key!r}", expected=expected, hint="choose one of them")
    others = ", ".join(repr(other) + ("" if other else " (the top level)") for other in ranked[:6] if other != where)
    notes = (f"read from key {where!r}; also in the file: {others} (choose with key=...)",) if others else ()
    return where, candidates[where], notes


def _rank(where: str) -> int:
    """Returns the rank of a key; 0 is preferred most."""
    return min(_PREFERRED.index(part) for part in where.split(".") if part in _PREFERRED)


def _usual(where: str) -> bool:
    return where.rpartition(".")[2] in _PREFERRED


def _dicts(content: Any) -> Iterator[tuple[str, dict[str, View]]]:
    """Yields key and content of the dicts of tensors, outer ones first, each once even if referenced repeatedly."""
    level, seen = [("", content)], {id(content)}
    for _ in range(3):
        inner = []
        for where, items in level:
            if not isinstance(items, dict):
                continue
            named = {key: value for key, value in items.items() if isinstance(key, str)}
            if views := {key: value for key, value in named.items() if isinstance(value, View)}:
                yield where, views
            for key, value in named.items():
                if isinstance(value, dict) and "optim" not in key and len(key) < 100 and id(value) not in seen:
                    seen.add(id(value))
                    inner.append((f"{where}.{key}" if where else key, value))
        level = inner
