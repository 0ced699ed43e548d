"""Settles what a checkpoint does not tell about its network: the alternatives are tried against outputs of examples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from reszoo.arch import zoo
from reszoo.arch.plan import plan
from reszoo.arch.spec import NetSpec
from reszoo.errors import ReszooError
from reszoo.types import Array
from reszoo.weights import infer, questions
from reszoo.weights.formats.checkpoint import Tensor
from reszoo.weights.forward import UNCHANGED, check_shapes, forward, transformed
from reszoo.weights.origin import open_weights
from reszoo.weights.questions import Changes
from reszoo.weights.translate import LayerNames, Translated

Check: TypeAlias = tuple[Array, Array]
"""Examples, channels last, and the outputs for them."""

TOLERANCE = 1e-4
"""Largest accepted difference of outputs, relative to the largest output: other libraries add in another order."""

DISTINCT = 10.0
"""Another network that fits is no tie if it differs this many times as much as the best, and by more than noise."""

NOISE = 2e-6
"""Differences of this size, relative to the largest output, are those of rounding."""

DEPTH = 2
"""Most answers in a network that differ from the assumed ones."""


@dataclass(frozen=True, repr=False)
class Settled:
    """The network of a checkpoint whose outputs are the expected ones."""

    spec: NetSpec
    answers: Mapping[str, Any]
    """What differs from the assumed network, as arguments of `from_checkpoint`; empty if nothing does."""
    inputs: str
    """What was done to the inputs: `unchanged`, `channels reversed`, ..."""
    difference: float
    """Largest difference of the outputs, relative to the largest output."""
    tried: int
    """Number of networks that were compared."""
    ties: tuple[str, ...] = ()
    """Other answers and inputs, in words, that give the same outputs on these examples."""

    def __repr__(self) -> str:
        ties = f"; equally: {' or '.join(self.ties[:4])}" if self.ties else ""
        counts = f"difference {self.difference:.1e}, {self.tried} tried"
        return f"Settled({_words(self.answers, self.inputs)}; {counts}{ties})"


def settle(
    source: str | Path,
    inputs: Array,
    outputs: Array,
    /,
    *,
    names: LayerNames | None = None,
    key: str | None = None,
    prefix: str | None = None,
    **changes: Any,
) -> Settled:
    """Returns the network of a checkpoint that gives these outputs for these inputs.

    A file of weights does not tell strides, epsilon, activation, shortcuts without weights and groups of norms. The
    network with the usual answers is tried first, then those with one and two other answers; inputs also with
    reversed channels and other scaling. Four images suffice, as long as they differ.

    Example:
        >>> import numpy as np, reszoo
        >>> source = reszoo.record("resnet20_cifar.fashion_mnist").packaged
        >>> x = np.random.default_rng(0).random((2, 28, 28, 1), "float32")
        >>> reszoo.settle(source, x, np.asarray(reszoo.from_checkpoint(source).model(x))).answers
        {}

    Args:
        source: see `load_weights`.
        inputs: examples as the file's own code reads them, but with channels last.
        outputs: what that code returns for them: logits or probabilities.
        names: see `load_weights`.
        key: see `load_weights`.
        prefix: see `load_weights`.
        changes: answers that are known, as in `from_checkpoint`.

    Raises:
        ReszooError: no network has these outputs; the nearest one is not taken.
    """
    opened = open_weights(source, names=names, key=key, prefix=prefix)
    return settled(opened.translated, inputs, outputs, changes)


def settled(
    translated: Translated, inputs: Array, outputs: Array, changes: Mapping[str, Any], *, transforms: bool = True
) -> Settled:
    """Returns the same as `settle` for an opened checkpoint.

    Args:
        translated: the file.
        inputs: examples.
        outputs: what the network returns for them.
        changes: answers that are known.
        transforms: whether changed inputs are tried too.
    """
    search = _Search(translated, inputs, outputs, changes, transforms=transforms)
    fits = search.fits()
    if not fits:
        got = f"outputs that none of {search.tried} networks gives; the nearest one differs by {search.nearest:.2g}"
        hint = "other preprocessing of the inputs, or a network that no spec describes"
        raise ReszooError(translated.checkpoint.path.name, got=got, expected=f"at most {TOLERANCE:g}", hint=hint)
    best = fits[0]
    limit = max(DISTINCT * best.difference, NOISE)
    others = [fit for fit in fits[1:] if fit.difference <= limit and not _is_same(fit, best)]
    ties = tuple(_words(fit.answers, fit.inputs) for fit in others)
    result = Settled(best.spec, best.answers, best.inputs, best.difference, search.tried, ties)
    if ties:
        words = " or ".join((_words(best.answers, best.inputs), *ties[:4]))
        message = f"several networks give these outputs: {words}"
        questions.warn(f"{translated.checkpoint.path.name}: {message}; more different examples decide")
    return result


def check_outputs(spec: NetSpec, tensors: Mapping[str, Tensor], check: Check, *, where: str) -> None:
    """Checks that a network with the tensors of a file gives these outputs.

    Raises:
        ReszooError: it gives others, or some of its weights are not in the file.
    """
    import numpy as np

    inputs, outputs = map(np.asarray, check)
    missing = [name for name in plan(spec).variables if name not in tensors]
    if missing:
        hint = "check= needs a file with all weights"
        raise ReszooError(f"{where}: check", got=f"no weights for {missing[0]}", expected="all weights", hint=hint)
    check_shapes(spec, inputs, outputs, where)
    weights = {name: tensor.read().astype("float32") for name, tensor in tensors.items()}
    difference = _difference(spec, weights, inputs, outputs)
    if not difference <= TOLERANCE:
        hint = "reszoo.settle(file, inputs, outputs) finds the network that gives them"
        got = f"outputs that differ by {difference:.2g} of the largest"
        raise ReszooError(f"{where} into {spec.name}: check", got=got, expected=f"at most {TOLERANCE:g}", hint=hint)


def _difference(spec: NetSpec, weights: Mapping[str, Array], x: Array, y: Array) -> float:
    """Returns the difference of logits or probabilities, whichever is smaller, relative to the largest output."""
    import numpy as np

    logits = forward(spec.replace(head={"activation": "linear"}), weights, x)
    if logits.shape != y.shape:
        return float("inf")
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    candidates = [logits, shifted / shifted.sum(axis=-1, keepdims=True)] if spec.head.classes else [logits]
    differences = [float(np.abs(each - y).max()) for each in candidates]
    smallest = min((each for each in differences if np.isfinite(each)), default=float("inf"))
    return smallest / float(max(np.abs(y).max(), 1e-30))


class _Fit(NamedTuple):
    difference: float
    spec: NetSpec
    answers: Changes
    inputs: str


class _Search:
    """Compares networks on the first example, and those that fit on all."""

    def __init__(
        self,
        translated: Translated,
        inputs: Array,
        outputs: Array,
        changes: Mapping[str, Any],
        *,
        transforms: bool,
    ):
        import numpy as np

        self.translated, self.changes = translated, changes
        self.x, self.y = np.asarray(inputs), np.asarray(outputs)
        self.base = zoo.spec(infer.specs(translated)[0], **changes)
        check_shapes(self.base, self.x, self.y, translated.checkpoint.path.name)
        self.weights = {name: named.tensor.read().astype("float32") for name, named in translated.tensors.items()}
        self.transforms = transformed(self.x) if transforms else {UNCHANGED: self.x}
        self.tried, self.nearest = 0, float("inf")

    def fits(self) -> list[_Fit]:
        """Returns the networks that fit with the fewest answers other than the assumed ones, best first."""
        for depth in range(DEPTH + 1):
            fits = [fit for answers, inputs in self._candidates(depth) if (fit := self._fit(answers, inputs))]
            if fits:
                # Further answers that change nothing on these examples are ties.
                best = min(fits, key=lambda fit: fit.difference)
                fits += [fit for answers, inputs in self._more(best) if (fit := self._fit(answers, inputs))]
                return sorted(fits, key=lambda fit: (fit.difference > NOISE, len(fit.answers), fit.difference))
        return []

    def _alternatives(self) -> list[tuple[Changes, ...]]:
        asked = questions.still_open(self.translated, self.base, self.changes)
        alternatives = [question.alternatives for question in asked]
        if infer.contains_spec(self.translated):
            return alternatives
        specs = [spec for spec in infer.specs(self.translated)[1:] if spec.block.shortcut == self.base.block.shortcut]
        blocks = [{"block": _differing(self.base, spec)} for spec in specs]
        if not self.base.dense:
            alternatives.append(({"padding": "same"},))
        if self.base.head.classes:
            alternatives.append(({"pooling": "max"},))
        return [*alternatives, tuple(each for each in blocks if each["block"])]

    def _candidates(self, depth: int) -> Iterator[tuple[Changes, str]]:
        alternatives = [*self._alternatives(), tuple({INPUTS: name} for name in self.transforms if name != UNCHANGED)]
        for group in combinations([each for each in alternatives if each], depth):
            for choice in product(*group):
                answers = _merged(choice)
                inputs = str(answers.pop(INPUTS, UNCHANGED))
                yield answers, inputs

    def _more(self, best: _Fit) -> Iterator[tuple[Changes, str]]:
        """Yields the best answers with one more answer, or with other inputs."""
        yield from ((best.answers, name) for name in self.transforms if name != best.inputs)
        for alternatives in self._alternatives():
            for each in alternatives:
                if not {*each} & {*best.answers}:
                    yield _merged((best.answers, each)), best.inputs

    def _fit(self, answers: Changes, inputs: str) -> _Fit | None:
        try:
            spec = self.base.replace(**answers)
            if plan(spec).variables != {name: array.shape for name, array in self.weights.items()}:
                return None
        except ReszooError:
            return None
        x = self.transforms[inputs]
        self.tried += 1
        first = _difference(spec, self.weights, x[:1], self.y[:1])
        self.nearest = min(self.nearest, first)
        if first > TOLERANCE:
            return None
        difference = _difference(spec, self.weights, x, self.y) if len(x) > 1 else first
        return _Fit(difference, spec, answers, inputs) if difference <= TOLERANCE else None


def _words(answers: Mapping[str, Any], inputs: str) -> str:
    words = questions.as_text(answers) or "as assumed"
    return words if inputs == UNCHANGED else f"{words}, inputs with {inputs}"


def _is_same(one: _Fit, other: _Fit) -> bool:
    """Whether two networks are the same operations: at stride 1 all paddings are."""
    ops = [
        [op if op.stride > 1 and op.kernel > 1 else op._replace(padding="both") for op in plan(fit.spec).ops]
        for fit in (one, other)
    ]
    return one.inputs == other.inputs and ops[0] == ops[1]


INPUTS = "inputs of the network"


def _differing(one: NetSpec, other: NetSpec) -> Changes:
    ours, theirs = one.block.model_dump(), other.block.model_dump()
    return {field: theirs[field] for field in ("order", "stride_at") if ours[field] != theirs[field]}


def _merged(changes: tuple[Changes, ...]) -> Changes:
    result: Changes = {}
    for each in changes:
        for name, value in each.items():
            both = isinstance(value, dict) and isinstance(result.get(name), dict)
            result[name] = {**result[name], **value} if both else value
    return result
