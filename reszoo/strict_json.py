"""JSON that every reader accepts: RFC 8259 has no NaN and no infinity, so they become `null`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import PurePath
from typing import Any


def strict_json(data: Any, /, *, indent: int | None = None) -> str:
    """Returns data as strict JSON.

    Example:
        >>> from reszoo.strict_json import strict_json
        >>> strict_json({"precision": float("nan"), "classes": ("ant", "bee")})
        '{"precision": null, "classes": ["ant", "bee"]}'

    Args:
        data: numbers, texts, paths, NumPy arrays and numbers, and mappings, lists, tuples and data classes
            of them.
        indent: spaces per level; by default everything is on one line.
    """
    return json.dumps(_plain(data), indent=indent, allow_nan=False)


def _plain(data: Any) -> Any:
    if hasattr(data, "tolist"):
        # A NumPy array or number; this module does not import NumPy.
        data = data.tolist()
    if hasattr(data, "_asdict"):
        data = data._asdict()
    elif is_dataclass(data) and not isinstance(data, type):
        data = {field.name: getattr(data, field.name) for field in fields(data)}
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, Mapping):
        return {str(name): _plain(value) for name, value in data.items()}
    if isinstance(data, (list, tuple, set, frozenset)):
        return [_plain(value) for value in data]
    return str(data) if isinstance(data, PurePath) else data
