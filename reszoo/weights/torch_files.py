"""PyTorch's two containers, read without PyTorch: the zip archive (since 1.6) and the pickles in a row before it."""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from reszoo.weights import pickles
from reszoo.weights.archives import checked_zip, read_member
from reszoo.weights.pickles import PickleRefusedError, inert
from reszoo.weights.tensors import ITEM_SIZES, BrokenFileError, Checkpoint, Tensor

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
    if not isinstance(storage, _Storage) or not isinstance(shape, tuple) or not isinstance(stride, tuple):
        raise PickleRefusedError("a tensor that is no window on a storage")
    if len(shape) != len(stride) or len(shape) > 32:
        raise PickleRefusedError(f"a tensor of {len(shape)} axes with {len(stride)} steps")
    if not all(_whole(number) for number in (offset, *shape, *stride)):
        raise PickleRefusedError("a tensor with sizes that are no whole numbers")
    size = math.prod(shape)
    last = offset + sum((axis - 1) * step for axis, step in zip(shape, stride, strict=True))
    # A stride of zero would turn one stored number into any number of them; NumPy minds the axes of an empty array too.
    held = last < storage.elements and size <= storage.elements if size else math.prod(filter(None, shape)) < 1 << 60
    if not held:
        raise PickleRefusedError(f"a tensor of shape {shape} in a storage of {storage.elements:,} elements")
    return _View(storage, offset, shape, stride)


def _whole(number: Any) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 1 << 60


def _rebuild_typed(
    storage: Any, offset: Any, shape: Any, stride: Any, _grad: Any, _hooks: Any, kind: Any, *_: Any
) -> Any:
    if not isinstance(storage, _Storage) or storage.offset or not isinstance(kind, _Kind):
        raise PickleRefusedError("a tensor that is no window on a storage")
    elements = storage.elements * ITEM_SIZES[storage.dtype] // ITEM_SIZES[kind.dtype]
    return _rebuild_tensor(storage._replace(dtype=kind.dtype, elements=elements), offset, shape, stride)


def _first(first: Any = None, *_: Any) -> Any:
    return first


def _from_type(function: Any, _type: Any, arguments: Any, *_: Any) -> Any:
    if function not in (_rebuild_tensor, _rebuild_typed, _first) or not isinstance(arguments, tuple):
        raise PickleRefusedError("a tensor made by something that makes no tensors")
    return function(*arguments)


