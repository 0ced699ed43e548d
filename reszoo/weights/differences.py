"""What differs between two networks for weights that one of them has, as arguments of a builder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reszoo.arch.spec import NetSpec


def without_norm_fields(fields: tuple[str, ...], changes: dict[str, Any]) -> dict[str, Any]:
    """Returns changes without some fields of the norm."""
    norm = {field: value for field, value in changes.get("norm", {}).items() if field not in fields}
    return {name: value for name, value in (changes | {"norm": norm}).items() if value != {}}


def differences(ours: NetSpec, theirs: NetSpec) -> dict[str, Any]:
    """Returns the changes that make a spec compute the same as another with the same weights.

    Ignored are strides and dilations of stages, the stem's pool, settings for training only, and the classifier:
    networks that differ in them can share weights.
    """
    one, other = ours.model_dump(), theirs.model_dump()
    changes: dict[str, Any] = {}
    for part, fields in _COMPARED.items():
        differing = {field: other[part][field] for field in fields if one[part][field] != other[part][field]}
        if differing:
            changes[part] = differing
    if ours.norm.kind == "none" or theirs.norm.kind != ours.norm.kind:
        changes.get("norm", {}).pop("epsilon", None)
    for argument, field in (("depths", "depth"), ("widths", "width")):
        if [stage[field] for stage in one["stages"]] != [stage[field] for stage in other["stages"]]:
            changes[argument] = [stage[field] for stage in other["stages"]]
    for field in ("bias", "padding"):
        if one[field] != other[field]:
            changes[field] = other[field]
    if ours.norm.kind != "group":
        changes.get("norm", {}).pop("groups", None)
    return {name: value for name, value in changes.items() if value != {}}


_COMPARED = {
    "stem": ("kernel", "width", "depth"),
    "block": ("body", "order", "shortcut", "projection", "stride_at", "attention"),
    "activation": ("kind", "slope"),
    "norm": ("kind", "epsilon", "groups"),
}


def as_arguments(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns changes as arguments of a builder, without defaults of units."""
    arguments = dict(changes)
    if "body" in arguments.get("block", {}):
        units = arguments["block"]["body"]
        body = [{key: unit[key] for key in unit if key == "kernel" or unit[key] != 1} for unit in units]
        arguments["block"] = {**arguments["block"], "body": body}
    return arguments
