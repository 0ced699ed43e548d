"""What a checkpoint does not tell about its network: the open questions, their usual answers and the alternatives."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatch
from itertools import product
from typing import Any, NamedTuple

from reszoo.arch.parts import PADS
from reszoo.arch.plan import plan
from reszoo.arch.shorthands import SHORTHANDS, WORDS
from reszoo.arch.spec import NetSpec
from reszoo.errors import ReszooError
from reszoo.weights import attributes, infer
from reszoo.weights.translated import Translated

Changes = dict[str, Any]
"""Changes of a spec, as arguments of `NetSpec.replace`."""


class Question(NamedTuple):
    """A property of a network that changes its outputs and leaves no trace in its tensors."""

    field: str
    """The field of the spec, such as `block.shortcut`."""
    subject: str
    """What is open, in words."""
    alternatives: tuple[Changes, ...]
    """Other answers than the assumed one."""
    is_usual: bool = True
    """Whether the assumed answer is the usual one; if not, loading requires an answer."""
    warns: bool = False
    """Whether several answers are common."""

    def choices(self) -> str:
        """Returns the alternatives as arguments of `from_checkpoint`."""
        return ", ".join(as_text(changes) for changes in self.alternatives)


def as_text(changes: Mapping[str, Any]) -> str:
    """Returns changes as arguments of a call."""
    return ", ".join(f"{name}={value!r}" for name, value in changes.items())


def questions(translated: Translated, spec: NetSpec) -> tuple[Question, ...]:
    """Returns the open questions about a network in a file; none if the file contains its spec or its graph.

    Args:
        translated: the file.
        spec: the network with the assumed answers.
    """
    if infer.contains_spec(translated):
        return ()
    shapes = {name: named.tensor.shape for name, named in translated.tensors.items()}
    variables = {name.rpartition("/")[2] for name in shapes}
    result = [*_norm_questions(translated, spec, variables)]
    result += [*_shortcut_questions(translated, spec, shapes)]
    if not spec.dense:
        result += [*_stride_questions(spec)]
    if spec.stem.pool == "max" and attributes.layer_settings(translated):
        # A pool may be a function in the code of the network, which its objects do not show.
        pools: tuple[Changes, ...] = ({"stem": {"pool": "none"}},)
        result += [Question("stem.pool", "whether a pool follows the stem", pools, warns=True)]
    if spec.norm.kind != "none" and (translated.dialect.epsilon is None or translated.dialect.layout == "torch"):
        others = [value for value in (1e-5, 1e-3, 1e-6, 1e-4, 2e-5, 1e-2) if value != spec.norm.epsilon]
        result += [Question("norm.epsilon", "epsilon", tuple({"norm": {"epsilon": value}} for value in others))]
    if translated.is_inferred and spec.block.order not in ("post", "inner"):
        words = dict.fromkeys((spec.block.order, "pre", "pre_unshared"))
        orders = tuple(each for word in words if _has_weights(spec, each := {"block": {"order": word}}))
        result += [Question("block.order", "what the projections read", orders, is_usual=False)]
    result += [Question("activation.kind", "activation", _ACTIVATIONS)]
    return tuple(question for question in result if question.alternatives)


_ACTIVATIONS: tuple[Changes, ...] = (
    *({"activation": {"kind": "leaky_relu", "slope": slope}} for slope in (0.01, 0.1, 0.2, 0.3)),
    *({"activation": kind} for kind in ("silu", "gelu")),
)


def _norm_questions(translated: Translated, spec: NetSpec, variables: set[str]) -> Iterator[Question]:
    if spec.norm.kind == "group" and groups_in(translated) is None:
        numbers = dict.fromkeys([32, 16, 8, 4, 2, 1, _groups_of_instances(spec)])
        others = tuple({"norm": {"groups": number}} for number in numbers if number != spec.norm.groups)
        yield Question("norm.groups", "groups of the norms", others, is_usual=False)
    if spec.norm.kind == "none" and not spec.dense and not spec.bias:
        yield Question("norm.kind", "whether it has norms without weights", ({"norm": "none"},), is_usual=False)


def _groups_of_instances(spec: NetSpec) -> int:
    """Returns the number of groups that gives every channel its own: an instance norm."""
    return math.lcm(*(shape[0] for name, shape in plan(spec).variables.items() if name.endswith("/gamma")))


def groups_in(translated: Translated) -> int | None:
    """Returns the groups of a library's group norms, if the file names an architecture with them, or None."""
    config = translated.checkpoint.config
    architecture = config.get("architecture")
    if isinstance(config.get("reszoo_spec"), str):
        return 0
    patterns = translated.dialect.groups
    return next((patterns[each] for each in patterns if fnmatch(str(architecture), each)), None)


