"""The names in a PyTorch pickle that describe tensors, with replacements that describe views and execute nothing."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from reszoo.weights.formats.checkpoint import ITEM_SIZES
from reszoo.weights.formats.numpy_files import NUMPY
from reszoo.weights.formats.pickles import Name, PickleRefusedError, Placeholder

_DTYPES = {
    **{"Float": "float32", "Double": "float64", "Half": "float16", "BFloat16": "bfloat16"},
    **{"Long": "int64", "Int": "int32", "Short": "int16", "Char": "int8", "Byte": "uint8", "Bool": "bool"},
}


class _Kind(NamedTuple):
    """The element type of a storage."""

    dtype: str


class Storage(NamedTuple):
    """A block of numbers of one type, of which tensors are views."""

    key: str
    dtype: str
    elements: int
    offset: int
    """Elements before the beginning of this view of the storage."""


class View(NamedTuple):
    """A tensor as described by the pickle: a strided view of a storage, not yet validated."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


OTHER_SIZES = {
    **{"torch.ComplexHalfStorage": 4, "torch.ComplexFloatStorage": 8, "torch.ComplexDoubleStorage": 16},
    **{"torch.QInt8Storage": 1, "torch.QUInt8Storage": 1, "torch.QInt32Storage": 4},
}
"""Unsupported kind of storage -> bytes of an element."""

QUANTIZED = "quantized"
"""The name of a placeholder for a quantized tensor."""


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> View | Placeholder:
    if isinstance(storage, Placeholder):
        return storage
    if not isinstance(storage, Storage) or not isinstance(shape, tuple) or not isinstance(stride, tuple):
        raise PickleRefusedError("a tensor that is not a view of a storage")
    if len(shape) != len(stride) or len(shape) > 32:
        raise PickleRefusedError(f"a tensor of {len(shape)} axes with {len(stride)} strides")
    if not all(_whole(number) for number in (offset, *shape, *stride)):
        raise PickleRefusedError("a tensor with sizes that are not non-negative integers")
    return View(storage, offset, shape, stride)


def _whole(number: Any) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 1 << 60


def _rebuild_typed(
    storage: Any, offset: Any, shape: Any, stride: Any, _grad: Any, _hooks: Any, kind: Any, *_: Any
) -> Any:
    if isinstance(kind, Name):
        return Placeholder(kind.name)
    if not isinstance(storage, Storage) or storage.offset or not isinstance(kind, _Kind):
        raise PickleRefusedError("a tensor that is not a view of a storage")
    elements = storage.elements * ITEM_SIZES[storage.dtype] // ITEM_SIZES[kind.dtype]
    return _rebuild_tensor(storage._replace(dtype=kind.dtype, elements=elements), offset, shape, stride)


def _first(first: Any = None, *_: Any) -> Any:
    return first


def _quantized(*_: Any) -> Placeholder:
    return Placeholder(QUANTIZED)


def _from_type(function: Any, _type: Any, arguments: Any, *_: Any) -> Any:
    if isinstance(function, Name):
        return Placeholder(function.name)
    if function not in (_rebuild_tensor, _rebuild_typed, _first) or not isinstance(arguments, tuple):
        raise PickleRefusedError("a tensor constructed by an unsupported function")
    return function(*arguments)


def _dict(items: Any = (), *_: Any) -> dict[Any, Any]:
    """Returns an ordered dict: pickles of Python 3 create it empty, those of Python 2 from a list of pairs."""
    if not isinstance(items, list):
        return {}
    result = {key: value for key, value in items if isinstance(key, str)}
    # The list can be used once: a million dicts from one list of a million pairs would never end.
    items.clear()
    return result


def _list(items: Any = (), *_: Any) -> list[Any]:
    """Returns a list in place of a set, whose items a pickle may choose so that hashing them takes forever."""
    return items if isinstance(items, list) else []


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
    "torch._utils._rebuild_qtensor": _quantized,
    **NUMPY,
    **{f"{module}.{name}": _list for module in ("builtins", "__builtin__") for name in ("set", "frozenset", "list")},
}
"""Names in a checkpoint -> their replacements. All other names become placeholders, and nothing is imported."""


def storage_of(identifier: Any) -> Storage | Placeholder | Name:
    """Returns the storage that a persistent id describes; a placeholder for numbers of an unsupported type.

    Legacy files also refer to the classes of modules so, with their source code; these are returned by name.

    Raises:
        PickleRefusedError: it does not describe one.
    """
    match identifier:
        case ("module", Name() as cls, *_):
            return cls
        case ("storage", Name() as kind, *_):
            return Placeholder(QUANTIZED if re.match(r"torch\.Q\w*Storage", kind.name) else kind.name)
        case ("storage", _Kind(dtype), str(key), _, elements, *view) if _whole(elements):
            match view:
                case [] | [None]:
                    return Storage(key, dtype, elements, 0)
                # A storage in a legacy file may be a view of another.
                case [(_, start, size)] if _whole(start) and _whole(size) and start + size <= elements:
                    return Storage(key, dtype, size, start)
    raise PickleRefusedError("an unsupported kind of storage")