def _dict(items: Any = (), *_: Any) -> dict[Any, Any]:
    """An ordered dict: of Python 3 it is made empty, of Python 2 from a list of pairs."""
    made = {key: value for key, value in items if isinstance(key, str)} if isinstance(items, list) else {}
    if isinstance(items, list):
        # Used up: a million dicts of one list of a million pairs would never end.
        items.clear()
    return made


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
    **{f"torch.{dtype}": _Kind(dtype) for dtype in ITEM_SIZES},
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
        case ("storage", _Kind(dtype), str(key), _, elements, *view) if _whole(elements):
            match view:
                case [] | [None]:
                    return _Storage(key, dtype, elements, 0)
                # A legacy file's storage may be a piece of another.
                case [(_, start, size)] if _whole(start) and _whole(size) and start + size <= elements:
                    return _Storage(key, dtype, size, start)
    raise PickleRefusedError("a storage of a kind that no checkpoint has")


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
    order = read_member(path, archive, f"{root}byteorder", limit=9) if f"{root}byteorder" in sizes else b"little"
    if order not in (b"little", b"big"):
        raise BrokenFileError(path, f"numbers in the byte order {order!r}", allowed="little, big")
    content = _load(path, io.BytesIO(read_member(path, archive, pickled[0], limit=pickles.LIMIT)))

    @lru_cache(maxsize=1)
    def stored(key: str) -> bytes:
        # Read whole, so that its checksum is checked; the last one is kept for tensors that share it.
        return read_member(path, archive, f"{root}data/{key}")

    held = {name.removeprefix(f"{root}data/"): size for name, size in sizes.items() if name.startswith(f"{root}data/")}
    return _checkpoint(path, "PyTorch zip", content, key, held, stored, order.decode())


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
        _magic, _protocol, _system, content, keys = (_load(path, stream, persistent) for _ in range(5))
        places: dict[str, int] = {}
        held: dict[str, int] = {}
        if not isinstance(keys, list) or not all(isinstance(storage, str) for storage in keys):
            raise BrokenFileError(path, "a legacy file without a list of its storages")
        for storage in keys:
            head = stream.read(8)
            size = int.from_bytes(head, "little", signed=True) * ITEM_SIZES[kinds.get(storage, "uint8")]
            start = stream.tell()
            if len(head) < 8 or size < 0 or start + size > total:
                raise BrokenFileError(path, f"a file of {total:,} bytes that ends within storage {storage[:40]!r}")
            places[storage], held[storage] = start, size
            stream.seek(size, 1)

    @lru_cache(maxsize=1)
    def stored(key: str) -> bytes:
        with path.open("rb") as stream:
            stream.seek(places[key])
            return stream.read(held[key])

    # Written in little endian, whatever the machine.
    return _checkpoint(path, "PyTorch legacy pickle", content, key, held, stored, "little")


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
    path: Path,
    container: str,
    content: Any,
    key: str | None,
    held: Mapping[str, int],
    stored: Stored,
    order: str,
) -> Checkpoint:
    where, found, notes = _state_dict(path, content, key)
    tensors = {}
    for name, view in found.items():
        storage = view.storage
        bytes_held = held.get(storage.key, -1)
        if (storage.offset + storage.elements) * ITEM_SIZES[storage.dtype] > bytes_held:
            promised = f"{storage.elements:,} elements of {storage.dtype}"
            has = f"has {bytes_held:,} bytes" if bytes_held >= 0 else "is not in the file"
            raise BrokenFileError(path, f"tensor {name!r} in a storage that should hold {promised} and {has}")
        tensors[name] = _tensor(view, stored, order)
    return Checkpoint(path, container + (f", key {where!r}" if where else ""), tensors, notes=notes)


_PREFERRED = ("state_dict_ema", "model_ema", "ema", "state_dict", "model", "module", "net", "network", "weights", "")
"""Averaged weights come before the last ones, as in timm: they are what is published and evaluated."""


def _state_dict(path: Path, content: Any, key: str | None) -> tuple[str, dict[str, _View], tuple[str, ...]]:
    """The network's tensors, looked for in the dicts of up to three levels."""
    candidates = dict(_dicts(content))
    ranked = sorted(filter(_usual, candidates), key=_rank)
    if not candidates:
        raise BrokenFileError(path, "no tensors", allowed="a state_dict", mend="save model.state_dict()")
    if key is None and not ranked and len(candidates) > 1:
        found = f"tensors under {', '.join(map(repr, [*candidates][:6]))}"
        raise BrokenFileError(path, found, allowed="one network", mend="say which with key=...")
    where = key if key is not None else [*ranked, *candidates][0]
    if where not in candidates:
        allowed = ", ".join(map(repr, [*candidates][:6]))
        raise BrokenFileError(path, f"no tensors under key {key!r}", allowed=allowed, mend="choose one of them")
    others = ", ".join(repr(other) for other in ranked[:6] if other != where)
    notes = (f"taken: {where!r}; also in the file: {others} (choose with key=...)",) if others else ()
    return where, candidates[where], notes


def _rank(where: str) -> int:
    """How much a place among the dicts is preferred; 0 is most."""
    return min(_PREFERRED.index(part) for part in where.split(".") if part in _PREFERRED)


def _usual(where: str) -> bool:
    return where.rpartition(".")[2] in _PREFERRED


def _dicts(content: Any) -> Iterator[tuple[str, dict[str, _View]]]:
    """Dicts of tensors and where they lie, the outer ones first; each once, wherever a file refers to it again."""
    level, seen = [("", content)], {id(content)}
    for _ in range(3):
        inner = []
        for where, items in level:
            if not isinstance(items, dict):
                continue
            named = {key: value for key, value in items.items() if isinstance(key, str)}
            if views := {key: value for key, value in named.items() if isinstance(value, _View)}:
                yield where, views
            for key, value in named.items():
                if isinstance(value, dict) and "optim" not in key and len(key) < 100 and id(value) not in seen:
                    seen.add(id(value))
                    inner.append((f"{where}.{key}" if where else key, value))
        level = inner
