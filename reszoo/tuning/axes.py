"""One dimension of a search space, asked in keras-tuner's language and so answerable by any of its oracles."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import cache, cached_property
from random import Random
from typing import Annotated, Any, Literal, NamedTuple, Protocol

from pydantic import Field, Strict, model_validator

from reszoo.config import FrozenModel
from reszoo.errors import ReszooError

Value = bool | int | float | str
"""What an axis answers: a number or a word."""
Point = dict[str, Any]
"""The answers of one draw: axis -> value or word."""


class Asked(Protocol):
    """What can be asked for values: `keras_tuner.HyperParameters`, and what stands in for it."""

    def Choice(self, name: str, values: list[Any]) -> Any:
        """Returns one of the values."""

    def Int(self, name: str, min_value: int, max_value: int, step: int | None = None, sampling: Any = None) -> Any:
        """Returns a whole number."""

    def Float(self, name: str, min_value: float, max_value: float, step: Any = None, sampling: Any = None) -> Any:
        """Returns a number."""

    def conditional_scope(self, parent_name: str, parent_values: list[Any]) -> AbstractContextManager[Any]:
        """Opens a scope in which questions count only where the parent has one of the values."""


class Axis(FrozenModel):
    """One dimension: a list of `values`, named `words`, or a range from `low` to `high`.

    In YAML `[1, 2, 3]`, `{words: {small: ..., large: ...}}`, `{low: 1, high: 9, step: 2}`, `{low: 0.01, high: 1.0,
    scale: log}`.
    """

    values: Annotated[tuple[Value, ...], Strict(False)] = ()
    words: dict[str, Any] = Field(default={})
    """Word -> what it stands for, where that is more than a number or a word."""
    low: int | float | None = None
    high: int | float | None = None
    """Included, as `low` is; numbers are whole where both are."""
    step: int | float | None = None
    scale: Literal["linear", "log"] = "linear"
    """`log`: every factor is as likely as another."""
    when: dict[str, Annotated[tuple[Value, ...], Strict(False)]] = Field(default={})
    """Asked only where an earlier axis has one of these answers: `when: {shortcut: [pad]}`."""

    @model_validator(mode="before")
    @classmethod
    def _listed(cls, data: Any) -> Any:
        return {"values": data} if isinstance(data, (list, tuple)) else data

    @model_validator(mode="after")
    def _possible(self) -> Axis:
        for where, got, expected in _contradictions(self):
            raise ReszooError(where, got=got, expected=expected)
        return self

    @cached_property
    def _choices(self) -> tuple[Any, ...] | None:
        return self.values or tuple(self.words) if self.low is None or self.high is None else None

    @cached_property
    def whole(self) -> bool:
        """Whether a range is one of whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @cached_property
    def answers(self) -> tuple[Any, ...] | None:
        """Every possible answer, or None where there is no end to them."""
        if self.low is None or self.high is None:
            return self.values or tuple(self.words)
        if self.whole:
            return tuple(range(int(self.low), int(self.high) + 1, int(self.step or 1)))
        return None if self.step is None else steps(self.low, self.high, self.step)

    def ask(self, hp: Asked, name: str) -> Any:
        """Returns the answer of `hp`."""
        listed = self._choices
        if listed is not None:
            return hp.Choice(name, [*listed])
        ask: Any = hp.Int if self.whole else hp.Float
        answer = ask(name, self.low, self.high, step=self.step, sampling=self.scale)
        if self.step is None or self.whole or answer is None:
            return answer
        # Oracles add up steps, with noise in the last digits: two networks that are one must not look different.
        known = self.answers or ()
        return known[min(max(round((answer - known[0]) / self.step), 0), len(known) - 1)]

    def meaning(self, answer: Any) -> Any:
        """Returns what an answer stands for."""
        return self.words[answer] if self.words else answer


