"""Networks with other answers to what a checkpoint does not tell, compared by their outputs for examples."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from itertools import combinations, product
from typing import Any, NamedTuple

from reszoo.arch import zoo
from reszoo.arch.cost import cost
from reszoo.arch.plan import plan
from reszoo.arch.spec import NetSpec
from reszoo.errors import ReszooError
from reszoo.types import Array, Tensor as KerasTensor
from reszoo.weights import infer, questions
from reszoo.weights.forward import UNCHANGED, Known, check_shapes, forward, transformed
from reszoo.weights.questions import Changes
from reszoo.weights.translated import Translated

TOLERANCE = 1e-4
"""Largest accepted difference of outputs, relative to the largest output: other libraries add in another order."""

NOISE = 2e-6
"""Differences of this size, relative to the largest output, are those of rounding."""

DEPTH = 2
"""Most answers in a network that differ from the assumed ones."""


def difference(
    spec: NetSpec, weights: Mapping[str, KerasTensor], x: Array, y: Array, known: Known | None = None
) -> float:
    """Returns the difference of logits or probabilities, whichever is smaller, relative to the largest output."""
    import numpy as np

    logits = forward(spec.replace(head={"activation": "linear"}), weights, x, known=known)
    if logits.shape != y.shape:
        return float("inf")
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    candidates = [logits, shifted / shifted.sum(axis=-1, keepdims=True)] if spec.head.classes else [logits]
    differences = [float(np.abs(each - y).max()) for each in candidates]
    smallest = min((each for each in differences if np.isfinite(each)), default=float("inf"))
    return smallest / float(max(np.abs(y).max(), 1e-30))


class Fit(NamedTuple):
    """A network with the expected outputs."""

    difference: float
    spec: NetSpec
    answers: Changes
    inputs: str


class _Candidate(NamedTuple):
    macs: int
    spec: NetSpec
    answers: Changes
    inputs: str


class Alternatives:
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
        from keras import ops

        self.translated, self.changes = translated, changes
        self.x, self.y = np.asarray(inputs), np.asarray(outputs)
        self.base = zoo.spec(infer.specs(translated)[0], **changes)
        check_shapes(self.base, self.x, self.y, translated.checkpoint.path.name)
        tensors = translated.tensors.items()
        self.weights = {name: ops.convert_to_tensor(named.tensor.read().astype("float32")) for name, named in tensors}
        self.transforms = transformed(self.x) if transforms else {UNCHANGED: self.x}
        self.tried, self.nearest = 0, float("inf")
        self._known: Known = {}
        self._next_line = time.monotonic() + _PAUSE

    def fits(self) -> list[Fit]:
        """Returns the networks that fit with the fewest answers other than the assumed ones, best first."""
        for depth in range(DEPTH + 1):
            fits: list[Fit] = []
            for candidate in sorted(self._candidates(depth), key=lambda each: each.macs):
                # Of the many pairs only those that share an answer with one that fits can be ties.
                if depth < DEPTH or not fits or _shares(candidate, fits[0]):
                    fits += filter(None, [self._fit(candidate)])
            if fits:
                # Further answers that change nothing on these examples are ties.
                best = min(fits, key=lambda fit: fit.difference)
                fits += filter(None, map(self._fit, self._more(best)))
                return sorted(fits, key=lambda fit: (fit.difference > NOISE, len(fit.answers), fit.difference))
        return []

    def _alternatives(self) -> list[tuple[Changes, ...]]:
        questions_left = questions.still_open(self.translated, self.base, self.changes)
        alternatives = [question.alternatives for question in questions_left]
        if infer.contains_spec(self.translated):
            return alternatives
        specs = [spec for spec in infer.specs(self.translated)[1:] if spec.block.shortcut == self.base.block.shortcut]
        blocks = [{"block": _differing(self.base, spec)} for spec in specs]
        if not self.base.dense:
            alternatives.append(({"padding": "same"},))
        if self.base.head.classes:
            alternatives.append(({"pooling": "max"},))
        return [*alternatives, tuple(each for each in blocks if each["block"])]

    def _candidates(self, depth: int) -> Iterator[_Candidate]:
        alternatives = [*self._alternatives(), tuple({INPUTS: name} for name in self.transforms if name != UNCHANGED)]
        for group in combinations([each for each in alternatives if each], depth):
            for choice in product(*group):
                answers = _merged(choice)
                inputs = str(answers.pop(INPUTS, UNCHANGED))
                yield from self._possible(answers, inputs)

    def _more(self, best: Fit) -> Iterator[_Candidate]:
        """Yields the best answers with one more answer, or with other inputs."""
        for name in self.transforms:
            yield from self._possible(best.answers, name) if name != best.inputs else ()
        for alternatives in self._alternatives():
            for each in alternatives:
                if not {*each} & {*best.answers}:
                    yield from self._possible(_merged((best.answers, each)), best.inputs)

    def _possible(self, answers: Changes, inputs: str) -> Iterator[_Candidate]:
        """Yields the network with these answers, if it has the weights of the file."""
        try:
            spec = self.base.replace(**answers)
            network = plan(spec.replace(input_shape=self.x.shape[1:]))
        except ReszooError:
            return
        shapes = {name: tuple(weight.shape) for name, weight in self.weights.items()}
        if network.variables == shapes:
            yield _Candidate(cost(network).macs, spec, answers, inputs)

    def _fit(self, candidate: _Candidate) -> Fit | None:
        spec, x = candidate.spec, self.transforms[candidate.inputs]
        known = self._known if candidate.inputs == UNCHANGED else None
        self.tried += 1
        first = difference(spec, self.weights, x[:1], self.y[:1], known)
        self.nearest = min(self.nearest, first)
        if time.monotonic() > self._next_line:
            self._next_line += _PAUSE
            line = f"{self.translated.checkpoint.path.name}: {self.tried} networks tried, the nearest differs by"
            logging.getLogger("reszoo").warning("%s %.2g", line, self.nearest)
        if first > TOLERANCE:
            return None
        whole = difference(spec, self.weights, x, self.y) if len(x) > 1 else first
        return Fit(whole, spec, candidate.answers, candidate.inputs) if whole <= TOLERANCE else None


_PAUSE = 10.0
"""Seconds between two lines about the progress."""


def _shares(candidate: _Candidate, fit: Fit) -> bool:
    """Whether a network has one of the answers that another one has."""
    has_inputs = candidate.inputs == fit.inputs != UNCHANGED
    return has_inputs or any(fit.answers.get(field) == value for field, value in candidate.answers.items())


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
