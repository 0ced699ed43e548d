"""The report of loading weights: what became of every variable and tensor; files that leave some over are refused."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from reszoo.arch.spec import NetSpec
from reszoo.errors import ReszooError
from reszoo.notebook import html_table
from reszoo.weights import infer
from reszoo.weights.translate import Translated

Status = Literal["copied", "adapted", "new", "ignored", "missing"]
STATUSES: tuple[Status, ...] = ("copied", "adapted", "new", "ignored", "missing")


@dataclass(frozen=True)
class Placement:
    """What became of one variable of the model, or of one tensor of the file."""

    status: Status
    target: str
    """Our `layer/variable`; empty if the model has no such variable."""
    source: str
    """The tensor's name in the file; empty if the file has none."""
    shape: tuple[int, ...]
    reason: str = ""


@dataclass(frozen=True)
class Report:
    """The report of loading weights. `str(report)` summarizes it in a few lines."""

    file: str
    container: str
    dialect: str
    spec: NetSpec
    """The network in the file."""
    placements: tuple[Placement, ...]
    notes: tuple[str, ...] = ()
    is_inferred: bool = False
    """Whether the names in the file were unknown, so that `table` was inferred."""

    @property
    def table(self) -> tuple[str, ...]:
        """Our layer, the layer in the file and its shape, a line for each layer with a kernel or norm."""
        rows: dict[str, tuple[str, str]] = {}
        for item in self.placements:
            layer, _, _ = item.target.rpartition("/")
            if layer and item.source and layer not in rows:
                rows[layer] = re.split(r"[./](?=[^./]*$)", item.source)[0], "x".join(map(str, item.shape))
        width = max(map(len, rows), default=0)
        return tuple(f"{layer:{width}}  {source} ({shape})" for layer, (source, shape) in rows.items())

    def names(self, status: Status) -> tuple[str, ...]:
        """Returns the names of the variables with a status; of `ignored`, those of the file's tensors."""
        return tuple(item.target or item.source for item in self.placements if item.status == status)

    @property
    def copied(self) -> tuple[str, ...]:
        """Variables loaded unchanged."""
        return self.names("copied")

    @property
    def adapted(self) -> tuple[str, ...]:
        """Variables loaded after a conversion, such as to other channels."""
        return self.names("adapted")

    @property
    def new(self) -> tuple[str, ...]:
        """Variables that keep their initial values."""
        return self.names("new")

    @property
    def ignored(self) -> tuple[str, ...]:
        """Tensors of the file that were not loaded."""
        return self.names("ignored")

    @property
    def missing(self) -> tuple[str, ...]:
        """Variables without a tensor in the file."""
        return self.names("missing")

    def __str__(self) -> str:
        lines = [f"{self.file} ({self.container}; {self.dialect})", f"  {self._counts()}"]
        lines += [f"  {line}" for line in _reasons(self.placements)]
        if self.is_inferred:
            lines += ["  names unknown; inferred:", *(f"    {row}" for row in self.table)]
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])

    def __repr__(self) -> str:
        return f"Report({self.file!r}, {self.container}, {self.dialect}: {self._counts()})"

    def _repr_html_(self) -> str:
        rows = [(status, len(names), _some(names)) for status in STATUSES if (names := self.names(status))]
        title = f"{self.file} ({self.container}; {self.dialect})"
        note = "; ".join((*_reasons(self.placements), *self.notes))
        return html_table(("status", "tensors", "names"), rows, title=title, note=note)

    def _counts(self) -> str:
        counts = {status: len(self.names(status)) for status in STATUSES}
        return ", ".join(f"{count} {status}" for status, count in counts.items() if count)


def _reasons(placements: Iterable[Placement]) -> Iterator[str]:
    by_reason: dict[tuple[str, str], list[str]] = {}
    for item in placements:
        if item.reason:
            by_reason.setdefault((item.status, item.reason), []).append(item.target or item.source)
    for (status, reason), names in by_reason.items():
        yield f"{status}: {_some(names)}: {reason}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f", ... ({len(names)})" if len(names) > 3 else "")


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
    "block": ("body", "order", "shortcut", "projection", "stride_at", "attention", "reduction", "multiple"),
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


Strict = bool | Literal["trunk"]

SHOWN = 10
"""Most names on each side of a diff."""

NO_CLASSIFIER = "the model has no classifier"
BESIDE = "no part of the network"
BEHIND = "behind the network's last block"
WITHIN = "inside of the network's blocks or between them"


