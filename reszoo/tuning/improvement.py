"""The sampler `gp`: networks by the improvement that they promise for their cost (Snoek et al. 2012, 3.2)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from random import Random
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.optimize import minimize
from scipy.special import erfcx, ndtr

from reszoo.tuning.axes import Axis, Point, random_answers
from reszoo.tuning.budget import COUNTED_COSTS, Feasible

Array = NDArray[np.float64]

STARTS, OFFERS = 3, 8
"""First proposals, before there are results: each is the cheapest of so many random networks."""
POOL, MAX_DRAWS = 1_000, 10_000
"""Networks of which the most promising one is taken, and random draws to gather them."""
COST_POWER = 1.0
"""Improvement is divided by the MACs to this power."""

LENGTH, VARIANCE, NOISE = 0.5, 1.0, 0.02
"""Expected length scale, in ranges of an axis; variance of the scores, and of their noise, in standard deviations."""
SPREAD = 1.0
"""Standard deviation of the logarithms of these three, a priori."""
BOUNDS = {"length": (0.05, 20.0), "variance": (0.05, 20.0), "noise": (1e-4, 1.0)}
LEAST_VARIANCE = 1e-10


class Results(NamedTuple):
    """What is known of the trials of a study."""

    points: list[Point]
    """Of the trials that ended."""
    scores: list[float]
    """Theirs: greater is better."""
    pending: list[Point]


def by_promise(
    feasible: Feasible, results: Results, *, number: int, random: Random, costs: Sequence[str] = ()
) -> Iterator[Point]:
    """Yields points within the counted limits, the most promising first; untried ones and others.

    Args:
        feasible: space and budget.
        results: of the trials so far.
        number: of the proposal, from 0.
        random: draws the points, and limits of the costs.
        costs: to be minimized beside the score. Of each a random limit is drawn, and the best network within these
            limits has to be beaten: one slice of the hypervolume that a network adds to the Pareto front.
    """
    draws = _draws(feasible, random)
    if number < STARTS or not results.points:
        first = [*islice(draws, OFFERS)]
        yield from sorted(first, key=lambda point: _cost(feasible, "macs", point))
        yield from draws
        return
    pool = [*draws]
    if not pool:
        return
    tried = [*results.points, *results.pending]
    rivals = np.ones(len(tried), bool)
    for name in costs:
        known = np.array([_cost(feasible, name, point) for point in tried])
        limit = math.exp(random.uniform(math.log(known.min()), math.log(known.max())))
        rivals &= known <= limit
        pool = [point for point in pool if _cost(feasible, name, point) <= limit] or pool
    macs = np.array([_cost(feasible, "macs", point) for point in pool])
    promises = log_promises(feasible.space.axes, pool, results, rivals) - COST_POWER * np.log(macs)
    yield from (pool[place] for place in np.argsort(-promises, kind="stable"))


def log_promises(axes: Mapping[str, Axis], points: Sequence[Point], results: Results, rivals: Array) -> Array:
    """Returns the logarithm of the improvement that is expected of every point.

    Pending trials count as if they had reached what is predicted of them (Ginsbourger et al. 2010, 3.2, the Kriging
    believer): little improvement is expected beside them.

    Args:
        axes: of the space.
        points: candidates.
        results: of the trials so far.
        rivals: which trials have to be beaten, first those that ended, then the pending ones.
    """
    scores = np.array(results.scores)
    scores = (scores - scores.mean()) / (scores.std() or 1.0)
    tried = results.points
    process = Process.fit(squares(axes, tried, tried), scores)
    if results.pending:
        scores = np.append(scores, process.predict(squares(axes, results.pending, tried))[0])
        tried = [*tried, *results.pending]
        process = Process(process.logs, squares(axes, tried, tried), scores)
    mean, deviation = process.predict(squares(axes, points, tried))
    return log_improvement(mean, deviation, scores[rivals].max(initial=scores.min()))


def squares(axes: Mapping[str, Axis], rows: Sequence[Point], columns: Sequence[Point]) -> Array:
    """Returns squared distances between points, axis by axis, of shape (axes, rows, columns)."""
    distances = np.empty((len(axes), len(rows), len(columns)))
    for number, (name, axis) in enumerate(axes.items()):
        one, two = (coordinates(axis, [point.get(name) for point in points]) for points in (rows, columns))
        distances[number] = ((one[:, None, :] - two[None, :, :]) ** 2).sum(axis=2)
    return distances


def coordinates(axis: Axis, values: Sequence[Any]) -> Array:
    """Returns a row of coordinates for every value of an axis, at most 1 apart; None is a value that does not apply.

    Numbers have one coordinate, logarithmic where all are above 0, words one for each word. What does not apply lies in
    the middle: the axis that it depends on tells such points from others.
    """
    answers: Sequence[Any] = axis.answers or (axis.low, axis.high)
    if isinstance(answers[0], (str, bool)):
        return np.array([[value == answer for answer in answers] for value in values], float) / math.sqrt(2)
    change: Callable[[float], float] = math.log if min(answers) > 0 else float
    low, high = change(min(answers)), change(max(answers))
    return np.array([[0.5 if value is None else (change(value) - low) / ((high - low) or 1.0)] for value in values])


def _draws(feasible: Feasible, random: Random) -> Iterator[Point]:
    """Points within the counted limits, in random order: all of a small space, or random ones."""
    space = feasible.space
    count = space.count()
    if count is not None and count <= POOL:
        points = [*filter(feasible.is_within_counts, space.points())]
        random.shuffle(points)
        return iter(points)
    answers = random_answers(random)
    draws = (space.ask(answers) for _ in range(MAX_DRAWS))
    return islice(filter(feasible.is_within_counts, draws), POOL)


def _cost(feasible: Feasible, name: str, point: Point) -> float:
    """A counted cost of a point; for latency, which would have to be measured, its MACs."""
    return float(getattr(feasible.space.cost(point), name if name in COUNTED_COSTS else "macs"))


# Gaussian-process regression (Rasmussen & Williams 2006, 2.2 and 5.4.1), and expected improvement.


@dataclass(frozen=True)
class Process:
    """A Gaussian process with a squared exponential kernel, one length scale an axis, and noise."""

    logs: Array
    """Logarithms of the length scales, of the variance and of the noise."""
    squares: Array
    """Squared distances between the points of the scores."""
    scores: Array

    @classmethod
    def fit(cls, squares: Array, scores: Array) -> Process:
        """Returns the process whose parameters are the most probable ones, given scores and expectations."""
        axes = len(squares)
        expected = np.log([*[LENGTH] * axes, VARIANCE, NOISE])
        bounds = [*[BOUNDS["length"]] * axes, BOUNDS["variance"], BOUNDS["noise"]]

        def loss(logs: Array) -> tuple[float, Array]:
            process = cls(logs, squares, scores)
            value, slope = process._evidence()
            surprise = (logs - expected) / SPREAD
            return float(surprise @ surprise) / 2 - value, surprise / SPREAD - slope

        result = minimize(loss, expected, jac=True, method="L-BFGS-B", bounds=np.log(bounds))
        return cls(result.x, squares, scores)

    def predict(self, squares: Array) -> tuple[Array, Array]:
        """Returns mean and standard deviation at other points, by their squared distances to those of the scores."""
        factor, kernel = self._factor(), self._kernel(squares)
        mean = kernel @ cho_solve(factor, self.scores)
        explained = solve_triangular(factor[0], kernel.T, lower=True)
        return mean, np.sqrt(np.maximum(math.exp(self.logs[-2]) - (explained**2).sum(axis=0), LEAST_VARIANCE))

    def _kernel(self, squares: Array) -> Array:
        return np.exp(self.logs[-2] - np.tensordot(np.exp(-2 * self.logs[:-2]), squares, 1) / 2)

    def _factor(self) -> tuple[Array, bool]:
        noise = math.exp(self.logs[-1]) * np.eye(len(self.scores))
        return cho_factor(self._kernel(self.squares) + noise, lower=True)

    def _evidence(self) -> tuple[float, Array]:
        """The logarithm of the probability of the scores, up to a constant, and its slope: eq. 5.8 and 5.9."""
        factor, kernel = self._factor(), self._kernel(self.squares)
        weights = cho_solve(factor, self.scores)
        excess = (np.outer(weights, weights) - cho_solve(factor, np.eye(len(weights)))) / 2
        lengths = np.tensordot(self.squares, excess * kernel, 2) * np.exp(-2 * self.logs[:-2])
        slope = np.array([*lengths, (excess * kernel).sum(), np.trace(excess) * math.exp(self.logs[-1])])
        return float(-self.scores @ weights / 2 - np.log(np.diag(factor[0])).sum()), slope


def log_improvement(mean: Array, deviation: Array, best: float) -> Array:
    """Returns the logarithm of the expected improvement over `best`, also where it is too small for a float.

    Ament et al. 2023, 4.1.
    """
    gap = (mean - best) / deviation
    near, far = np.maximum(gap, -1.0), np.maximum(-gap, 1.0)
    density = np.log(2 * np.pi) / 2
    tail = np.minimum(far * np.sqrt(np.pi / 2) * erfcx(far / np.sqrt(2)), 1 - 1e-12)
    direct = np.log(near * ndtr(near) + np.exp(-(near**2) / 2 - density))
    return np.log(deviation) + np.where(gap > -1, direct, -(far**2) / 2 - density + np.log1p(-tail))
