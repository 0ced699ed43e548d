"""JSON schema of a zoo file: completion and checking in editors."""

from __future__ import annotations

from typing import Any

from reszoo.arch.change import SHORTHANDS, WORDS
from reszoo.arch.spec import NetSpec
from reszoo.arch.zoo import Source


def schema() -> dict[str, Any]:
    """Returns the JSON schema (draft 2020-12) of a file of networks such as those in zoo_configs/models."""
    spec, source = NetSpec.model_json_schema(), Source.model_json_schema()
    parts = spec["$defs"] | source["$defs"]
    fields = {name: field for name, field in spec["properties"].items() if name != "name"} | source["properties"]
    for name, shorthand in SHORTHANDS.items():
        part, field = shorthand.path
        if part == "stages":
            number = {"type": "number", "exclusiveMinimum": 0}
            told = number if name == "width_multiplier" else {"anyOf": [number, {"type": "array", "items": number}]}
        else:
            told = dict(parts[part.capitalize()]["properties"][field])
        fields[name] = told | {"description": shorthand.help}
    for name, words in WORDS.items():
        fields[name] = {
            "anyOf": [fields[name], {"enum": [*words]}],
            "description": fields[name].get("description", name),
        }
    # An entry says what differs from its base, so nothing is required but what every unit of a body needs.
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
