"""Inert placeholders for the objects in a pickle: their names and contents, and nothing that could be executed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any


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


def module_of(placeholder: Placeholder) -> Mapping[Any, Any] | None:
    """Returns the attributes of a PyTorch module, or None for another object."""
    state: Mapping[Any, Any] = placeholder.attributes
    if not isinstance(state.get("_modules"), dict) and placeholder.arguments:
        # A graph module of torch.fx is constructed from its attributes.
        first = placeholder.arguments[0]
        state = first if isinstance(first, dict) else state
    if placeholder.name.startswith("__torch__.") or isinstance(state.get("_modules"), dict):
        return state
    return None


def settings(attributes: Mapping[Any, Any]) -> dict[str, Any]:
    """Returns the attributes that are numbers, words, tuples of them, or functions by name: strides, epsilons, ..."""
    named = {key: value.name if isinstance(value, Name) else value for key, value in attributes.items()}
    return {key: value for key, value in named.items() if isinstance(key, str) and _is_setting(value)}


def _is_setting(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) < 100
    if isinstance(value, tuple):
        return len(value) < 10 and all(isinstance(item, (bool, int, float, str)) for item in value)
    return isinstance(value, (bool, int, float))
