"""Shorthands for changes to a spec, the same in YAML entries, Python arguments and on the command line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from reszoo.config import FrozenModel, merge
from reszoo.errors import ReszooError, UnknownNameError


class Shorthand(NamedTuple):
    """A short name for a nested field of the spec."""

    path: tuple[str, ...]
    help: str


SHORTHANDS = {
    "classes": Shorthand(("head", "classes"), "width of the classifier"),
    "pooling": Shorthand(("head", "pooling"), "global pooling"),
    "classifier_activation": Shorthand(("head", "activation"), "activation of the classifier"),
    "dropout": Shorthand(("head", "dropout"), "rate before the classifier"),
    "drop_path": Shorthand(("block", "drop_path"), "drop path rate of the last block"),
    "shortcut": Shorthand(("block", "shortcut"), "shortcut of the blocks; `A`, `B`, `C` as in He 2015"),
    "depths": Shorthand(("stages", "depth"), "blocks per stage; a single number for all stages"),
    "widths": Shorthand(("stages", "width"), "channels per stage; a single number for all stages"),
    "strides": Shorthand(("stages", "stride"), "stride per stage; a single number for all stages"),
    "width_multiplier": Shorthand(("stages", "width"), "factor on the width of stem and stages"),
    "output_stride": Shorthand(("stages", "stride"), "total stride; later strides become dilation"),
}
"""Short name -> the nested field that it sets, and its help text."""

WORDS: dict[str, dict[str | None, dict[str, Any]]] = {
    "stem": {
        "imagenet": {"stem": {"kernel": 7, "stride": 2, "depth": 1, "first_widths": [], "pool": "max"}},
        "cifar": {"stem": {"kernel": 3, "stride": 1, "depth": 1, "first_widths": [], "pool": "none"}},
        "deep": {"stem": {"kernel": 3, "stride": 2, "depth": 3, "first_widths": [], "pool": "max"}},
    },
    "norm": {kind: {"norm": {"kind": kind}} for kind in ("batch", "group", "none")},
    "activation": {kind: {"activation": {"kind": kind}} for kind in ("relu", "leaky_relu", "silu", "gelu")},
    "shortcut": {
        "none": {"block": {"shortcut": "none", "start": "random", "drop_path": 0.0}},
        "A": {"block": {"shortcut": "pad"}},
        "B": {"block": {"shortcut": "project"}},
        "C": {"block": {"shortcut": "project_all"}},
    },
    "pooling": {None: {}},
    "classifier_activation": {None: {"head": {"activation": "linear"}}},
}
"""Field -> words that set several fields at once."""


def expand(
    data: dict[str, Any], changes: Mapping[str, Any], *, known: Iterable[str], where: str, also: Iterable[str] = ()
) -> dict[str, Any]:
    """Returns the fields of a spec with changes applied.

    Args:
        data: the spec as plain data; changed in place.
        changes: fields, nested fields, shorthands and words.
        known: the allowed names of changes.
        where: beginning of error messages.
        also: further names that error messages suggest.

    Raises:
        UnknownNameError: a change has an unknown name.
        ReszooError: a change does not apply to this spec.
    """
    known = [*known]
    unknown = [name for name in changes if name not in known]
    if unknown:
        raise UnknownNameError(f"{where}: unknown argument", got=unknown[0], known={*known, *also})
    for name, value in sorted(changes.items(), key=_priority):
        merge(data, _expand(name, _to_plain_python(value), data, where))
    return data


def _priority(change: tuple[str, Any]) -> int:
    """Words come first, so that explicit fields override them; changes that rescale all stages come last."""
    name, value = change
    if name in ("width_multiplier", "output_stride"):
        return 2
    return 0 if isinstance(value, (str, type(None))) and value in WORDS.get(name, ()) else 1


def _to_plain_python(value: Any) -> Any:
    """Returns NumPy values, frozen models and Keras functions as numbers, lists, dicts and names."""
    if isinstance(value, FrozenModel):
        return value.model_dump()
    if hasattr(value, "tolist"):
        return value.tolist()
    if callable(value) and str(getattr(value, "__module__", "")).startswith("keras."):
        # Functions of Keras, such as keras.activations.softmax, are accepted in place of their names.
        return getattr(value, "__name__", value)
    if isinstance(value, (list, tuple)):
        return [_to_plain_python(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _to_plain_python(item) for key, item in value.items()}
    return value


def _expand(name: str, value: Any, data: dict[str, Any], where: str) -> dict[str, Any]:
    """Returns a change expressed in the fields of the spec."""
    words = WORDS.get(name, {})
    if isinstance(value, (str, type(None))) and value in words:
        return words[value]
    if name not in SHORTHANDS:
        if isinstance(value, str) and words:
            raise UnknownNameError(f"{where}.{name}", got=value, known=[str(word) for word in words])
        return {name: value}
    part, field = SHORTHANDS[name].path
    if part != "stages":
        return {part: {field: value}}
    return _STAGE_CHANGES[name](value, data, f"{where}.{name}")


def _set_per_stage(field: str, value: Any, data: dict[str, Any], where: str) -> dict[str, Any]:
    stages = data["stages"]
    values = list(value) if isinstance(value, (list, tuple)) else [value] * len(stages)
    if not values or not all(isinstance(item, int) and not isinstance(item, bool) for item in values):
        raise ReszooError(where, got=repr(value), expected="one whole number per stage, each at least 1")
    # The number of stages may change; additional stages halve the resolution.
    resized = [dict(stages[i]) if i < len(stages) else {**stages[-1], "stride": 2} for i in range(len(values))]
    return {"stages": [{**stage, field: item} for stage, item in zip(resized, values, strict=True)]}


def _scale_widths(value: Any, data: dict[str, Any], where: str) -> dict[str, Any]:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or value <= 0:
        raise ReszooError(where, got=repr(value), expected="a number above 0")
    stages = [{**stage, "width": max(1, round(stage["width"] * value))} for stage in data["stages"]]
    stem = {
        "width": max(1, round(data["stem"]["width"] * value)),
        "first_widths": [max(1, round(width * value)) for width in data["stem"]["first_widths"]],
    }
    return {"stem": stem, "stages": stages}


def _limit_stride(value: Any, data: dict[str, Any], where: str) -> dict[str, Any]:
    stride = data["stem"]["stride"] * (2 if data["stem"]["pool"] == "max" else 1)
    dilation, stages, reachable = 1, [], [stride]
    for stage in data["stages"]:
        step = stage["stride"]
        reachable.append(reachable[-1] * step)
        if isinstance(value, int) and stride * step > value:
            dilation, step = dilation * step, 1
        stride *= step
        stages.append({**stage, "stride": step, "dilation": dilation})
    if isinstance(value, bool) or value not in reachable:
        expected = ", ".join(str(item) for item in sorted(set(reachable)))
        raise ReszooError(where, got=repr(value), expected=expected)
    return {"stages": stages}


_STAGE_CHANGES: dict[str, Any] = {
    "depths": lambda value, data, where: _set_per_stage("depth", value, data, where),
    "widths": lambda value, data, where: _set_per_stage("width", value, data, where),
    "strides": lambda value, data, where: _set_per_stage("stride", value, data, where),
    "width_multiplier": _scale_widths,
    "output_stride": _limit_stride,
}
