"""What becomes of the open questions about a checkpoint: a refusal, notes of a report, or a warning."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from reszoo.arch.spec import NetSpec
from reszoo.errors import ReszooError
from reszoo.weights import infer
from reszoo.weights.questions import Question, as_text, groups_in, groups_of_instances
from reszoo.weights.translated import Translated


def refuse(translated: Translated, spec: NetSpec, unanswered: Iterable[Question]) -> None:
    """Refuses a file whose network has an open question without a usual answer.

    Raises:
        ReszooError: there is such a question.
    """
    for question in unanswered:
        if question.is_usual:
            continue
        where = translated.checkpoint.path.name
        hint = "check=(inputs, outputs) or reszoo.settle(file, inputs, outputs) finds the answer"
        if question.field == "norm.groups":
            instance = as_text({"norm": {"groups": groups_of_instances(spec)}})
            got = "norms without running statistics: nothing in the file says how they normalise"
            expected = (
                f"norm={{'groups': n}} for a group norm, {instance} for an instance norm; a batch norm without "
                "tracking depends on the other examples of a batch, and standardized kernels (BiT) are not of the zoo"
            )
        elif question.field == "norm.kind":
            got = "convolutions without bias and without norms: norms without weights leave no trace in a file"
            expected = "norm='none' if there are none; an instance norm without weights cannot be loaded"
        elif question.field == "block.order":
            got = "norms before the convolutions, and nothing in the file that tells what the projections read"
            expected = f"{question.choices()}: they read the first norm and activation of the block, or its input"
            if spec.block.order == "inner":
                got = "no norm in the stem, and nothing that tells whether an activation follows the additions"
                expected = f"{question.choices()}, if none follows them"
        else:
            got = f"nothing in the file that tells {question.subject}"
            expected = f"one of {as_text({'shortcut': spec.block.shortcut})}, {question.choices()}"
        raise ReszooError(where, got=got, expected=expected, hint=hint)


def notes(spec: NetSpec, unanswered: Iterable[Question]) -> tuple[str, ...]:
    """Returns the open questions as notes of a report."""
    result, others = [], []
    for question in unanswered:
        if question.field == "block.shortcut":
            words = " or ".join([spec.block.shortcut, *(each["shortcut"] for each in question.alternatives)])
            result.append(f"the shortcut is not stored in the file ({words}); assuming {spec.block.shortcut}")
        else:
            others.append(f"{question.subject} ({'; '.join(map(_short, question.alternatives))})")
    return (*result, *([f"not stored in the file; alternatives: {', '.join(others)}"] if others else []))


def _short(changes: Any) -> str:
    """Returns the values in changes, such as `2 max` or `1-1-2`."""
    if isinstance(changes, list):
        return "-".join(map(str, changes))
    if isinstance(changes, Mapping):
        return " ".join(map(_short, changes.values()))
    return f"{changes:g}" if isinstance(changes, float) else str(changes)


def warn_of(translated: Translated, spec: NetSpec, unanswered: tuple[Question, ...]) -> None:
    """Warns of open questions with several common answers, and of all where the network is none of the zoo."""
    is_named = infer.zoo_name(spec) is not None or bool(translated.checkpoint.config)
    listed = [question for question in unanswered if question.warns or not is_named]
    if listed:
        subjects = ", ".join(f"{one.subject} ({'; '.join(map(_short, one.alternatives))})" for one in listed)
        advice = "check=(inputs, outputs) or reszoo.settle() finds the answer"
        warn(f"{translated.checkpoint.path.name}: the file does not tell {subjects}; {advice}")


def warn_of_groups(translated: Translated, spec: NetSpec) -> None:
    """Warns of norms without statistics where the model's groups need not be those of the file."""
    variables = {name.rpartition("/")[2] for name in translated.tensors}
    if spec.norm.kind != "group" or "moving_mean" in variables or translated.dialect.title.startswith("reszoo"):
        return
    if groups_in(translated) is None and not infer.contains_spec(translated):
        got = f"the model normalises in {spec.norm.groups} groups, and the file does not say whether its network does"
        warn(f"{translated.checkpoint.path.name}: norms without running statistics: {got}")


def warn(message: str) -> None:
    """Warns on behalf of the code that called this package."""
    level, frame = 1, sys._getframe(0)
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).split(".")[0] == "reszoo":
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)
