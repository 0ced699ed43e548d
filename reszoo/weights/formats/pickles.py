"""A closed reader of pickles: a stack machine that knows a list of names and never imports, calls or runs any other.

Python's own `pickle` is open by design, and even a restricted `Unpickler` allocates whatever a file promises (a memo
index of 2**30, a bytearray of any length). `pickletools` parses the opcodes and checks every length against the file;
what little they mean for a checkpoint is done here.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from itertools import islice
from typing import IO, Any, cast

Constructor = Callable[..., Any]


class PickleRefusedError(Exception):
    """A pickle that is damaged or holds something that is no data."""


class UnknownGlobalError(PickleRefusedError):
    """A pickle that names something outside the list; it was not imported."""

    def __init__(self, name: str):
        self.name = name
        super().__init__(f"it refers to {name!r}, which is not data; nothing of it was executed")


class Inert:
    """Stands for an object whose content does not matter, such as the arguments of a training script."""


def inert(*_: Any) -> Inert:
    """Returns a stand-in, whatever the arguments."""
    return Inert()


LIMIT = 1 << 26
"""Bytes of the longest pickle that is read. The tensors' numbers are no part of it."""

_OPERATIONS = 1 << 22
"""A network of a thousand layers takes some hundred thousand."""


class _Bounded:
    """A stream that ends in an error where a pickle promises more than one can need."""

    def __init__(self, stream: IO[bytes]):
        self._stream, self._left = stream, LIMIT

    def read(self, size: int) -> bytes:
        self._left -= size
        if self._left < 0:
            raise PickleRefusedError(f"a pickle that promises more than {LIMIT:,} bytes")
        return self._stream.read(size)

    def readline(self) -> bytes:
        line = self._stream.readline(min(self._left, 1 << 20))
        self._left -= len(line)
        return line


def load(stream: IO[bytes], names: Mapping[str, Any], persistent: Constructor) -> Any:
    """Returns what one pickle holds, made of dicts, lists, tuples, numbers, text and what `names` makes.

    Args:
        stream: read up to the end of the pickle, and no further.
        names: `module.name` -> what stands for it; called where the pickle calls it.
        persistent: makes what stands for a persistent id.

    Raises:
        PickleRefusedError: the pickle is damaged, or uses a name or an operation that is not listed.
    """
    machine = _Machine(names, persistent)
    try:
        operations: Any = pickletools.genops(cast(IO[bytes], _Bounded(stream)))
        for opcode, argument, _ in islice(operations, _OPERATIONS):
            if opcode.name == "STOP":
                return machine.stack.pop()
            machine.do(opcode.name, argument)
    except PickleRefusedError:
        raise
    except Exception as error:
        # Whatever goes wrong with a made-up sequence of opcodes, the pickle is no good: nothing else runs in here.
        raise PickleRefusedError(f"a damaged pickle ({type(error).__name__}: {error})") from None
    raise PickleRefusedError(f"a pickle of more than {_OPERATIONS:,} operations")


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
}
_EMPTY: dict[str, Constructor] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_SET": list}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_NOTHING = {"PROTO", "FRAME"}


class _Machine:
    def __init__(self, names: Mapping[str, Any], persistent: Constructor):
        self.stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._names, self._persistent = names, persistent

    def do(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _LITERALS:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            # Text opcodes may write an index of any length, and thousands of them with one hash.
            if not 0 <= argument < 1 << 32:
                raise PickleRefusedError("a pickle with a memo of no use")
            self._memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(self._memo[argument])
        elif name in _TUPLES:
            stack[-_TUPLES[name] :] = [tuple(stack[-_TUPLES[name] :])]
        elif name not in _NOTHING:
            step = getattr(self, f"_{name.lower()}", None)
            if step is None:
                raise PickleRefusedError(f"a pickle with the operation {name}, which no checkpoint needs")
            step(argument)

    def _mark(self, _: Any) -> None:
        self._below.append(self.stack)
        self.stack = []

    def _since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self._below.pop()
        return items

    def _tuple(self, _: Any) -> None:
        items = self._since_mark()
        self.stack.append(tuple(items))

    def _list(self, _: Any) -> None:
        items = self._since_mark()
        self.stack.append(items)

    def _dict(self, _: Any) -> None:
        items = self._since_mark()
        self.stack.append(_with_items({}, items))

    def _append(self, _: Any) -> None:
        item = self.stack.pop()
        self._extend([item])

    def _appends(self, _: Any) -> None:
        self._extend(self._since_mark())

    _additems = _appends

    def _extend(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(items)

    def _setitem(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _with_items(self.stack[-1], [key, value])

    def _setitems(self, _: Any) -> None:
        items = self._since_mark()
        _with_items(self.stack[-1], items)

    def _global(self, argument: str) -> None:
        self._named(argument.replace(" ", ".", 1))

    def _stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise PickleRefusedError("a pickle with a name that is no text")
        self._named(f"{module}.{name}")

    def _named(self, name: str) -> None:
        if name not in self._names:
            raise UnknownGlobalError(name[:200])
        self.stack.append(self._names[name])

    def _reduce(self, _: Any) -> None:
        arguments, made_by = self.stack.pop(), self.stack.pop()
        if not callable(made_by) or made_by not in self._names.values():
            raise PickleRefusedError("a pickle that calls something that is no listed name")
        if not isinstance(arguments, tuple) or len(arguments) > 64:
            raise PickleRefusedError("a pickle that calls a name with arguments of no use")
        self.stack.append(made_by(*arguments))

    _newobj = _reduce

    def _build(self, _: Any) -> None:
        # Attributes, such as the version numbers that torch hangs on a state_dict.
        self.stack.pop()

    def _pop(self, _: Any) -> None:
        self.stack.pop()

    def _binpersid(self, _: Any) -> None:
        self.stack.append(self._persistent(self.stack.pop()))


def _with_items(into: Any, items: list[Any]) -> Any:
    if not isinstance(into, dict):
        if isinstance(into, Inert):
            return into
        raise PickleRefusedError("a pickle that sets an item of what is no dict")
    for key, value in zip(items[::2], items[1::2], strict=True):
        # The hash of tuples within tuples would take for ever, and so would a million large numbers with one hash.
        if not isinstance(key, str) and not (isinstance(key, int) and abs(key) < 1 << 60):
            key = f"a {type(key).__name__}"
        into[key] = value
    return into
