"""Which tensor goes where: a plan, made and judged before anything is placed."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from reszoo.arch.ops import Op
from reszoo.arch.plan import plan
from reszoo.arch.spec import NetSpec
from reszoo.errors import ReszooError
from reszoo.weights import infer
from reszoo.weights.formats.checkpoint import Tensor
from reszoo.weights.report import Fate, Placement, Report
from reszoo.weights.translate import Named, Translated

Strict = bool | Literal["trunk"]

SHOWN = 10
"""Most names on either side of a diff."""


@dataclass(frozen=True)
class Match:
    """A plan of placement: what to place, and the report of it."""

    tensors: dict[str, Tensor]
    """Our `layer/variable` -> the tensor to place there."""
    report: Report


def match(spec: NetSpec, found: Translated, *, strict: Strict = True, inferred: bool = False) -> Match:
    """Returns which tensor of a file goes where in a network.

    Args:
        spec: the network's.
        found: the file, in our words.
        strict: True: every variable gets its tensor and every tensor its place; `trunk`: the classifier may be
            new; False: what fits is placed, the rest is reported. The first convolution is adapted to another number
            of channels in any case.
        inferred: whether the network was made for this very file, and is not to be compared with what it may hold.

    Raises:
        ReszooError: the file holds another network; with the argument that makes them agree, or a `-`/`+` diff.
    """
    if strict not in (True, False, "trunk"):
        raise ReszooError("strict", got=repr(strict), expected="True, 'trunk', False")
    notes = list(found.checkpoint.notes)
    known = _known(found)
    theirs = spec if inferred else min(known, key=lambda one: len(differences(spec, one)), default=None)
    apart = _without(infer.assumed(found), differences(spec, theirs)) if theirs else {}
    placements, tensors = _place(spec, found, strict)
    _refuse(spec, found, placements, apart, theirs, strict, inferred=inferred)
    notes += _told(found, known, apart, spec)
    if inferred and not spec.dense and not infer.is_told(found):
        stem = f"{spec.stem.stride}{' and a max pool' if spec.stem.pool == 'max' else ''}"
        strides = ", ".join(str(stage.stride) for stage in spec.stages)
        notes.append(f"no tensor tells strides: taken as is usual, stem {stem}, stages {strides}")
    if found.dialect.shortcut == "pad" and spec.block.shortcut == "none":
        told = f"{found.dialect.title} have shortcuts, which no tensor shows; {spec.name} has none"
        warnings.warn(f"{found.checkpoint.path.name}: {told}", stacklevel=4)
    checkpoint = found.checkpoint
    report = Report(
        checkpoint.path.name, checkpoint.container, found.dialect.title, theirs or spec, tuple(placements), tuple(notes)
    )
    return Match(tensors, report)


def _known(found: Translated) -> tuple[NetSpec, ...]:
    try:
        return infer.specs(found)
    except ReszooError:
        # Names and shapes may still fit one by one; where they do not, the diff says more than this would.
        return ()


def _without(fields: tuple[str, ...], changes: dict[str, Any]) -> dict[str, Any]:
    norm = {field: value for field, value in changes.get("norm", {}).items() if field not in fields}
    return {name: value for name, value in (changes | {"norm": norm}).items() if value != {}}


def differences(ours: NetSpec, theirs: NetSpec) -> dict[str, Any]:
    """Returns the changes that make a spec compute what another's weights were made for.

    Strides and dilations of stages, the stem's pool, what only training sees, and the classifier are free: the same
    weights serve networks that differ in them.
    """
    one, other = ours.model_dump(), theirs.model_dump()
    changes: dict[str, Any] = {}
    for part, fields in _COMPARED.items():
        differing = {field: other[part][field] for field in fields if one[part][field] != other[part][field]}
        if differing:
            changes[part] = differing
    if ours.norm.kind == "none" or theirs.norm.kind != ours.norm.kind:
        changes.get("norm", {}).pop("epsilon", None)
    for words, field in (("depths", "depth"), ("widths", "width")):
        if [stage[field] for stage in one["stages"]] != [stage[field] for stage in other["stages"]]:
            changes[words] = [stage[field] for stage in other["stages"]]
    if ours.bias != theirs.bias:
        changes["bias"] = theirs.bias
    if ours.norm.kind != "group":
        changes.get("norm", {}).pop("groups", None)
    return {name: value for name, value in changes.items() if value != {}}


_COMPARED = {
    "stem": ("kernel", "width", "depth"),
    "block": ("body", "order", "shortcut", "stride_at", "attention"),
    "norm": ("kind", "epsilon", "groups"),
}


def _place(spec: NetSpec, found: Translated, strict: Strict) -> tuple[list[Placement], dict[str, Tensor]]:
    placements: list[Placement] = []
    tensors: dict[str, Tensor] = {}
    ops = plan(spec).ops
    first = next(op.name for op in ops if op.weights)
    used = set()
    for op in ops:
        for variable, shape in infer.variables(op).items():
            target = f"{op.name}/{variable}"
            named = found.tensors.get(target)
            fate, why, tensor = _fate(op, shape, named, first, strict)
            used |= {target} if named else set()
            placements.append(Placement(fate, target, named.source if named else "", shape, why))
            if tensor is not None:
                tensors[target] = tensor
    for target, named in found.tensors.items():
        if target not in used:
            placements.append(Placement("ignored", "", named.source, named.tensor.shape, _unused(spec, target)))
    shapes = {name: tensor.shape for name, tensor in found.checkpoint.tensors.items()}
    placements += [Placement("ignored", "", name, shapes[name], "unknown name") for name in found.unknown]
    placements += [Placement("ignored", "", name, shapes[name]) for name in found.ignored]
    return placements, tensors


def _unused(spec: NetSpec, target: str) -> str:
    if target.startswith("predictions/") and spec.head.classes is None:
        return _NO_CLASSIFIER
    return "the model has no such place"


_NO_CLASSIFIER = "the model has no classifier"


def _fate(
    op: Op, shape: tuple[int, ...], named: Named | None, first: str, strict: Strict
) -> tuple[Fate, str, Tensor | None]:
    head = op.name == "predictions"
    if named is None:
        return ("new", "the file has no classifier", None) if head and strict is not True else ("missing", "", None)
    tensor = named.tensor
    if tensor.shape == shape:
        return "copied", "", tensor
    if op.name == first and tensor.shape[:-2] == shape[:-2] and tensor.shape[-1:] == shape[-1:] and len(shape) == 4:
        return "adapted", f"{tensor.shape[2]} channels to {shape[2]}", _to_channels(tensor, shape)
    if head and strict is not True:
        return "new", f"{tensor.shape[-1]} classes in the file, {shape[-1]} here", None
    if head:
        return "missing", f"{tensor.shape[-1]} classes in the file, {shape[-1]} in the model", None
    return "missing", f"the file has {tensor.shape}, the model {shape}", None


def _to_channels(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The usual rule: the sum for one channel; otherwise repeated, cut, and scaled to the same sum."""

    def read() -> Any:
        import numpy as np

        kernel, got, wanted = tensor.read().astype("float32"), tensor.shape[2], shape[2]
        if wanted == 1:
            return kernel.sum(axis=2, keepdims=True)
        repeated = np.tile(kernel, (1, 1, -(-wanted // got), 1))[:, :, :wanted]
        return repeated * np.float32(got / wanted)

    return Tensor(shape, "float32", read)


def _refuse(
    spec: NetSpec,
    found: Translated,
    placements: list[Placement],
    apart: dict[str, Any],
    theirs: NetSpec | None,
    strict: Strict,
    *,
    inferred: bool,
) -> None:
    if strict is False:
        return
    where = found.checkpoint.path.name + ("" if inferred else f" into {spec.name}")
    is_a = f"weights of {found.dialect.title}"
    if apart and theirs is not None:
        name = infer.named_like(theirs)
        arguments = ", ".join(f"{argument}={value!r}" for argument, value in shown(apart).items())
        hint = f"build the model with {arguments}" + (f", or reszoo.{name}" if name else "")
        raise ReszooError(
            where, got=f"{is_a}, a network that differs from the model", hint=f"{hint}{_diff(placements)}"
        )
    classes = [item for item in placements if item.fate == "missing" and item.target.startswith("predictions/")]
    missing = [item for item in placements if item.fate == "missing"]
    extra = [item for item in placements if item.fate == "ignored" and item.why not in ("", _NO_CLASSIFIER)]
    if not missing and not extra:
        return
    if missing and missing == classes and not extra:
        hint = "strict='trunk' loads the rest and leaves the classifier new"
        got = f"{is_a}, {classes[0].why or 'without a classifier'}"
        raise ReszooError(where, got=got, expected=f"{spec.head.classes} classes", hint=hint)
    got = f"{is_a}, of which {len(missing)} variables are missing and {len(extra)} tensors have no place"
    partly = "build that network and use load_weights(model, file, strict=False), which" if inferred else "strict=False"
    raise ReszooError(where, got=got, hint=f"{partly} loads what fits{_diff(placements)}")


def shown(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Changes as a user would write them."""
    shown = dict(changes)
    for part in ("stem", "block", "norm"):
        if part in shown and "body" in shown[part]:
            body = [
                {key: unit[key] for key in unit if key == "kernel" or unit[key] != 1} for unit in shown[part]["body"]
            ]
            shown[part] = {**shown[part], "body": body}
    return shown


def _diff(placements: Iterable[Placement]) -> str:
    """What the model wants (-) and what the file has instead (+), ten of each, then counts."""
    minus = [f"- {item.target} {item.shape}" for item in placements if item.fate == "missing"]
    plus = [
        f"+ {item.source} {item.shape}"
        for item in placements
        if item.fate == "ignored" and item.why not in ("", _NO_CLASSIFIER)
    ]
    lines = []
    for side in (minus, plus):
        lines += side[:SHOWN] + ([f"{side[0][0]} ... and {len(side) - SHOWN} more"] if len(side) > SHOWN else [])
    return "".join(f"\n  {line}" for line in lines)


def _told(found: Translated, known: tuple[NetSpec, ...], apart: dict[str, Any], spec: NetSpec) -> list[str]:
    notes = []
    if not known:
        notes.append("the network in the file could not be told: only names and shapes were compared")
    if apart:
        notes.append(f"the file's network differs: {', '.join(f'{k}={v!r}' for k, v in shown(apart).items())}")
    kinds = sorted({one.block.shortcut for one in known})
    if len(kinds) > 1:
        notes.append(f"no tensor tells the shortcut ({' or '.join(kinds)}): taken as {spec.block.shortcut}")
    if guessed := [f"{field} {getattr(spec.norm, field):g}" for field in infer.assumed(found) if _matters(spec, field)]:
        notes.append(f"the file does not tell, and taken is: {', '.join(guessed)}")
    return notes


def _matters(spec: NetSpec, field: str) -> bool:
    return field == "epsilon" or spec.norm.kind == "group"
