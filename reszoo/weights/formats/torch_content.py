"""The tensors and modules in the object that a checkpoint's pickle describes; code of TorchScript is never executed."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from reszoo.weights.formats.archives import read_member
from reszoo.weights.formats.checkpoint import Tensor
from reszoo.weights.formats.numpy_files import PickledArray
from reszoo.weights.formats.pickles import Name, Placeholder
from reszoo.weights.formats.torch_globals import QUANTIZED, View

Modules: TypeAlias = Callable[[str], Mapping[str, Any]]
"""Returns the settings of a TorchScript class, which are not attributes of its objects."""

OPTIMIZER = "an optimizer"

_PATH = 1000
"""Longest path of a dict or module, in characters. Deeper ones are not searched."""


class Contents(NamedTuple):
    """The tensors of a file by their full names, and what else was met."""

    tensors: dict[str, View | Tensor]
    keys: tuple[str, ...]
    """Paths of the dicts that hold tensors, and of whole models."""
    attributes: dict[str, dict[str, Any]]
    """Path of a module -> its class and settings."""
    aside: dict[str, str]
    """Path -> class of other objects."""
    quantized: list[str]
    """Names of quantized tensors and modules."""

    def description(self) -> str:
        """Returns what a file without tensors holds instead, as the end of a sentence."""
        if OPTIMIZER in self.aside.values():
            return " (an optimizer, no weights)"
        names = ", ".join(dict.fromkeys(self.aside.values()))
        return f" (objects of {names[:200]})" if names else ""


def contents(content: Any, modules: Modules | None = None) -> Contents:
    """Returns the tensors in an object by their full names, such as `state_dict.conv1.weight`.

    Tensors of optimizers and of objects that are no modules do not count. If there are no others, the items of
    placeholders for classes derived from dict do.
    """
    found = _search(content, modules or (lambda _: {}), in_items=False)
    return found if found.tensors or found.quantized else _search(content, modules or (lambda _: {}), in_items=True)


class _Place(NamedTuple):
    """A value to visit."""

    path: str
    value: Any
    within: str
    """`data`: tensors count; `model`: they count, and its path is known; `object`: only whole models count."""


def _search(content: Any, modules: Modules, *, in_items: bool) -> Contents:
    result = Contents({}, (), {}, {}, [])
    keys: dict[str, None] = {}
    waiting, seen = [_Place("", content, "data")], {id(content)}
    while waiting:
        place = waiting.pop()
        inner = []
        for child in _children(place, result, modules, in_items=in_items):
            tensor = child.value.tensor() if isinstance(child.value, PickledArray) else child.value
            if isinstance(tensor, (View, Tensor)):
                if child.within != "object":
                    result.tensors[child.path] = tensor
                    if place.within == "data":
                        keys[place.path] = None
            elif id(tensor) not in seen and isinstance(tensor, (dict, list, tuple, Placeholder)):
                seen.add(id(tensor))
                inner.append(child)
        waiting += reversed(inner)
    models = [path for path in result.attributes if not path or _above(path) not in result.attributes]
    return result._replace(keys=(*dict.fromkeys([*keys, *models]),))


def _above(path: str) -> str:
    return path.rpartition(".")[0]


def _children(place: _Place, result: Contents, modules: Modules, *, in_items: bool) -> Iterator[_Place]:
    path, value, within = place
    if len(path) > _PATH:
        return
    if isinstance(value, Placeholder):
        yield from _of_placeholder(place, result, modules, in_items=in_items)
    elif isinstance(value, dict):
        if isinstance(value.get("param_groups"), list) and "state" in value:
            result.aside[path] = OPTIMIZER
            return
        for key, item in value.items():
            if isinstance(key, str) and ("optim" in key or len(key) > _PATH):
                result.aside[_join(path, key[:100])] = OPTIMIZER
            else:
                yield _Place(_join(path, key), item, within)
    elif isinstance(value, (list, tuple)):
        pairs = value if all(isinstance(item, tuple) and _is_pair(item) for item in value) else enumerate(value)
        for key, item in pairs:
            yield _Place(_join(path, key), item, within)


def _of_placeholder(place: _Place, result: Contents, modules: Modules, *, in_items: bool) -> Iterator[_Place]:
    path, value, within = place
    state = _module_of(value)
    if value.name == QUANTIZED or (state is not None and ".quantized." in f".{value.name}."):
        if within != "object":
            result.quantized.append(path)
        return
    if state is None:
        if within == "data" and len(result.aside) < _PATH:
            result.aside[path] = value.name
        for key, item in value.attributes.items():
            yield _Place(_join(path, key), item, "object")
        for key, item in value.items.items():
            yield _Place(_join(path, key), item, within if in_items else "object")
        return
    result.attributes[path] = {"class": value.name, **_settings(state), **modules(value.name)}
    parts: list[Any] = [state]
    if isinstance(state.get("_modules"), dict):
        left_out = state.get("_non_persistent_buffers_set")
        buffers = {
            key: item
            for key, item in _dict(state.get("_buffers")).items()
            if not (isinstance(left_out, list) and key in left_out)
        }
        parts = [_dict(state.get("_parameters")), buffers, _dict(state.get("_modules"))]
    for part in parts:
        for key, item in part.items():
            if isinstance(item, (View, PickledArray, Placeholder)):
                yield _Place(_join(path, key), item, "model")


def _is_pair(item: tuple[Any, ...]) -> bool:
    """Returns whether a tuple is a name and a tensor, as the items of a state dict are."""
    return len(item) == 2 and isinstance(item[0], str) and isinstance(item[1], (View, PickledArray))


def _dict(value: Any) -> dict[Any, Any]:
    return value if isinstance(value, dict) else value.items if isinstance(value, Placeholder) else {}


def _join(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)


def _module_of(placeholder: Placeholder) -> Mapping[Any, Any] | None:
    """Returns the attributes of a PyTorch module, or None for another object."""
    state: Mapping[Any, Any] = placeholder.attributes
    if not isinstance(state.get("_modules"), dict) and placeholder.arguments:
        # A graph module of torch.fx is constructed from its attributes.
        first = placeholder.arguments[0]
        state = first if isinstance(first, dict) else state
    if placeholder.name.startswith("__torch__.") or isinstance(state.get("_modules"), dict):
        return state
    return None


def _settings(attributes: Mapping[Any, Any]) -> dict[str, Any]:
    """Returns the attributes that are numbers, words, tuples of them, or functions by name: strides, epsilons, ..."""
    named = {key: value.name if isinstance(value, Name) else value for key, value in attributes.items()}
    return {key: value for key, value in named.items() if isinstance(key, str) and _is_setting(value)}


def _is_setting(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) < 100
    if isinstance(value, tuple):
        return len(value) < 10 and all(isinstance(item, (bool, int, float, str)) for item in value)
    return isinstance(value, (bool, int, float))


_LIMIT = 1 << 18
"""Longest source file, in bytes."""

_CLASSES = 1 << 12
"""Most classes whose settings are looked up."""

_CONVOLUTION = re.compile(
    r"torch\.(?:_convolution|conv2d)\([^\[\]()]*\[([\d, ]+)\], \[([\d, ]+)\], \[([\d, ]+)\]"
    r"(?:, (?:False|True), \[[\d, ]+\], (\d+)|, (\d+))?"
)
_BATCH_NORM = re.compile(r"torch\.batch_norm\([^()]*, ([\d.e-]+), ([\d.e-]+), (?:True|False)\)")
_GROUP_NORM = re.compile(r"torch\.group_norm\([^,()]+, (\d+)(?:, \w+){0,2}(?:, ([\d.e-]+))?(?:, (?:True|False))?\)")
_CONSTANT = re.compile(r"  (\w+) : Final\[[^\n]+?\] = ([^\n]+)")


def modules_of(path: Path, archive: zipfile.ZipFile, root: str) -> Modules:
    """Returns a function that returns the settings of a class by its name `__torch__.torch.nn.modules.conv.Conv2d`."""
    members = {*archive.namelist()}

    @cache
    def source(member: str) -> str:
        if member not in members or archive.getinfo(member).file_size > _LIMIT:
            return ""
        return read_member(path, archive, member, limit=_LIMIT).decode("utf-8", "replace")

    @lru_cache(maxsize=_CLASSES)
    def modules(name: str) -> Mapping[str, Any]:
        if modules.cache_info().currsize >= _CLASSES:
            return {}
        module, _, cls = name.rpartition(".")
        text = source(f"{root}code/{module.replace('.', '/')}.py")
        start = text.find(f"class {cls}(Module):")
        end = text.find("\nclass ", start + 1)
        return _script_settings(text[start : end if end > 0 else len(text)]) if start >= 0 else {}

    return modules


def _script_settings(text: str) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    if match := _CONVOLUTION.search(text):
        for name, numbers in zip(("stride", "padding", "dilation"), match.groups(), strict=False):
            settings[name] = tuple(map(int, numbers.split(",")))
        settings["groups"] = int(match[4] or match[5] or 1)
    if match := _BATCH_NORM.search(text):
        settings |= {"momentum": _number(match[1]), "eps": _number(match[2])}
    if match := _GROUP_NORM.search(text):
        # The code leaves out what is PyTorch's default.
        settings |= {"num_groups": int(match[1]), "eps": _number(match[2]) if match[2] else 1e-5}
    for name, value in _CONSTANT.findall(text):
        if re.fullmatch(r"\([\d, ]+\)", value):
            settings[name] = tuple(int(number) for number in re.findall(r"\d+", value))
        elif re.fullmatch(r"[\d.]+(e-?\d+)?", value):
            settings[name] = _number(value)
    return settings


def _number(text: str) -> float:
    try:
        return int(text) if text.isdecimal() else float(text)
    except ValueError:
        return 0.0
