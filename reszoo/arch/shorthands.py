"""Changes to a spec, in the words people use: one mechanism for YAML entries, Python arguments and the command line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from reszoo.config import FrozenModel, merge
from reszoo.errors import ReszooError, UnknownNameError


class Shorthand(NamedTuple):
    """A change that stands for one deeper in the spec."""

    path: tuple[str, ...]
    help: str


SHORTHANDS = {
    "classes": Shorthand(("head", "classes"), "width of the classifier"),
    "pooling": Shorthand(("head", "pooling"), "global pooling"),
    "classifier_activation": Shorthand(("head", "activation"), "activation of the classifier"),
    "dropout": Shorthand(("head", "dropout"), "rate before the classifier"),
    "drop_path": Shorthand(("block", "drop_path"), "rate of dropped branches"),
    "shortcut": Shorthand(("block", "shortcut"), "the path around the branch; `A`, `B`, `C` as in He 2015"),
    "depths": Shorthand(("stages", "depth"), "blocks of every stage; one number for all stages alike"),
    "widths": Shorthand(("stages", "width"), "channels of every stage; one number for all stages alike"),
    "width_multiplier": Shorthand(("stages", "width"), "factor on the width of stem and stages"),
    "output_stride": Shorthand(("stages", "stride"), "greatest stride; later strides become dilation"),
}
"""Changes that are not themselves fields: word -> the field it sets and what it says."""

WORDS: dict[str, dict[str | None, dict[str, Any]]] = {
    "stem": {
        "imagenet": {"stem": {"kernel": 7, "stride": 2, "depth": 1, "pool": "max"}},
        "cifar": {"stem": {"kernel": 3, "stride": 1, "depth": 1, "pool": "none"}},
        "deep": {"stem": {"kernel": 3, "stride": 2, "depth": 3, "pool": "max"}},
    },
    "norm": {kind: {"norm": {"kind": kind}} for kind in ("batch", "group", "none")},
    "shortcut": {
        "none": {"block": {"shortcut": "none", "start": "random", "drop_path": 0.0}},
        "A": {"block": {"shortcut": "pad"}},
        "B": {"block": {"shortcut": "project"}},
        "C": {"block": {"shortcut": "project_all"}},
    },
    "pooling": {None: {}},
    "classifier_activation": {None: {"head": {"activation": "linear"}}},
}
"""Words that stand for several fields at once."""


def expand(
    data: dict[str, Any], changes: Mapping[str, Any], *, known: Iterable[str], where: str, also: Iterable[str] = ()
) -> dict[str, Any]:
    """Returns the fields of a spec with changes written into them.

    Args:
        data: the spec as plain data; it is changed.
        changes: fields, parts of fields, shorthands and words.
        known: the names that changes may have.
        where: opens an error's message.
        also: further names that an error offers.

    Raises:
        ReszooError: a change of an unknown name, or one that says nothing of this spec.
    """
    known = [*known]
    unknown = [name for name in changes if name not in known]
    if unknown:
        raise UnknownNameError(f"{where}: unknown argument", got=unknown[0], known={*known, *also})
    for name, value in sorted(changes.items(), key=_turn):
        merge(data, _expand(name, _to_plain_python(value), data, where))
    return data


def _turn(change: tuple[str, Any]) -> int:
    """Words come first, so that what is also said field by field stands; what is said of all stages comes last."""
    name, value = change
    if name in ("width_multiplier", "output_stride"):
        return 2
    return 0 if isinstance(value, (str, type(None))) and value in WORDS.get(name, ()) else 1


def _to_plain_python(value: Any) -> Any:
    """Returns NumPy scalars and arrays, lists, frozen parts and Keras' functions as numbers, lists, dicts and names."""
    if isinstance(value, FrozenModel):
        return value.model_dump()
    if hasattr(value, "tolist"):
        return value.tolist()
    if callable(value) and str(getattr(value, "__module__", "")).startswith("keras."):
        # One of Keras' own functions stands for its name, such as keras.activations.softmax.
        return getattr(value, "__name__", value)
    if isinstance(value, (list, tuple)):
        return [_to_plain_python(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _to_plain_python(item) for key, item in value.items()}
    return value


def _expand(name: str, value: Any, data: dict[str, Any], where: str) -> dict[str, Any]:
    """Returns a change in the spec's own fields."""
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


def _per_stage(field: str, value: Any, data: dict[str, Any], where: str) -> dict[str, Any]:
    stages = data["stages"]
    values = list(value) if isinstance(value, (list, tuple)) else [value] * len(stages)
    if not values or not all(isinstance(item, int) and not isinstance(item, bool) for item in values):
        raise ReszooError(where, got=repr(value), expected="a whole number for every stage, each at least 1")
    # A net may get more or fewer stages: those beyond the known ones halve the resolution, as stages do.
    grown = [dict(stages[i]) if i < len(stages) else {**stages[-1], "stride": 2} for i in range(len(values))]
    return {"stages": [{**stage, field: item} for stage, item in zip(grown, values, strict=True)]}


def _multiplied(value: Any, data: dict[str, Any], where: str) -> dict[str, Any]:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or value <= 0:
        raise ReszooError(where, got=repr(value), expected="a number above 0")
    stages = [{**stage, "width": max(1, round(stage["width"] * value))} for stage in data["stages"]]
    return {"stem": {"width": max(1, round(data["stem"]["width"] * value))}, "stages": stages}


def _dilated(value: Any, data: dict[str, Any], where: str) -> dict[str, Any]:
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
    "depths": lambda value, data, where: _per_stage("depth", value, data, where),
    "widths": lambda value, data, where: _per_stage("width", value, data, where),
    "width_multiplier": _multiplied,
    "output_stride": _dilated,
}
