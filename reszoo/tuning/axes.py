"""One dimension of a search space; values come from anything with the interface of `keras_tuner.HyperParameters`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import cache, cached_property
from random import Random
from typing import Annotated, Any, Literal, NamedTuple, Protocol

from pydantic import Field, Strict, model_validator

from reszoo.config import FrozenModel
from reszoo.errors import ReszooError, UnknownNameError

Value = bool | int | float | str
"""The value of an axis: a number or a word."""
Point = dict[str, Any]
"""One point of a space: axis -> value."""


class ValueSource(Protocol):
    """The interface of `keras_tuner.HyperParameters`, from which a space takes the values of its axes."""

    def Choice(self, name: str, values: list[Any]) -> Any:
        """Returns one of the values."""

    def Int(self, name: str, min_value: int, max_value: int, step: int | None = None, sampling: Any = None) -> Any:
        """Returns a whole number."""

    def Float(self, name: str, min_value: float, max_value: float, step: Any = None, sampling: Any = None) -> Any:
        """Returns a number."""

    def conditional_scope(self, parent_name: str, parent_values: list[Any]) -> AbstractContextManager[Any]:
        """Opens a scope whose axes apply only where the parent has one of the values."""


class Axis(FrozenModel):
    """One dimension: a list of `values`, named `words`, or a range from `low` to `high`.

    In YAML `[1, 2, 3]`, `{words: {small: ..., large: ...}}`, `{low: 1, high: 9, step: 2}`, `{low: 0.01, high: 1.0,
    scale: log}`.
    """

    values: Annotated[tuple[Value, ...], Strict(False)] = ()
    words: dict[str, Any] = Field(default={})
    """Word -> its meaning, where that is more than a number or a word."""
    low: int | float | None = None
    high: int | float | None = None
    """Inclusive, like `low`; the range is one of integers where both are."""
    step: int | float | None = None
    scale: Literal["linear", "log"] = "linear"
    """`log`: uniform in the logarithm."""
    when: dict[str, Annotated[tuple[Value, ...], Strict(False)]] = Field(default={})
    """Applies only where an earlier axis has one of these values: `when: {shortcut: [pad]}`."""

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
        """Whether the range is one of integers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @cached_property
    def answers(self) -> tuple[Any, ...] | None:
        """All possible values, or None where there are infinitely many."""
        if self.low is None or self.high is None:
            return self.values or tuple(self.words)
        if self.whole:
            return tuple(range(int(self.low), int(self.high) + 1, int(self.step or 1)))
        return None if self.step is None else steps(self.low, self.high, self.step)

    def ask(self, hp: ValueSource, name: str) -> Any:
        """Returns the value that `hp` has for this axis."""
        choices = self._choices
        if choices is not None:
            return hp.Choice(name, [*choices])
        ask: Any = hp.Int if self.whole else hp.Float
        answer = ask(name, self.low, self.high, step=self.step, sampling=self.scale)
        if self.step is None or self.whole or answer is None:
            return answer
        # Oracles sum up steps, with rounding errors: equal networks must not look different.
        values = self.answers or ()
        return values[min(max(round((answer - values[0]) / self.step), 0), len(values) - 1)]

    def meaning(self, answer: Any) -> Any:
        """Returns the meaning of a value: that of a word in `words`, or the value itself."""
        return self.words[answer] if self.words else answer


def describe_values(axis: Axis) -> str:
    """Returns the values or the range of an axis in words: `1, 2, 3`, `0.02 to 0.5, log`."""
    if axis.low is None or axis.high is None:
        return ", ".join(map(str, axis.values or axis.words))
    step = "" if axis.step is None else f", step {axis.step:g}"
    return f"{axis.low:g} to {axis.high:g}{step}{', log' if axis.scale == 'log' else ''}"


def _contradictions(axis: Axis) -> Iterator[tuple[str, Any, str]]:
    choices = axis.values or tuple(axis.words)
    if (axis.low is None) != (axis.high is None):
        yield "high" if axis.high is None else "low", "nothing", "low and high together"
    elif bool(axis.values) + bool(axis.words) + (axis.low is not None) != 1:
        yield "values", axis.values, "one of: values, words, low and high"
    elif len(set(choices)) < len(choices) or len({type(value) for value in choices}) > 1:
        yield "values", choices, "different values of one type"
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
    """Returns the numbers from `low` to `high`, without accumulated rounding errors."""
    return tuple(round(low + number * step, 12) for number in range(math.floor((high - low) / step + 1e-9) + 1))