def _contradictions(axis: Axis) -> Iterator[tuple[str, Any, str]]:
    listed = axis.values or tuple(axis.words)
    if (axis.low is None) != (axis.high is None):
        yield "high" if axis.high is None else "low", "nothing", "low and high together"
    elif bool(axis.values) + bool(axis.words) + (axis.low is not None) != 1:
        yield "values", axis.values, "one of: values, words, low and high"
    elif len(set(listed)) < len(listed) or len({type(value) for value in listed}) > 1:
        yield "values", listed, "different values of one type"
    elif axis.low is None or axis.high is None:
        if axis.step is not None or axis.scale != "linear":
            yield "step", axis.step, "a step and a scale for ranges only"
    elif not axis.low < axis.high:
        yield "high", axis.high, f"more than low, {axis.low}"
    elif axis.scale == "log" and (axis.low <= 0 or axis.step is not None):
        yield "scale", "log", "linear where low is not above 0 or there is a step"
    elif axis.step is not None and (axis.step <= 0 or (axis.whole and isinstance(axis.step, float))):
        yield "step", axis.step, "above 0, and a whole number where low and high are"
    if len(axis.when) > 1:
        yield "when", ", ".join(axis.when), "one axis"


@cache
def steps(low: float, high: float, step: float) -> tuple[float, ...]:
    """Returns the numbers from `low` to `high`, without the last digits' noise."""
    return tuple(round(low + number * step, 12) for number in range(math.floor((high - low) / step + 1e-9) + 1))


def count_points(axes: list[tuple[str, Axis]], said: Point) -> int | None:
    """Returns the number of points that go on from some answers, or None where there is no end to them."""
    if not axes:
        return 1
    (name, axis), *rest = axes
    if not _counts(axis, said):
        return count_points(rest, said)
    if axis.answers is None:
        return None
    if not any(name in other.when for _, other in rest):
        left = count_points(rest, said)
        return None if left is None else len(axis.answers) * left
    counts = [count_points(rest, {**said, name: answer}) for answer in axis.answers]
    return None if None in counts else sum(map(int, filter(None, counts)))


def all_points(axes: list[tuple[str, Axis]], said: Point) -> Iterator[Point]:
    """Yields every point that goes on from some answers, in order."""
    if not axes:
        yield said
        return
    (name, axis), *rest = axes
    if not _counts(axis, said):
        yield from all_points(rest, said)
        return
    for answer in axis.answers or ():
        yield from all_points(rest, {**said, name: answer})


def _counts(axis: Axis, said: Point) -> bool:
    """Whether an axis is asked, after these answers."""
    return all(parent in said and said[parent] in answers for parent, answers in axis.when.items())


class Range(NamedTuple):
    """A question for a number."""

    low: float
    high: float
    """Included, as `low` is."""
    step: float | None
    sampling: str | None
    """`log`: every factor is as likely as another."""
    whole: bool


class Answers:
    """Stands in for `keras_tuner.HyperParameters`: one function answers every question.

    Args:
        answer: from the name of an axis, and its values or its range, to the answer.
    """

    def __init__(self, answer: Callable[[str, list[Any] | Range], Any]):
        self._answer = answer

    def Choice(self, name: str, values: list[Any]) -> Any:
        """Returns one of the values."""
        return self._answer(name, values)

    def Int(self, name: str, min_value: int, max_value: int, step: int | None = None, sampling: Any = None) -> Any:
        """Returns a whole number."""
        return self._answer(name, Range(min_value, max_value, step, sampling, True))

    def Float(self, name: str, min_value: float, max_value: float, step: Any = None, sampling: Any = None) -> Any:
        """Returns a number."""
        return self._answer(name, Range(min_value, max_value, step, sampling, False))

    def conditional_scope(self, parent_name: str, parent_values: list[Any]) -> AbstractContextManager[Any]:
        """Opens a scope in which questions count only where the parent has one of the values."""
        return _SCOPE


_SCOPE: AbstractContextManager[None] = nullcontext()


def dice(random: Random) -> Answers:
    """Returns what answers at random, every answer of an axis as likely as another."""

    def draw(name: str, among: list[Any] | Range) -> Any:
        return _number(random, among) if isinstance(among, Range) else among[int(random.random() * len(among))]

    return Answers(draw)


def _number(random: Random, among: Range) -> float:
    low, high, step, sampling, whole = among
    if sampling == "log":
        # The ends of a range of whole numbers are as likely as the numbers between.
        margin = 0.5 if whole else 0.0
        drawn = math.exp(random.uniform(math.log(low - margin), math.log(high + margin)))
        return min(max(round(drawn) if whole else drawn, low), high)
    if whole:
        each = int(step or 1)
        return int(low) + each * int(random.random() * ((int(high) - int(low)) // each + 1))
    if step is None:
        return random.uniform(low, high)
    numbers = steps(low, high, step)
    return numbers[int(random.random() * len(numbers))]
