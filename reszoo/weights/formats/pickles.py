"""A pickle reader that executes nothing: a stack machine with replacements for known names and placeholders for others.

Python's `pickle` executes arbitrary code by design, and even a restricted `Unpickler` allocates whatever a file claims
(a memo index of 2**30, a bytearray of any length). `pickletools` parses the opcodes and checks every length against
the file; this module implements the opcodes that checkpoints use. Objects of classes that it does not know become
inert placeholders: nothing is imported or called for them.
"""

from __future__ import annotations

import pickletools
import re
from collections.abc import Callable, Mapping
from itertools import islice
from typing import IO, Any, cast


class Name:
    """A class or function that a pickle refers to, by name alone."""

    __slots__ = ("name",)

    def __init__(self, name: str):
        self.name = name


class Placeholder:
    """An object of an unknown class: what the pickle fills into it.

    Attributes:
        name: `module.Class`.
        arguments: the arguments of its construction.
        attributes: its state, from a dict, from slots, or from both.
        items: the items of a class derived from dict.
    """

    __slots__ = ("arguments", "attributes", "items", "name")

    def __init__(self, name: str, arguments: tuple[Any, ...] = ()):
        self.name = name
        self.arguments = arguments
        self.attributes: dict[Any, Any] = {}
        self.items: dict[Any, Any] = {}

    def fill(self, state: Any) -> None:
        """Adds a state: a dict of attributes, or a pair of such a dict and one of slots."""
        parts = state if isinstance(state, tuple) and len(state) == 2 else (state,)
        for part in parts:
            if isinstance(part, dict):
                self.attributes.update(part)

    def __repr__(self) -> str:
        return f"Placeholder({self.name!r})"


_COMMANDS = re.compile(
    r"(os|posix|nt|pty)\.(system|popen\d?|exec\w*|spawn\w*|posix_spawn\w*|fork\w*|kill\w*|startfile|remove|unlink|rmdir"
    r"|removedirs)|(subprocess|commands)\.(Popen|run|call|check_call|check_output|getoutput|getstatusoutput)"
    r"|(builtins|__builtin__)\.(eval|exec|execfile|compile|__import__)|runpy\.\w+|shutil\.rmtree"
)


def runs_commands(name: str) -> bool:
    """Returns whether a name belongs to a function that runs commands or code: a sound file refers to none."""
    return _COMMANDS.fullmatch(name) is not None


Constructor = Callable[..., Any]


class PickleRefusedError(Exception):
    """A pickle that is damaged or holds something other than data."""


class ForbiddenNameError(PickleRefusedError):
    """A pickle that refers to a function that runs commands; the function was not imported."""

    def __init__(self, name: str):
        self.name = name
        super().__init__(f"it refers to {name!r}, which runs commands; nothing of it was executed")


LIMIT = 1 << 26
"""Largest pickle in a compressed member, in bytes. Others are limited by the size of their file."""

_OPERATIONS = 1 << 21
"""Most opcodes in one pickle; a network of a thousand layers takes a few hundred thousand."""


class _Bounded:
    """A stream that raises when a pickle claims more than a number of bytes."""

    def __init__(self, stream: IO[bytes], limit: int):
        self._stream = stream
        self._limit = self._remaining = limit

    def read(self, size: int) -> bytes:
        self._remaining -= size
        if self._remaining < 0:
            raise PickleRefusedError(f"a pickle that claims more than {self._limit:,} bytes")
        return self._stream.read(size)

    def readline(self) -> bytes:
        line = self._stream.readline(min(self._remaining, 1 << 20))
        self._remaining -= len(line)
        return line


def load(stream: IO[bytes], names: Mapping[str, Any], persistent: Constructor, *, limit: int = LIMIT) -> Any:
    """Returns the object in one pickle: dicts, lists, tuples, numbers, text, what `names` constructs, placeholders.

    Args:
        stream: read up to the end of the pickle and no further.
        names: `module.name` -> its replacement; called where the pickle calls the original.
        persistent: returns the replacement for a persistent id.
        limit: most bytes of the pickle.

    Raises:
        PickleRefusedError: the pickle is damaged, or uses a name or an opcode that is not allowed.
    """
    machine = _Machine(names, persistent)
    try:
        operations: Any = pickletools.genops(cast(IO[bytes], _Bounded(stream, limit)))
        for opcode, argument, _ in islice(operations, _OPERATIONS):
            if opcode.name == "STOP":
                return machine.stack.pop()
            machine.execute(opcode.name, argument)
    except PickleRefusedError:
        raise
    except Exception as error:
        # A forged sequence of opcodes can fail in any way; whatever it is, the pickle is invalid.
        raise PickleRefusedError(f"a damaged pickle ({type(error).__name__}: {error})") from None
    raise PickleRefusedError(f"a pickle of more than {_OPERATIONS:,} opcodes")


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_EMPTY: dict[str, Constructor] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_SET": list}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_NOTHING = {"PROTO", "FRAME", "READONLY_BUFFER"}


