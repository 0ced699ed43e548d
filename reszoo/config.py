"""Configuration files: YAML, inheritance from a `base`, and validated models."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from reszoo.errors import ReszooError, UnknownNameError, nearest

Checked = TypeVar("Checked", bound=BaseModel)


class FrozenModel(BaseModel):
    """Base class of all models read from files: frozen, no unknown fields, no type conversions."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML loader that refuses duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value]
        for key, _ in node.value:
            if keys.count(key.value) > 1:
                raise yaml.MarkedYAMLError("duplicate key", key.start_mark, repr(key.value), key.start_mark)
        return dict(super().construct_mapping(node, deep))


def read_yaml(file: Path) -> dict[str, Any]:
    """Returns the content of a YAML file of named entries.

    Raises:
        ReszooError: the file cannot be read, is not a mapping, or has a duplicate key.
    """
    try:
        with open(file, encoding="utf-8") as stream:
            content = yaml.load(stream, Loader=_Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise ReszooError(
            str(file), got=getattr(error, "strerror", None) or str(error), expected="a readable YAML file"
        ) from None
    except yaml.YAMLError as error:
        raise ReszooError(str(file), got=" ".join(str(error).split()), expected="valid YAML") from None
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ReszooError(str(file), got=type(content).__name__, expected="a mapping of names")
    return content


def configs() -> Path:
    """Returns the folder zoo_configs, inside the installed package or beside it in a checkout."""
    package = Path(__file__).parent
    return next(path for path in (package / "zoo_configs", package.parent / "zoo_configs") if path.is_dir())


def merge(data: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Merges `changes` into `data` in place: dicts recursively, other values are replaced."""
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(data.get(key), dict):
            merge(data[key], value)
        else:
            data[key] = value


def lineage(name: str, base_of: Callable[[str], str | None], *, where: str) -> list[str]:
    """Returns the names of an entry's bases and the entry itself, the outermost base first.

    Args:
        name: name of the entry.
        base_of: returns the name of an entry's base, or None.
        where: beginning of error messages.

    Raises:
        ReszooError: the bases form a cycle.
    """
    line = [name]
    while (base := base_of(line[-1])) is not None:
        if base in line:
            expected = "bases without a cycle"
            raise ReszooError(f"{where}.base", got=" -> ".join((*line, base)), expected=expected)
        line.append(base)
    return line[::-1]


def inherit(name: str, entries: Mapping[str, Any], *, kind: str) -> dict[str, Any]:
    """Returns an entry merged into its `base` and that one's bases; dicts are merged recursively.

    Args:
        name: name of the entry.
        entries: all entries by name.
        kind: kind of the entries, for error messages.

    Raises:
        UnknownNameError: there is no such entry.
        ReszooError: the bases form a cycle.
    """

    def base_of(entry: str) -> str | None:
        if entry not in entries:
            raise UnknownNameError(f"unknown {kind}", got=entry, known=entries)
        if not isinstance(entries[entry], Mapping):
            raise ReszooError(f"{kind} {entry}", got=repr(entries[entry]), expected="fields and their values")
        base: str | None = entries[entry].get("base")
        return base

    data: dict[str, Any] = {}
    for entry in lineage(name, base_of, where=f"{kind} {name}"):
        merge(data, {field: deepcopy(value) for field, value in entries[entry].items() if field != "base"})
    return data


def check(kind: type[Checked], data: Mapping[str, Any], *, where: str) -> Checked:
    """Returns `data` validated as a `kind`.

    Raises:
        ReszooError: a field is wrong; the message names the first one, its value, the allowed values and a hint.
    """
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise explain(error, kind, where) from None


def boolean(value: Any, *, where: str) -> bool:
    """Returns a Python, NumPy or 0/1 boolean as a Python boolean.

    Raises:
        ReszooError: the value is not a boolean.
    """
    plain = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(plain, int) or plain not in (0, 1):
        raise ReszooError(where, got=repr(value), expected="True, False")
    return bool(plain)


NAME = r"^[A-Za-z0-9.][A-Za-z0-9_.-]*$"
"""Pattern of names that every backend accepts; TensorFlow takes no others for a model that runs compiled."""


def valid_name(text: str) -> str:
    """Returns a text as a valid name of a network, such as that of a file: other characters become `_`.

    Example:
        >>> valid_name("mein Netz (3)")
        'mein_Netz__3_'
    """
    return re.sub(r"[^A-Za-z0-9_.-]", "_", text).lstrip("_-") or "network"


PATTERNS = {NAME: "letters and digits of ASCII, _ - and ., the first one a letter, a digit or ."}
"""Pattern of a field -> its meaning in words."""
TYPES = {"valid integer": "whole number", "valid string": "text", "valid tuple": "list", "valid dictionary": "mapping"}
"""Pydantic's words for a type -> those of a reader who does not know Python."""

HINTS: dict[tuple[int | str, ...], str] = {
    ("head", "classes"): "a network without a classifier is include_top=False, pooling='avg'"
}
"""Field -> hint where its value is too small."""


def explain(error: ValidationError, kind: type[BaseModel], where: str) -> ReszooError:
    """Returns the first problem of invalid data as an error that names field, value and allowed values."""
    # A misspelled field is also a missing one: report the misspelling first.
    problem = min(error.errors(), key=lambda problem: problem["type"] == "missing")
    path, got, name = ".".join(filter(None, [where, *map(str, problem["loc"])])), problem["input"], problem["type"]
    context = problem.get("ctx", {})
    cause = context.get("error")
    if isinstance(cause, ReszooError):
        return ReszooError(
            f"{path}.{cause.where}".removeprefix("."), got=cause.got, expected=cause.expected, hint=cause.hint
        )
    if name == "extra_forbidden":
        known = _fields_at(problem["loc"][:-1], kind)
        return UnknownNameError(f"{path}: unknown field", got=problem["loc"][-1], known=known)
    if name == "missing":
        return ReszooError(path, got="nothing", expected="a value, since the field has no default")
    expected, hint = problem["msg"].removeprefix("Input should be ").replace("greater than or equal to", "at least"), ""
    for word, plain in TYPES.items():
        expected = expected.replace(word, plain).replace("a text", "text")
    if name == "literal_error":
        words = [word.strip("'") for word in context["expected"].replace(" or ", ", ").split(", ")]
        expected, hint = ", ".join(words), nearest(got, words)
    elif name == "string_pattern_mismatch":
        expected = PATTERNS[context["pattern"]]
    elif name == "greater_than_equal":
        hint = HINTS.get(problem["loc"][-2:], "")
    elif name == "float_type" and isinstance(got, str) and _is_number(got):
        # YAML 1.1 reads 1e-5 as text: a float needs a dot there.
        mantissa, _, exponent = got.lower().partition("e")
        hint = f"YAML reads {got} as text: write {mantissa}.0e{exponent}"
    return ReszooError(path, got=repr(got), expected=expected, hint=hint)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _fields_at(path: tuple[int | str, ...], kind: type[BaseModel]) -> list[str]:
    """The names of the fields that are allowed at `path`."""
    schema = kind.model_json_schema()
    here = schema
    for step in path:
        here = here["items"] if isinstance(step, int) else here["properties"][step]
        here = schema["$defs"][here["$ref"].rpartition("/")[2]] if "$ref" in here else here
    return list(here.get("properties", ()))
