"""What is tried next: Optuna's samplers, asked until the answer is within budget and was not tried before."""

from __future__ import annotations

import hashlib
import math
import os
import socket
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution as Categorical,
    FloatDistribution as Real,
    IntDistribution as Whole,
)
from optuna.trial import FrozenTrial, TrialState

from reszoo.training.recipes import Recipe
from reszoo.tuning.axes import Answers, Axis, Point
from reszoo.tuning.budget import Feasible
from reszoo.tuning.space import Candidate

PLACE, POINT, KEY, RETRY, OUTCOME, PROCESS = "place", "point", "key", "retry_of", "outcome", "process"
"""Names of a trial's attributes: its number among the proposals, its answers, their key, whom it stands in for, how it
ended where Optuna has no word for it, where it runs."""
ASKED = 25
"""Times that a sampler is asked before a draw decides."""
EARLIEST = 2
"""Epochs before a run is judged, where it has twice as many."""
DRAWN = 500
"""Draws until the space counts as tried whole."""

BEGIN = 10
"""Proposals at random, until there is something to learn from."""
OFFERS = {"tpe": (8, 2), "gp": (8, 2)}
"""Sampler -> networks it is asked for at a time, of which the one of the fewest MACs is tried: at the beginning, later.
What cheap networks teach about the rest, such as the learning rate, is learnt cheaply (Lee et al. 2020, Cost-aware
Bayesian optimization)."""

SAMPLERS: dict[str, Callable[[int], optuna.samplers.BaseSampler]] = {
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed, multivariate=True, n_startup_trials=BEGIN),
    "nsga2": lambda seed: optuna.samplers.NSGAIISampler(seed=seed, population_size=20),
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
    "gp": lambda seed: optuna.samplers.GPSampler(seed=seed, n_startup_trials=BEGIN),
    "grid": lambda seed: optuna.samplers.RandomSampler(seed=seed),
}
"""Word -> sampler. `grid` needs none: the points have an order."""


def derived(seed: int, *of: int | str) -> int:
    """Returns the seed of a part of a study: the same for the same part, unlike those of others."""
    told = hashlib.sha256(repr((seed, *of)).encode()).digest()
    return int.from_bytes(told[:4], "little") >> 1


def distribution(axis: Axis) -> BaseDistribution:
    """Returns an axis in Optuna's words."""
    if axis.low is None or axis.high is None:
        return Categorical(axis.answers or ())
    if axis.whole:
        return Whole(int(axis.low), int(axis.high), log=axis.scale == "log", step=int(axis.step or 1))
    high = axis.answers[-1] if axis.answers else axis.high
    return Real(float(axis.low), float(high), log=axis.scale == "log", step=axis.step)


def process(pid: int | None = None) -> list[Any]:
    """Returns host, id and beginning of a process; the beginning is 0 where there is no such process."""
    pid = pid or os.getpid()
    try:
        # The 22nd field of stat, the second of which may hold spaces: ids are given anew, beginnings are not.
        began = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        began = 0 if Path("/proc").is_dir() else pid
    return [socket.gethostname(), pid, began]


class Exhausted(Exception):
    """Every network of the space that is within budget was tried."""