class _Machine:
    def __init__(self, names: Mapping[str, Any], persistent: Constructor):
        self.stack: list[Any] = []
        self._outer_stacks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._names = names
        self._persistent = persistent

    def execute(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _LITERALS:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            # Text opcodes may hold an integer of any size, and thousands with the same hash.
            if not 0 <= argument < 1 << 32:
                raise PickleRefusedError("a pickle with an unsupported memo index")
            self._memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(self._memo[argument])
        elif name in _TUPLES:
            stack[-_TUPLES[name] :] = [tuple(stack[-_TUPLES[name] :])]
        elif name not in _NOTHING:
            method = getattr(self, f"_{name.lower()}", None)
            if method is None:
                raise PickleRefusedError(f"a pickle with the opcode {name}, which no checkpoint needs")
            method(argument)

    def _mark(self, _: Any) -> None:
        self._outer_stacks.append(self.stack)
        self.stack = []

    def _since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self._outer_stacks.pop()
        return items

    def _tuple(self, _: Any) -> None:
        items = self._since_mark()
        self.stack.append(tuple(items))

    def _list(self, _: Any) -> None:
        items = self._since_mark()
        self.stack.append(items)

    _frozenset = _list

    def _dict(self, _: Any) -> None:
        result: dict[Any, Any] = {}
        _with_items(result, self._since_mark())
        self.stack.append(result)

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
        self.stack.append(self._named(argument.replace(" ", ".", 1)))

    def _stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise PickleRefusedError("a pickle with a name that is not text")
        self.stack.append(self._named(f"{module}.{name}"))

    def _named(self, name: str) -> Any:
        if name in self._names:
            return self._names[name]
        if runs_commands(name):
            raise ForbiddenNameError(name[:200])
        return Name(name[:200])

    def _call(self, function: Any, arguments: Any) -> None:
        if isinstance(function, (Name, Placeholder)):
            self.stack.append(Placeholder(function.name, arguments if isinstance(arguments, tuple) else ()))
            return
        if not callable(function) or function not in self._names.values():
            raise PickleRefusedError("a pickle that calls something that is not on the allowlist")
        if not isinstance(arguments, tuple) or len(arguments) > 64:
            raise PickleRefusedError("a pickle that calls a name with unsupported arguments")
        self.stack.append(function(*arguments))

    def _reduce(self, _: Any) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        self._call(function, arguments)

    _newobj = _reduce

    def _newobj_ex(self, _: Any) -> None:
        self.stack.pop()
        self._reduce(None)

    def _inst(self, argument: str) -> None:
        arguments = self._since_mark()
        self._call(self._named(argument.replace(" ", ".", 1)), tuple(arguments))

    def _obj(self, _: Any) -> None:
        function, *arguments = self._since_mark()
        self._call(function, tuple(arguments))

    def _build(self, _: Any) -> None:
        # Known objects discard their attributes, such as the version numbers that torch attaches to a state_dict.
        state = self.stack.pop()
        if hasattr(self.stack[-1], "fill"):
            self.stack[-1].fill(state)

    def _pop(self, _: Any) -> None:
        # A mark on top is popped like an object.
        if self.stack:
            self.stack.pop()
        else:
            self._since_mark()

    def _pop_mark(self, _: Any) -> None:
        self._since_mark()

    def _dup(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def _binpersid(self, _: Any) -> None:
        self.stack.append(self._persistent(self.stack.pop()))


def _with_items(target: Any, items: list[Any]) -> None:
    if isinstance(target, Placeholder):
        target = target.items
    if not isinstance(target, dict):
        raise PickleRefusedError("a pickle that sets an item of something that is not a dict")
    for key, value in zip(items[::2], items[1::2], strict=True):
        # Hashing deeply nested tuples takes forever, and so does inserting a million large integers with one hash.
        if not isinstance(key, str) and not (isinstance(key, int) and abs(key) < 1 << 60):
            key = f"a {type(key).__name__}"
        target[key] = value
