"""Matches tensors to variables, and refuses mismatches before anything is loaded."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from reszoo.arch.plan import plan
from reszoo.arch.spec import NetSpec
from reszoo.errors import ReszooError
from reszoo.types import Array
from reszoo.weights import infer, questions
from reszoo.weights.attributes import layer_settings
from reszoo.weights.formats.checkpoint import Tensor
from reszoo.weights.head import ASSUMES, NORMALIZES
from reszoo.weights.report import (
    BEHIND,
    BESIDE,
    NO_CLASSIFIER,
    WITHIN,
    Placement,
    Report,
    Status,
    Strict as Strict,
    as_arguments,
    differences,
    refuse,
    without_norm_fields,
)
from reszoo.weights.translate import NamedTensor, Translated


@dataclass(frozen=True)
class Match:
    """Tensors to load into a network, and the report."""

    tensors: dict[str, Tensor]
    """`layer/variable` -> tensor to load."""
    report: Report

    def __repr__(self) -> str:
        return f"Match({len(self.tensors)} tensors, {self.report!r})"


def match(
    spec: NetSpec,
    translated: Translated,
    *,
    strict: Strict = True,
    inferred: bool = False,
    verified: bool = False,
    notes: Iterable[str] = (),
) -> Match:
    """Returns the tensors of a file for the variables of a network.

    Args:
        spec: the network.
        translated: the file.
        strict: True: variables and tensors must correspond one to one; `trunk`: the classifier may be new; False:
            tensors that fit are loaded, the rest is reported. The first convolution is always adapted to another
            number of channels.
        inferred: whether the spec was inferred from this file, so that they need not be compared.
        verified: whether outputs of the result are compared, so that nothing but tensors needs to agree.
        notes: further notes for the report.

    Raises:
        ReszooError: the file has another network; the message has the arguments that make them agree, or a diff.
    """
    if strict not in (True, False, "trunk"):
        raise ReszooError("strict", got=repr(strict), expected="True, 'trunk', False")
    more, notes = notes, [*translated.checkpoint.notes, *translated.notes]
    candidates = _candidates(translated)
    theirs = spec if inferred else min(candidates, key=lambda one: len(differences(spec, one)), default=None)
    mismatch = without_norm_fields(infer.assumed_fields(translated), differences(spec, theirs)) if theirs else {}
    mismatch = questions.without_open(translated, theirs, mismatch, verified=verified) if theirs else {}
    placements, tensors = _placements(spec, translated, strict)
    refuse(spec, translated, placements, mismatch, theirs, strict, inferred=inferred)
    notes += _notes(translated, candidates, mismatch, spec, inferred=inferred)
    if inferred and not spec.dense and not infer.contains_spec(translated) and not layer_settings(translated):
        stem = f"{spec.stem.stride}{' and a max pool' if spec.stem.pool == 'max' else ''}"
        strides = ", ".join(str(stage.stride) for stage in spec.stages)
        notes.append(f"strides are not stored in the file; assuming stem {stem}, stages {strides}")
    if translated.dialect.shortcut == "pad" and spec.block.shortcut == "none":
        message = f"{translated.dialect.title} have shortcuts without weights; {spec.name} has no shortcuts"
        warnings.warn(f"{translated.checkpoint.path.name}: {message}", stacklevel=4)
    is_top = spec.head.classes is not None or strict is True
    for note in notes:
        if note.startswith(NORMALIZES) or (is_top and ASSUMES in note):
            warnings.warn(f"{translated.checkpoint.path.name}: {note}", stacklevel=4)
    checkpoint = translated.checkpoint
    report = Report(
        checkpoint.path.name,
        checkpoint.container,
        translated.dialect.title,
        theirs or spec,
        tuple(placements),
        (*notes, *more),
        translated.is_inferred,
    )
    return Match(tensors, report)


def _candidates(translated: Translated) -> tuple[NetSpec, ...]:
    try:
        return infer.specs(translated)
    except ReszooError:
        # Single names and shapes may still fit; if not, the diff is more helpful than this error.
        return ()


def _placements(spec: NetSpec, translated: Translated, strict: Strict) -> tuple[list[Placement], dict[str, Tensor]]:
    """Returns what becomes of every variable and tensor, and the tensors to load."""
    placements: list[Placement] = []
    tensors: dict[str, Tensor] = {}
    variables = plan(spec).variables
    first, used = next(iter(variables)), set()
    for target, shape in variables.items():
        named = translated.tensors.get(target)
        status, reason, tensor = _status(target, shape, named, first, strict)
        used |= {target} if named else set()
        placements.append(Placement(status, target, named.source if named else "", shape, reason))
        if tensor is not None:
            tensors[target] = tensor
    for target, named in translated.tensors.items():
        if target not in used:
            placements.append(Placement("ignored", "", named.source, named.tensor.shape, _unused(spec, target)))
    shapes = {name: tensor.shape for name, tensor in translated.checkpoint.tensors.items()}
    places = {
        **dict.fromkeys(translated.foreign.beside, BESIDE),
        **dict.fromkeys(translated.foreign.head, BEHIND),
        **dict.fromkeys(translated.foreign.within, WITHIN),
    }
    placements += [
        Placement("ignored", "", name, shapes[name], places.get(name, "unknown name")) for name in translated.unknown
    ]
    placements += [Placement("ignored", "", name, shapes[name]) for name in translated.ignored]
    return placements, tensors


def _unused(spec: NetSpec, target: str) -> str:
    if target.startswith("predictions/") and spec.head.classes is None:
        return NO_CLASSIFIER
    return "the model has no such variable"


def _status(
    target: str, shape: tuple[int, ...], named: NamedTensor | None, first: str, strict: Strict
) -> tuple[Status, str, Tensor | None]:
    head = target.startswith("predictions/")
    if named is None and head and strict is not True:
        return "new", "the file has no classifier", None
    if named is None:
        return "missing", "", None
    tensor = named.tensor
    if tensor.shape == shape:
        return "copied", "", tensor
    if target == first and tensor.shape[:-2] == shape[:-2] and tensor.shape[-1:] == shape[-1:] and len(shape) == 4:
        return "adapted", f"{tensor.shape[2]} channels to {shape[2]}", _to_channels(tensor, shape)
    if head and strict is not True:
        return "new", f"{tensor.shape[-1]} classes in the file, {shape[-1]} in the model", None
    if head:
        return "missing", f"{tensor.shape[-1]} classes in the file, {shape[-1]} in the model", None
    return "missing", f"the file has {tensor.shape}, the model {shape}", None


def _to_channels(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Returns a kernel for another number of channels: the sum for one channel, else repeated, cropped and rescaled."""

    def read() -> Array:
        import numpy as np

        kernel = tensor.read().astype("float32")
        before, after = tensor.shape[2], shape[2]
        if after == 1:
            return kernel.sum(axis=2, keepdims=True)
        repeated = np.tile(kernel, (1, 1, -(-after // before), 1))[:, :, :after]
        return repeated * np.float32(before / after)

    return Tensor(shape, "float32", read)


def _notes(
    translated: Translated,
    candidates: tuple[NetSpec, ...],
    mismatch: dict[str, Any],
    spec: NetSpec,
    *,
    inferred: bool,
) -> list[str]:
    notes = []
    if not candidates:
        notes.append("the network in the file is unknown; only names and shapes were compared")
    if mismatch:
        arguments = ", ".join(f"{name}={value!r}" for name, value in as_arguments(mismatch).items())
        notes.append(f"the file's network differs: {arguments}")
    shortcuts = sorted({candidate.block.shortcut for candidate in candidates})
    if len(shortcuts) > 1 and not inferred:
        options = " or ".join(shortcuts)
        notes.append(f"the shortcut is not stored in the file ({options}); assuming {spec.block.shortcut}")
    fields = [field for field in infer.assumed_fields(translated) if field == "epsilon" or spec.norm.kind == "group"]
    if fields:
        values = ", ".join(f"{field}={getattr(spec.norm, field):g}" for field in fields)
        notes.append(f"not stored in the file; assuming {values}")
    return notes