def _shortcut_questions(
    translated: Translated, spec: NetSpec, shapes: Mapping[str, tuple[int, ...]]
) -> Iterator[Question]:
    has_weights = any("_shortcut_" in name for name in shapes)
    if has_weights:
        words: tuple[str, ...] = ("project", "pool_project") if translated.is_inferred else ()
    elif all(_has_weights(spec, {"shortcut": word}) for word in ("project", "none")):
        # No block changes the shape: all kinds of shortcuts are the identity.
        words = ("none",) if spec.block.shortcut != "none" else ("project",)
    else:
        words = (*PADS, "none")
    others = tuple(
        {"shortcut": word} for word in words if word != spec.block.shortcut and _has_weights(spec, {"shortcut": word})
    )
    is_usual = has_weights or not translated.is_inferred
    yield Question("block.shortcut", "the shortcut", others, is_usual=is_usual, warns=not has_weights)


def _has_weights(spec: NetSpec, changes: Changes) -> bool:
    """Returns whether the changed spec is possible and has the same weights."""
    try:
        return plan(spec.replace(**changes)).variables == plan(spec).variables
    except ReszooError:
        return False


def _stride_questions(spec: NetSpec) -> Iterator[Question]:
    stem = {"stride": spec.stem.stride, "pool": spec.stem.pool}
    stems = [{"stride": stride, "pool": pool} for stride, pool in product((1, 2), ("none", "max"))]
    yield Question(
        "stem.stride", "stride and pool of the stem", tuple({"stem": each} for each in stems if each != stem)
    )
    assumed = [stage.stride for stage in spec.stages]
    count = len(assumed)
    patterns = [[1] * count, [2] * count, [1] + [2] * (count - 1), [1] * (count - 1) + [2]]
    patterns += [[*assumed[:number], 3 - assumed[number], *assumed[number + 1 :]] for number in range(count)]
    unique = [list(each) for each in dict.fromkeys(map(tuple, patterns)) if list(each) != assumed]
    changes = [{"strides": each} for each in unique]
    alternatives = tuple(each for each in changes if _has_weights(spec, each))
    yield Question("stages.stride", "strides of the stages", alternatives)
    strided = [spec.block.stride_at]
    for number in range(1, len(spec.block.body) + 1):
        # Before and behind a unit of 1x1 a stride gives the same outputs.
        if not any(_strides_equally(spec, *sorted((number, other))) for other in strided):
            strided.append(number)
    if len({unit.kernel for unit in spec.block.body}) > 1:
        units = tuple({"block": {"stride_at": number}} for number in strided[1:])
        yield Question("block.stride_at", "unit with the stride", units)


def _strides_equally(spec: NetSpec, first: int, last: int) -> bool:
    is_single = all(unit.kernel == 1 for unit in spec.block.body[first:last])
    return first == last or (spec.padding == "both" and is_single)


def still_open(translated: Translated, spec: NetSpec, changes: Mapping[str, Any]) -> tuple[Question, ...]:
    """Returns the questions that neither changes by hand nor layer objects in the file answer.

    Args:
        translated: the file.
        spec: the network with the assumed answers.
        changes: the changes by hand.
    """
    fields = {*_fields(changes), *_fields(attributes.spec_changes(translated))}
    return tuple(
        question
        for question in questions(translated, spec)
        if question.field not in fields and question.field.partition(".")[0] not in fields
    )


def without_open(translated: Translated, spec: NetSpec, changes: Changes, *, verified: bool) -> Changes:
    """Returns the changes between two networks without those that the file does not tell, and has no usual value for.

    Args:
        translated: the file.
        spec: the network in the file, with the assumed answers.
        changes: what differs in the model.
        verified: whether outputs are compared, so that usual values may differ too.
    """
    if not changes:
        return changes
    asked = {question.field for question in questions(translated, spec)}
    if not verified:
        # A file that lists its layers without weights tells the shortcut by them.
        asked &= {"activation.kind"} if translated.layers else {"activation.kind", "block.shortcut"}
    asked |= {"activation.slope"} if "activation.kind" in asked else set()
    result: Changes = {}
    for part, value in changes.items():
        if isinstance(value, Mapping):
            value = {field: value[field] for field in value if f"{part}.{field}" not in asked}
        if value != {} and not (verified and part == "padding"):
            result[part] = value
    return result


def _fields(changes: Mapping[str, Any]) -> Iterator[str]:
    """Yields the fields that changes set, with dots."""
    for name, value in changes.items():
        words: Mapping[Any, Any] = WORDS.get(name, {})
        if isinstance(value, str) and value in words:
            for part, fields in words[value].items():
                yield from (f"{part}.{field}" for field in fields)
        elif name in SHORTHANDS:
            yield ".".join(SHORTHANDS[name].path)
        elif isinstance(value, Mapping):
            yield from (f"{name}.{field}" for field in value)
        elif name in _FIELD_OF:
            yield _FIELD_OF[name]


_FIELD_OF = {"stages": "stages", "stride_at": "block.stride_at"}
"""Name of a change, also of those in `attributes.spec_changes` -> field of a question."""


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
            instance = as_text({"norm": {"groups": _groups_of_instances(spec)}})
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