def count_points(axes: list[tuple[str, Axis]], point: Point) -> int | None:
    """Returns the number of points that extend a partial point, or None where there are infinitely many."""
    if not axes:
        return 1
    (name, axis), *rest = axes
    if not applies(axis, point):
        return count_points(rest, point)
    if axis.answers is None:
        return None
    if not any(name in other.when for _, other in rest):
        count = count_points(rest, point)
        return None if count is None else len(axis.answers) * count
    counts = [count_points(rest, {**point, name: answer}) for answer in axis.answers]
    return None if None in counts else sum(map(int, filter(None, counts)))


def all_points(axes: list[tuple[str, Axis]], point: Point) -> Iterator[Point]:
    """Yields every point that extends a partial point, in order."""
    if not axes:
        yield point
        return
    (name, axis), *rest = axes
    if not applies(axis, point):
        yield from all_points(rest, point)
        return
    for answer in axis.answers or ():
        yield from all_points(rest, {**point, name: answer})


def applies(axis: Axis, point: Point) -> bool:
    """Returns whether an axis applies, by the values of its parent."""
    return all(parent in point and point[parent] in answers for parent, answers in axis.when.items())


class Range(NamedTuple):
    """A range of numbers."""

    low: float
    high: float
    """Inclusive, like `low`."""
    step: float | None
    sampling: str | None
    """`log`: uniform in the logarithm."""
    whole: bool
    """Of integers only."""


class Answers:
    """A source of values that calls one function for every axis.

    Args:
        answer: from the name of an axis, and its choices or its range, to the value.
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
        """Opens a scope whose axes apply only where the parent has one of the values."""
        return _NO_SCOPE


_NO_SCOPE: AbstractContextManager[None] = nullcontext()


def random_answers(random: Random) -> Answers:
    """Returns a source of random values, uniform over the values of each axis."""

    def draw(name: str, values: list[Any] | Range) -> Any:
        return _number(random, values) if isinstance(values, Range) else values[int(random.random() * len(values))]

    return Answers(draw)


def _number(random: Random, values: Range) -> float:
    low, high, step, sampling, whole = values
    if sampling == "log":
        # Half a unit beyond both ends, so that they are as likely as the integers between.
        margin = 0.5 if whole else 0.0
        number = math.exp(random.uniform(math.log(low - margin), math.log(high + margin)))
        return min(max(round(number) if whole else number, low), high)
    if whole:
        stride = int(step or 1)
        return int(low) + stride * int(random.random() * ((int(high) - int(low)) // stride + 1))
    if step is None:
        return random.uniform(low, high)
    numbers = steps(low, high, step)
    return numbers[int(random.random() * len(numbers))]


def checked_point(axes: Mapping[str, Axis], values: Mapping[str, Any], /, *, where: str = "point") -> Point:
    """Returns the point of some values; axes that do not apply are left out.

    Example:
        >>> checked_point({"depth": Axis(values=(1, 2))}, {"depth": 2})
        {'depth': 2}

    Args:
        axes: of the space, in order.
        values: axis -> value.
        where: beginning of error messages.

    Raises:
        ReszooError: no mapping, an unknown axis, one without a value, or a value that it does not have.
    """
    if not isinstance(values, Mapping):
        raise ReszooError(where, got=repr(values), expected="a value for every axis, by name")
    for name in values:
        if name not in axes:
            raise UnknownNameError(where, got=name, known=axes)
    point: Point = {}
    for name, axis in axes.items():
        if not applies(axis, point):
            continue
        if name not in values:
            raise ReszooError(f"{where}.{name}", got="nothing", expected=describe_values(axis))
        point[name] = _checked_value(axis, values[name], f"{where}.{name}")
    return point


def _checked_value(axis: Axis, value: Any, where: str) -> Any:
    """The value of an axis, as the space itself writes it."""
    value = value.item() if hasattr(value, "item") else value
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if axis.answers is None:
        if number and float(axis.low or 0) <= value <= float(axis.high or 0):
            return float(value)
    else:
        for answer in axis.answers:
            if answer == value and isinstance(answer, bool) == isinstance(value, bool):
                return answer
            if number and isinstance(answer, float) and math.isclose(answer, value, rel_tol=1e-9):
                return answer
    raise ReszooError(where, got=repr(value), expected=describe_values(axis))
