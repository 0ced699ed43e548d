"""JSON schema of a zoo file, for completion and validation in editors."""

from __future__ import annotations

import ast
import inspect
from itertools import pairwise
from typing import Any

from reszoo.arch import spec, zoo
from reszoo.arch.shorthands import SHORTHANDS, WORDS


def schema() -> dict[str, Any]:
    """Returns the JSON schema (draft 2020-12) of a file of networks such as those in zoo_configs/models."""
    net, source = spec.NetSpec.model_json_schema(), zoo.Source.model_json_schema()
    parts = net["$defs"] | source["$defs"]
    for kind, part in {**parts, "NetSpec": net, "Source": source}.items():
        for field, text in _descriptions(kind).items():
            part["properties"][field]["description"] = text
    fields = {name: field for name, field in net["properties"].items() if name != "name"} | source["properties"]
    for name, shorthand in SHORTHANDS.items():
        part, field = shorthand.path
        if part == "stages":
            number = {"type": "number", "exclusiveMinimum": 0}
            per_stage = {"type": "array", "items": number}
            field_schema = number if name == "width_multiplier" else {"anyOf": [number, per_stage]}
        else:
            field_schema = dict(parts[part.capitalize()]["properties"][field])
        fields[name] = field_schema | {"description": shorthand.help}
    for name, words in WORDS.items():
        fields[name] = {
            "anyOf": [fields[name], {"enum": [*words]}],
            "description": fields[name].get("description", name),
        }
    # An entry lists only the differences from its base, so fields are required only where every unit needs them.
    for name, part in parts.items():
        if name not in ("Unit", "Expect"):
            part.pop("required", None)
    entry = {"type": "object", "additionalProperties": False, "properties": fields}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "reszoo networks",
        "type": "object",
        "additionalProperties": entry,
        "$defs": parts,
    }


def _descriptions(kind: str) -> dict[str, str]:
    """The docstrings of the fields of a part; pydantic could read them too, but would do so at every import."""
    part = getattr(zoo, kind, None) or getattr(spec, kind)
    (body,) = ast.parse(inspect.getsource(part)).body
    lines = body.body if isinstance(body, ast.ClassDef) else []
    texts = {}
    for field, text in pairwise(lines):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
            texts[field.target.id] = " ".join(str(ast.literal_eval(text.value)).split())
    return texts
