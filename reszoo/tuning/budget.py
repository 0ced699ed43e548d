"""The most that a network may cost, checked before it is built: points over budget are replaced."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from itertools import islice
from random import Random
from typing import Annotated

from pydantic import Field

from reszoo.arch.cost import Cost
from reszoo.arch.spec import NetSpec
from reszoo.config import FrozenModel
from reszoo.errors import ReszooError
from reszoo.notebook import html_table
from reszoo.tuning.axes import Point, random_answers
from reszoo.tuning.space import Space

COUNTED_COSTS = ("params", "macs", "activations", "depth")
"""Costs that are computed from the spec, not measured."""
SAMPLE_SIZE = 2_000
"""Random points from which the feasible fraction is estimated."""
DESCENTS = 100
"""Random points from which one within budget is looked for where none of the sample is."""

Limit = Annotated[float, Field(gt=0)] | None
Measure = Callable[[NetSpec], float]


class Budget(FrozenModel):
    """The most that a network, or its training, may cost; a cost that is left out is unlimited.

    Example:
        >>> import reszoo
        >>> reszoo.Budget(macs=2e6)
        Budget(macs=2e+06)
    """

    params: Limit = None
    """Trainable parameters."""
    macs: Limit = None
    """Multiply-accumulates for one example."""
    activations: Limit = None
    """Outputs of all convolutions and dense layers for one example."""
    depth: Limit = None
    """Weighted layers in sequence."""
    latency: Limit = None
    """Inference seconds for one example on this device; measured once for every network within the other limits."""
    seconds: Limit = None
    """Training time of one trial; it stops after the epoch in which the time runs out."""

    def __repr__(self) -> str:
        return f"Budget({', '.join(f'{name}={limit:g}' for name, limit in self.limits().items())})"

    def _repr_html_(self) -> str:
        return html_table(["cost", "at most"], [(name, f"{limit:g}") for name, limit in self.limits().items()])

    def limits(self) -> dict[str, float]:
        """Returns cost -> limit, of the costs that are limited."""
        return {name: limit for name, limit in self.model_dump().items() if limit is not None}

    def excess(self, cost: Cost) -> float:
        """Returns the largest ratio of a counted cost to its limit; a network is within budget up to 1."""
        pairs = ((getattr(cost, name), getattr(self, name)) for name in COUNTED_COSTS)
        return max((value / limit for value, limit in pairs if limit is not None), default=0.0)


def limits_of(budget: Budget | Mapping[str, float] | None) -> dict[str, float]:
    """Returns the limits of a budget, unchecked.

    Raises:
        ReszooError: neither a budget nor a mapping.
    """
    if not isinstance(budget, (Budget, Mapping, type(None))):
        raise ReszooError("budget", got=repr(budget), expected="limits by name: {'macs': 2e6}")
    return budget.model_dump() if isinstance(budget, Budget) else dict(budget or {})


class Feasible:
    """The points of a space whose networks are valid and within budget."""

    def __init__(self, space: Space, budget: Budget, *, measure: Measure | None = None):
        if budget.latency is not None and measure is None:
            raise ReszooError(
                "budget.latency",
                got=budget.latency,
                expected="a latency limit only where networks can be timed (reszoo.search)",
            )
        self.space = space
        self.budget = budget
        self._measure = measure
        self._fastest = math.inf
        """Least latency measured so far."""

    def has(self, point: Point) -> bool:
        """Returns whether the network of a point is valid and within budget."""
        if not self.is_within_counts(point):
            return False
        if self.budget.latency is None or self._measure is None:
            return True
        spec = self.space.spec(point)
        if spec is None:
            return False
        seconds = self._measure(spec)
        self._fastest = min(self._fastest, seconds)
        return seconds <= self.budget.latency

    def check(self, point: Point) -> None:
        """Checks that the network of a point is valid and within budget.

        Raises:
            ReszooError: it is not; the message names the cost.
        """
        cost, spec = self.space.cost(point), self.space.spec(point)
        if cost is None or spec is None:
            raise ReszooError("point", got=point, expected="a network that can be built")
        for name, limit in self.budget.limits().items():
            if name in COUNTED_COSTS and getattr(cost, name) > limit:
                raise ReszooError("point", got=f"{getattr(cost, name):,} {name}", expected=f"at most {limit:,.0f}")
        if not self.has(point):
            raise ReszooError("point", got="a slower network", expected=f"at most {self.budget.latency} s")

    def is_within_counts(self, point: Point) -> bool:
        """Returns whether the network of a point is valid and within the counted limits; nothing is measured."""
        cost = self.space.cost(point)
        return cost is not None and self.budget.excess(cost) <= 1

    def fraction(self) -> float:
        """Returns the share of random points whose networks are valid and within the counted limits."""
        return sum(map(self.is_within_counts, islice(self.space.sample(seed=0), SAMPLE_SIZE))) / SAMPLE_SIZE

    def check_any(self) -> None:
        """Checks that a network is within the counted limits.

        Raises:
            ReszooError: there is none; the message names the least cost in the space.
        """
        draws = islice(self.space.sample(seed=0), SAMPLE_SIZE)
        if not any(map(self.is_within_counts, draws)) and self.budget.excess(self.least()) > 1:
            raise self._no_network_error()

    def draw(self, *, seed: int | str) -> Point:
        """Returns a random point within budget, the same for the same seed.

        It is uniformly distributed; where such points are so rare that none is drawn, it is one near a random point.

        Raises:
            ReszooError: there is none, or none was found.
        """
        random = Random(seed)
        answers = random_answers(random)
        for _ in range(SAMPLE_SIZE):
            if self.has(point := self.space.ask(answers)):
                return point
        self.check_any()
        if (self.space.count() or math.inf) <= SAMPLE_SIZE:
            return self._listed(random)
        for _ in range(DESCENTS):
            if self.has(point := self._descent(self.space.ask(answers), random)):
                return point
        raise self._no_draw_error(f"no network within budget in {SAMPLE_SIZE:,} draws")

    def _listed(self, random: Random) -> Point:
        """A random one of all points of a small space that are within budget."""
        points = [point for point in self.space.points() if self.has(point)]
        if points:
            return random.choice(points)
        raise self._no_draw_error("no network within budget")

    def _no_draw_error(self, got: str) -> ReszooError:
        where, hint = f"budget on {self.space.name}", "use a larger budget or narrower ranges"
        if self.budget.latency is None:
            return ReszooError(where, got=got, hint=hint)
        expected = f"at least {self._fastest:.3g} s, the least that was measured"
        return ReszooError(where, got=f"a latency of at most {self.budget.latency:g} s", expected=expected, hint=hint)

    def _descent(self, point: Point, random: Random) -> Point:
        """A point within the counted limits, reached from another one by changing one axis after another.

        An axis takes a random one of its values that are within, or the one that is least over: as far as it goes.
        """
        # Where an axis decides which others apply, a changed value would need values of these.
        parents = {parent for axis in self.space.axes.values() for parent in axis.when}
        names, before = [name for name in point if name not in parents], math.inf
        while 1 < self._excess(point) < before:
            before = self._excess(point)
            random.shuffle(names)
            for name in names:
                neighbors = self._neighbors(point, name)
                within = [each for each in neighbors if self._excess(each) <= 1]
                if within:
                    return random.choice(within)
                point = min([point, *neighbors], key=self._excess)
        return point

    def _neighbors(self, point: Point, name: str) -> list[Point]:
        """The points that differ in one axis; those at its ends where it has infinitely many values."""
        axis = self.space.axes[name]
        answers = axis.answers or (axis.low, axis.high)
        return [{**point, name: answer} for answer in answers] if name in point else []

    def redraw(self, point: Point) -> Point:
        """Returns a point within budget: `point` itself if it is, otherwise a random one decided by `point`."""
        if self.has(point):
            return point
        seed = hashlib.sha256(repr(sorted(point.items())).encode()).hexdigest()
        replacement = self.draw(seed=seed)
        # Axes of the recipe do not change the cost, so they keep their values.
        recipe = {name: value for name, value in point.items() if name in self.space.recipe and name in replacement}
        return {**replacement, **recipe}

    def least(self) -> Cost:
        """Returns the least cost in the space, found by coordinate descent over its axes."""
        points = [point for point in islice(self.space.sample(seed=0), SAMPLE_SIZE) if self.space.cost(point)]
        if not points:
            raise ReszooError(self.space.name, got="no valid network", hint="check the ranges of its axes")
        best = min(points, key=self._excess)
        better = True
        while better:
            before = self._excess(best)
            for name in self.space.axes:
                best = min([best, *self._neighbors(best, name)], key=self._excess)
            better = self._excess(best) < before
        cost = self.space.cost(best)
        assert cost is not None
        return cost

    def _excess(self, point: Point) -> float:
        cost = self.space.cost(point)
        return self.budget.excess(cost) if cost else float("inf")

    def _no_network_error(self) -> ReszooError:
        least = self.least()
        limits = {name: getattr(self.budget, name) for name in COUNTED_COSTS}
        over = [name for name, limit in limits.items() if limit is not None and getattr(least, name) > limit]
        got = ", ".join(f"{name} of at most {limits[name]:,.0f}" for name in over)
        expected = ", ".join(f"{getattr(least, name):,} {name}" for name in over)
        return ReszooError(
            f"budget on {self.space.name}", got=got, expected=f"at least {expected}, the least cost in the space"
        )