def refuse(
    spec: NetSpec,
    translated: Translated,
    placements: list[Placement],
    mismatch: dict[str, Any],
    theirs: NetSpec | None,
    strict: Strict,
    *,
    inferred: bool,
) -> None:
    """Checks that the placements are complete, as far as `strict` asks for.

    Raises:
        ReszooError: variables or tensors are left over; the message has the arguments that make them agree, or a diff.
    """
    where = translated.checkpoint.path.name + ("" if inferred else f" into {spec.name}")
    if strict is False:
        _warn(where, translated, placements)
        return
    torch = translated.dialect.layout == "torch"
    is_a = f"weights of {translated.dialect.title}"
    if mismatch and theirs is not None:
        name = infer.zoo_name(theirs)
        arguments = ", ".join(f"{argument}={value!r}" for argument, value in as_arguments(mismatch).items())
        hint = f"build the model with {arguments}" + (f", or reszoo.{name}" if name else "")
        got = f"{is_a}, whose network differs from the model"
        raise ReszooError(where, got=got, hint=f"{hint}{_diff(placements, torch=torch)}")
    classes = [item for item in placements if item.status == "missing" and item.target.startswith("predictions/")]
    missing = [item for item in placements if item.status == "missing"]
    left_out = {"", NO_CLASSIFIER, BESIDE}
    if strict == "trunk" or (spec.head.classes is None and not inferred):
        left_out |= {BEHIND}
    extra = [item for item in placements if item.status == "ignored" and item.reason not in left_out]
    if not missing and not extra:
        return
    if extra and not missing and all(item.reason == BEHIND for item in extra):
        got = f"{is_a} with other layers behind the last block ({', '.join(item.source for item in extra[:4])})"
        hint = "include_top=False loads the network without them"
        if not inferred:
            hint = "strict='trunk' loads the rest"
        raise ReszooError(where, got=got, expected="one linear layer", hint=hint)
    if missing and missing == classes and not extra:
        hint = "strict='trunk' loads the rest and keeps the classifier's initial values"
        got = f"{is_a}, {classes[0].reason or 'without a classifier'}"
        raise ReszooError(where, got=got, expected=f"{spec.head.classes} classes", hint=hint)
    got = f"{is_a} with {len(missing)} missing variables and {len(extra)} unexpected tensors"
    # Loading what fits is worthless where kernels would be missing.
    is_useful = not any(item.target.endswith("/kernel") for item in missing)
    remedy = "strict=False loads what fits" if is_useful else "this is another network"
    if any(item.reason == WITHIN for item in extra):
        remedy = "layers inside of the blocks that the zoo does not have: this is another network"
    elif inferred and is_useful:
        remedy = "build that network and load what fits with load_weights(model, file, strict=False)"
    raise ReszooError(where, got=got, hint=f"{remedy}{_diff(placements, torch=torch)}")


def _warn(where: str, translated: Translated, placements: list[Placement]) -> None:
    """Warns of loading what fits where the result computes something else than the network in the file."""
    within, missing = translated.foreign.within, [item for item in placements if item.status == "missing"]
    if within:
        some = ", ".join(within[:3])
        message = f"{len(within)} tensors inside of the blocks are left out ({some}): the outputs are not the file's"
        warnings.warn(f"{where}: {message}", stacklevel=5)
    variables = [item for item in placements if item.target]
    if 3 * len(missing) > len(variables):
        message = f"{len(missing)} of {len(variables)} variables are not in the file and keep their initial values"
        warnings.warn(f"{where}: {message}", stacklevel=5)


def _diff(placements: Iterable[Placement], *, torch: bool) -> str:
    """Returns missing variables of the model (-) and unexpected tensors of the file (+), ten of each, then counts.

    Shapes are written as the file has them.
    """
    minus = [
        f"- {item.target} {infer.as_in_file(item.shape, torch=torch)}"
        for item in placements
        if item.status == "missing"
    ]
    plus = [
        f"+ {item.source} {item.shape}"
        for item in placements
        if item.status == "ignored" and item.reason not in ("", NO_CLASSIFIER)
    ]
    lines = []
    for side in (minus, plus):
        lines += side[:SHOWN] + ([f"{side[0][0]} ... and {len(side) - SHOWN} more"] if len(side) > SHOWN else [])
    return "".join(f"\n  {line}" for line in lines)