class Proposals(optuna.samplers.BaseSampler):
    """A sampler that proposes networks within budget, each once.

    The sampler inside is made anew for every trial, from a seed that the study's seed and the trial's place decide: a
    study that was killed proposes what it would have proposed.
    """

    def __init__(self, feasible: Feasible, recipe: Recipe, *, sampler: str, seed: int):
        self._feasible, self._recipe, self._sampler, self._seed = feasible, recipe, sampler, seed
        self._distributions = {name: distribution(axis) for name, axis in feasible.space.axes.items()}

    def candidate(self, point: Point) -> Candidate:
        """Returns network and recipe of a point within budget."""
        found = self._feasible.space.candidate(point, self._recipe)
        assert found is not None
        return found

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Returns all axes: every point is proposed as one."""
        return self._distributions

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Returns the point of a trial, which is kept with it."""
        storage, trial_id = study._storage, trial._trial_id
        told = storage.get_trial(trial_id).user_attrs
        if POINT in told:
            return dict(told[POINT])
        place = place_of(study, trial)
        storage.set_trial_user_attr(trial_id, PLACE, place)
        refused: set[str] = set()
        while True:
            try:
                made = self._propose(study, trial, place, refused)
            except Exhausted:
                return {}
            storage.set_trial_user_attr(trial_id, KEY, made.key)
            # Another process may have proposed the same just now: of two, the one of the lower number keeps it.
            if made.key not in _keys(study, below=trial.number):
                break
            refused.add(made.key)
        storage.set_trial_user_attr(trial_id, POINT, made.point)
        return dict(made.point)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Is asked only where no point could be proposed.

        Raises:
            Exhausted: always.
        """
        raise Exhausted

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Notes where a trial runs, before anything else."""
        study._storage.set_trial_user_attr(trial._trial_id, PROCESS, process())

    def reseed_rng(self) -> None:
        """Does nothing: seeds are derived."""

    def _propose(self, study: optuna.Study, trial: FrozenTrial, place: int, refused: set[str]) -> Candidate:
        tried = _keys(study) | refused
        if self._sampler == "grid":
            return self._next_of_grid(tried)
        inner = SAMPLERS[self._sampler](derived(self._seed, "proposal", place))
        inner.before_trial(study, trial)
        early, late = OFFERS.get(self._sampler, (1, 1))
        points = (self._asked(inner, study, trial) for _ in range(ASKED))
        fitting = map(self.candidate, filter(self._feasible.has, points))
        new = (made for made in fitting if made.key not in tried)
        offers = [*islice(new, early if place < BEGIN else late)]
        if offers:
            return min(offers, key=self._macs)
        for number in range(DRAWN):
            made = self.candidate(self._feasible.draw(seed=derived(self._seed, "draw", place, number)))
            if made.key not in tried:
                return made
        raise Exhausted

    def _asked(self, inner: optuna.samplers.BaseSampler, study: optuna.Study, trial: FrozenTrial) -> Point:
        together = inner.infer_relative_search_space(study, trial)
        known = inner.sample_relative(study, trial, together)

        def look(name: str) -> Any:
            if name in known:
                return known[name]
            return inner.sample_independent(study, trial, name, self._distributions[name])

        return self._feasible.space.ask(Answers(lambda name, _: look(name)))

    def _macs(self, made: Candidate) -> int:
        cost = self._feasible.space.cost(made.point)
        assert cost is not None
        return cost.macs

    def _next_of_grid(self, tried: set[str]) -> Candidate:
        points = (point for point in self._feasible.space.points() if self._feasible.has(point))
        made = (candidate for candidate in map(self.candidate, points) if candidate.key not in tried)
        for candidate in islice(made, 1):
            return candidate
        raise Exhausted


def place_of(study: optuna.Study, trial: FrozenTrial) -> int:
    """Returns how many proposals came before a trial's: trials that stand in for others, or came too late, are none."""
    known = trial.user_attrs.get(PLACE)
    if known is not None:
        return int(known)
    return sum(other.number < trial.number and counts(other) for other in study.get_trials(deepcopy=False))


def counts(trial: FrozenTrial) -> bool:
    """Whether a trial is one of the study's own proposals."""
    return RETRY not in trial.user_attrs and trial.user_attrs.get(OUTCOME) != "surplus"


def _keys(study: optuna.Study, *, below: float = float("inf")) -> set[str]:
    return {
        trial.user_attrs[KEY]
        for trial in study.get_trials(deepcopy=False)
        if KEY in trial.user_attrs and trial.number < below and counts(trial)
    }


class Halving(optuna.pruners.BasePruner):
    """Asynchronous successive halving by ending runs: one that goes on simply goes on.

    Runs are judged after an eighth, a quarter and half of their epochs, but not after the first one where they have
    four or more, when most are still warming up. A run goes on while it is in the better half of all that came so far,
    those that ended earlier included. Li et al. 2020, algorithm 2, compare those that are left: where proposals get
    better with time, that ends good ones by luck.

    Args:
        epochs: of a whole run.
        factor: one of so many goes on.
    """

    def __init__(self, *, epochs: int, factor: int = 2):
        self.factor = factor
        shares = (epochs / factor**power for power in range(1, 4))
        self.rungs = {round(share) for share in shares if share >= EARLIEST} or {1}

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether a run is to end here."""
        step = trial.last_step
        if step is None or step not in self.rungs:
            return False
        value = trial.intermediate_values[step]
        others = [
            other.intermediate_values
            for other in study.get_trials(deepcopy=False)
            if other.number != trial.number and other.state != TrialState.FAIL
        ]
        judged = 1 + sum(min(self.rungs) in values for values in others)
        return sum(values.get(step, -math.inf) > value for values in others) >= max(judged // self.factor, 1)
