"""What a network may cost, settled before any is built: draws over budget are drawn again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from itertools import islice
from random import Random
from typing import Annotated

from pydantic import Field

from reszoo.arch.cost import Cost
from reszoo.arch.spec import NetSpec
from reszoo.config import FrozenModel
from reszoo.errors import ReszooError
from reszoo.tuning.axes import Point, dice
from reszoo.tuning.space import Space

COUNTED = ("params", "macs", "activations", "depth")
"""Limits that are counted, not measured."""
TRIED = 2_000
"""Draws from which the feasible fraction is told."""
PATIENCE = 200_000
"""Draws until a point is given up on that is known to exist."""

Limit = Annotated[float, Field(gt=0)] | None
Measure = Callable[[NetSpec], float]


class Budget(FrozenModel):
    """The most that a network, or its training, may cost; what is not said is not limited."""

    params: Limit = None
    """Trainable parameters."""
    macs: Limit = None
    """Multiply-accumulates for one example."""
    activations: Limit = None
    """Numbers that convolutions and dense layers put out for one example."""
    depth: Limit = None
    """Weighted layers in a row."""
    latency: Limit = None
    """Seconds for one example on this device, in inference; measured once for every network that fits the rest."""
    seconds: Limit = None
    """Of training, for one trial: it is stopped after the epoch in which they are over."""

    def excess(self, cost: Cost) -> float:
        """Returns the greatest share of a counted limit that a network takes: it fits where that is at most 1."""
        limits = ((getattr(cost, name), getattr(self, name)) for name in COUNTED)
        return max((spent / limit for spent, limit in limits if limit is not None), default=0.0)


class Feasible:
    """The points of a space whose networks exist and are within budget."""

    def __init__(self, space: Space, budget: Budget, *, measure: Measure | None = None):
        if budget.latency is not None and measure is None:
            raise ReszooError("budget.latency", got=budget.latency, expected="where networks can be measured")
        self.space, self.budget = space, budget
        self._measure = measure

    def has(self, point: Point) -> bool:
        """Whether a point is one of them."""
        cost = self.space.cost(point)
        if cost is None or self.budget.excess(cost) > 1:
            return False
        if self.budget.latency is None or self._measure is None:
            return True
        spec = self.space.spec(point)
        return spec is not None and self._measure(spec) <= self.budget.latency

    def fraction(self) -> float:
        """Returns the share of draws that exist and fit the counted limits.

        Raises:
            ReszooError: there are none; the message names the least cost in the space.
        """
        found = [self.space.cost(point) for point in islice(self.space.sample(seed=0), TRIED)]
        fit = sum(cost is not None and self.budget.excess(cost) <= 1 for cost in found)
        if not fit and self.budget.excess(self.least()) > 1:
            raise self._empty()
        return fit / TRIED

    def draw(self, *, seed: int | str) -> Point:
        """Returns a point, each as likely as another; the same for the same seed.

        Raises:
            ReszooError: there are none, or too few to meet one.
        """
        answers = dice(Random(seed))
        for tried in range(PATIENCE):
            point = self.space.ask(answers)
            if self.has(point):
                return point
            if tried == TRIED and self.budget.excess(self.least()) > 1:
                raise self._empty()
        hint = "a larger budget, or narrower ranges"
        raise ReszooError(self.space.name, got=f"no fitting network in {PATIENCE:,} draws", hint=hint)

    def redraw(self, point: Point) -> Point:
        """Returns a point within budget for any point: itself where it is, otherwise a draw that it alone decides."""
        if self.has(point):
            return point
        told = hashlib.sha256(repr(sorted(point.items())).encode()).hexdigest()
        drawn = self.draw(seed=told)
        # What costs nothing stays as it was asked for.
        kept = {name: answer for name, answer in point.items() if name in self.space.recipe and name in drawn}
        return {**drawn, **kept}

    def least(self) -> Cost:
        """Returns the least cost in the space, found by going down along one axis after another."""
        points = [point for point in islice(self.space.sample(seed=0), TRIED) if self.space.cost(point)]
        if not points:
            raise ReszooError(self.space.name, got="no possible network", hint="check the ranges of its axes")
        best = min(points, key=self._spent)
        better = True
        while better:
            before = self._spent(best)
            for name, axis in self.space.axes.items():
                answers = axis.answers or (axis.low, axis.high)
                tried = [{**best, name: answer} for answer in answers] if name in best else []
                best = min([best, *(point for point in tried if self.space.cost(point))], key=self._spent)
            better = self._spent(best) < before
        found = self.space.cost(best)
        assert found is not None
        return found

    def _spent(self, point: Point) -> float:
        cost = self.space.cost(point)
        return self.budget.excess(cost) if cost else float("inf")

    def _empty(self) -> ReszooError:
        least = self.least()
        limits = {name: getattr(self.budget, name) for name in COUNTED}
        over = [name for name, limit in limits.items() if limit is not None and getattr(least, name) > limit]
        got = ", ".join(f"{name} of at most {limits[name]:,.0f}" for name in over)
        told = ", ".join(f"{getattr(least, name):,} {name}" for name in over)
        return ReszooError(
            f"budget on {self.space.name}", got=got, expected=f"at least {told}, the least cost in the space"
        )
