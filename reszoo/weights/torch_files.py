"""PyTorch's two containers, read without PyTorch: the zip archive (since 1.6) and the pickles in a row before it."""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from reszoo.weights import pickles
from reszoo.weights.archives import checked_zip, read_member
from reszoo.weights.pickles import PickleRefusedError, inert
from reszoo.weights.tensors import BrokenFileError, Checkpoint, Tensor

MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
"""The pickle that opens a legacy file."""

_DTYPES = {
    **{"Float": "float32", "Double": "float64", "Half": "float16", "BFloat16": "bfloat16"},
    **{"Long": "int64", "Int": "int32", "Short": "int16", "Char": "int8", "Byte": "uint8", "Bool": "bool"},
}


class _Kind(NamedTuple):
    """The element type of a storage; no name where bytes are given their type later."""

    dtype: str


class _Storage(NamedTuple):
    key: str
    dtype: str
    elements: int
    offset: int
    """Elements before this view of the storage begins."""


@dataclass(frozen=True)
class _View:
    """A tensor as the pickle tells it: a window on a storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> _View:
    numbers = (offset, *shape, *stride)
    whole = all(isinstance(number, int) and not isinstance(number, bool) and number >= 0 for number in numbers)
    if not isinstance(storage, _Storage) or not whole or len(shape) != len(stride):
        raise PickleRefusedError("a tensor that is no window on a storage")
    if len(shape) > 32:
        raise PickleRefusedError(f"a tensor of {len(shape)} axes")
    last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    # A stride of zero would turn one stored number into any number of them.
    if math.prod(shape) and (last >= storage.elements or math.prod(shape) > storage.elements):
        raise PickleRefusedError(f"a tensor of shape {shape} in a storage of {storage.elements} elements")
    return _View(storage, offset, tuple(shape), tuple(stride))


def _rebuild_typed(
    storage: Any, offset: Any, shape: Any, stride: Any, _grad: Any, _hooks: Any, kind: Any, *_: Any
) -> Any:
    if isinstance(storage, _Storage) and isinstance(kind, _Kind):
        size = _item_size(kind.dtype)
        elements = storage.elements * _item_size(storage.dtype) // size
        storage = storage._replace(dtype=kind.dtype, elements=elements)
    return _rebuild_tensor(storage, offset, shape, stride)


def _first(first: Any = None, *_: Any) -> Any:
    return first


def _from_type(function: Any, _type: Any, arguments: Any, *_: Any) -> Any:
    if function not in (_rebuild_tensor, _rebuild_typed, _first) or not isinstance(arguments, tuple):
        raise PickleRefusedError("a tensor made by something that makes no tensors")
    return function(*arguments)


def _dict(items: Any = (), *_: Any) -> dict[Any, Any]:
    return {key: value for key, value in items if isinstance(key, (str, int))} if isinstance(items, list) else {}


NAMES: dict[str, Any] = {
    "collections.OrderedDict": _dict,
    "collections.defaultdict": lambda *_: {},
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v3": _rebuild_typed,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch._tensor._rebuild_from_type_v2": _from_type,
    "torch.nn.parameter.Parameter": _first,
    "torch.Tensor": _first,
    "torch.Size": _first,
    **{f"torch.{word}Storage": _Kind(dtype) for word, dtype in _DTYPES.items()},
    **{f"torch.cuda.{word}Storage": _Kind(dtype) for word, dtype in _DTYPES.items()},
    **{f"torch.{dtype}": _Kind(dtype) for dtype in _DTYPES.values()},
    "torch.storage.UntypedStorage": _Kind("uint8"),
    # Beside the weights there may be the state of a training run: told apart, never looked into.
    **dict.fromkeys(("torch.device", "argparse.Namespace", "types.SimpleNamespace", "pathlib.PosixPath"), inert),
    **dict.fromkeys(("numpy.dtype", "numpy.ndarray", "_codecs.encode"), inert),
    **{f"numpy.{core}.multiarray.{name}": inert for core in ("core", "_core") for name in ("scalar", "_reconstruct")},
    **{f"{module}.{name}": inert for module in ("builtins", "__builtin__") for name in ("set", "slice", "complex")},
}
"""Everything a checkpoint may name, and what stands for it here. Nothing else is accepted, and none is imported."""


def _storage(identifier: Any) -> _Storage:
    match identifier:
        case ("storage", _Kind(dtype), str(key), _, int(elements), *view) if elements >= 0:
            start = view[0][1] if view and isinstance(view[0], tuple) and len(view[0]) == 3 else 0
            if isinstance(start, int) and start >= 0:
                return _Storage(key, dtype, elements, start)
    raise PickleRefusedError("a storage of a kind that no checkpoint has")


def _item_size(dtype: str) -> int:
    return {"bool": 1, "uint8": 1, "int8": 1, "int16": 2, "float16": 2, "bfloat16": 2}.get(
        dtype, 4 if dtype in ("int32", "float32") else 8
    )


def _numpy_dtype(name: str, byteorder: str) -> Any:
    import numpy as np

    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name).newbyteorder("<" if byteorder == "little" else ">")


Stored = Callable[[str], bytes]
"""Returns the bytes of the storage with this key."""


def _tensor(view: _View, stored: Stored, byteorder: str) -> Tensor:
    def read() -> Any:
        import numpy as np

        dtype = _numpy_dtype(view.storage.dtype, byteorder)
        data = stored(view.storage.key)
        if dtype.name == "bfloat16" and byteorder != sys.byteorder:
            data = np.frombuffer(data, np.uint16).byteswap().tobytes()
        flat = np.frombuffer(data, dtype, count=len(data) // dtype.itemsize)
        flat = flat[view.storage.offset + view.offset :]
        strides = tuple(step * dtype.itemsize for step in view.stride)
        return np.lib.stride_tricks.as_strided(flat, view.shape, strides, writeable=False)

    return Tensor(view.shape, view.storage.dtype, read)


def read_zip(path: Path, key: str | None = None) -> Checkpoint:
    """Returns a PyTorch zip archive, opened.

    Raises:
        BrokenFileError: the archive or its pickle is damaged or made to harm.
    """
    archive = checked_zip(path)
    sizes = {info.filename: info.file_size for info in archive.infolist()}
    pickled = [name for name in sizes if name.rpartition("/")[2] == "data.pkl"]
    if len(pickled) != 1:
        raise BrokenFileError(path, f"a zip archive with {len(pickled)} members data.pkl", allowed="one")
    root = pickled[0].removesuffix("data.pkl")
    order = read_member(path, archive, f"{root}byteorder") if f"{root}byteorder" in sizes else b"little"
    byteorder = "big" if order == b"big" else "little"
    content = _load(path, io.BytesIO(read_member(path, archive, pickled[0])))

    @lru_cache(maxsize=1)
    def stored(key: str) -> bytes:
        # Read whole, so that its checksum is checked; the last one is kept for tensors that share it.
        return read_member(path, archive, f"{root}data/{key}")

    def fits(view: _View) -> bool:
        storage = view.storage
        held = sizes.get(f"{root}data/{storage.key}", -1)
        return (storage.offset + storage.elements) * _item_size(storage.dtype) <= held

    return _checkpoint(path, "PyTorch zip", content, key, fits, stored, byteorder)


def read_legacy(path: Path, key: str | None = None) -> Checkpoint:
    """Returns a PyTorch file of before 1.6, opened: five pickles, then the storages.

    Raises:
        BrokenFileError: the file is damaged, truncated or made to harm.
    """
    total = path.stat().st_size
    kinds: dict[str, str] = {}

    def persistent(identifier: Any) -> _Storage:
        storage = _storage(identifier)
        kinds[storage.key] = storage.dtype
        return storage

    with path.open("rb") as stream:
        _magic, _protocol, system = (_load(path, stream) for _ in range(3))
        content, keys = (_load(path, stream, persistent) for _ in range(2))
        byteorder = "big" if isinstance(system, dict) and system.get("little_endian") is False else "little"
        places: dict[str, tuple[int, int]] = {}
        for storage in keys if isinstance(keys, list) else ():
            head = stream.read(8)
            size = int.from_bytes(head, "little", signed=True) * _item_size(kinds.get(str(storage), "uint8"))
            start = stream.tell()
            if len(head) < 8 or size < 0 or start + size > total:
                raise BrokenFileError(path, f"a file of {total:,} bytes that ends within storage {str(storage)[:40]!r}")
            places[str(storage)] = (start, size)
            stream.seek(size, 1)

    @lru_cache(maxsize=1)
    def stored(key: str) -> bytes:
        start, size = places[key]
        with path.open("rb") as stream:
            stream.seek(start)
            data = stream.read(size)
        if len(data) < size:
            raise BrokenFileError(path, f"a file that ends within storage {key!r}")
        return data

    def fits(view: _View) -> bool:
        storage = view.storage
        held = places.get(storage.key, (0, -1))[1]
        return (storage.offset + storage.elements) * _item_size(storage.dtype) <= held

    return _checkpoint(path, "PyTorch legacy pickle", content, key, fits, stored, byteorder)


def _load(path: Path, stream: Any, persistent: Callable[[Any], Any] = _storage) -> Any:
    try:
        return pickles.load(stream, NAMES, persistent)
    except pickles.UnknownGlobalError as error:
        module = error.name.partition(".")[0]
        whole = "save model.state_dict() instead of the whole model"
        mend = "export it from TorchScript's model.state_dict()" if module == "__torch__" else whole
        raise BrokenFileError(path, str(error), allowed="tensors, numbers, text, dicts and lists", mend=mend) from None
    except PickleRefusedError as error:
        raise BrokenFileError(path, str(error)) from None


def _checkpoint(
    path: Path, container: str, content: Any, key: str | None, fits: Callable[[_View], bool], stored: Stored, order: str
) -> Checkpoint:
    where, found, notes = _state_dict(path, content, key)
    tensors = {}
    for name, view in found.items():
        if not fits(view):
            wanted = f"{view.storage.elements:,} elements of {view.storage.dtype}"
            raise BrokenFileError(path, f"tensor {name!r} in a storage that should hold {wanted} and does not")
        tensors[name] = _tensor(view, stored, order)
    return Checkpoint(path, container + (f", key {where!r}" if where else ""), tensors, notes=notes)


_PREFERRED = ("", "state_dict_ema", "model_ema", "ema", "state_dict", "model", "module", "net", "network", "weights")
"""Averaged weights come before the last ones, as in timm: they are what is published and evaluated."""


def _state_dict(path: Path, content: Any, key: str | None) -> tuple[str, dict[str, _View], tuple[str, ...]]:
    """The network's tensors, looked for in the dicts of up to three levels."""
    candidates = {where: tensors for where, tensors in _dicts(content, "", 3) if tensors}
    if key is not None and key not in candidates:
        allowed = ", ".join(map(repr, candidates)) or "a checkpoint with tensors"
        raise BrokenFileError(path, f"no tensors under key {key!r}", allowed=allowed, mend="choose one of them")
    where = key if key is not None else _preferred(candidates)
    if where is None:
        if not candidates:
            raise BrokenFileError(path, "no tensors", allowed="a state_dict", mend="save model.state_dict()")
        found = f"tensors under {', '.join(map(repr, [*candidates][:6]))}"
        raise BrokenFileError(path, found, allowed="one network", mend="say which with key=...")
    others = [other for other in candidates if other != where and _plain(other)]
    note = f"taken: {where!r}; also in the file: {', '.join(map(repr, others))} (choose with key=...)"
    return where, candidates[where], (note,) if others else ()


def _plain(where: str) -> bool:
    return where.rpartition(".")[2] in _PREFERRED


def _preferred(candidates: Mapping[str, Any]) -> str | None:
    for word in _PREFERRED:
        for where in candidates:
            if where.rpartition(".")[2] == word:
                return where
    return next(iter(candidates)) if len(candidates) == 1 else None


def _dicts(content: Any, where: str, levels: int) -> Any:
    if isinstance(content, dict) and levels:
        views = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, _View)}
        yield where, views
        for key, value in content.items():
            if isinstance(key, str) and "optim" not in key:
                yield from _dicts(value, f"{where}.{key}" if where else key, levels - 1)
