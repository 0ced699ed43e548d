"""Proposals of networks: by expected improvement per cost, or by Optuna's samplers; within budget, each once."""

from __future__ import annotations

import hashlib
import math
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution as Categorical,
    FloatDistribution as Real,
    IntDistribution as Whole,
)
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from reszoo.training.recipes import Recipe
from reszoo.tuning.axes import Answers, Axis, Point
from reszoo.tuning.budget import Feasible
from reszoo.tuning.improvement import Results, by_promise
from reszoo.tuning.measures import OBJECTIVE_COSTS
from reszoo.tuning.space import Candidate

PLACE, POINT, KEY, RETRY, OUTCOME, PROCESS, SCORE = "place", "point", "key", "retry_of", "outcome", "process", "score"
"""Names of trial attributes in the database: number of the proposal, point, key of the candidate, number of the trial
that it resumes, ending that Optuna has no state for, identity of its process, score."""
QUEUED, START = "queued", "start"
"""Names of trial attributes: a point that waits for its turn, a file of weights to start from."""
SAMPLER_ATTEMPTS = 25
"""Queries of a sampler before a random draw is used instead."""
RANDOM_ATTEMPTS = 500
"""Random draws after which the space counts as exhausted."""

ENDED = (TrialState.COMPLETE, TrialState.PRUNED)
"""States of trials whose training ended, with a score or without one."""

STARTUP_TRIALS = 10
"""Random proposals before one of Optuna's samplers learns from the results."""
OPTUNA: dict[str, Callable[[int], optuna.samplers.BaseSampler]] = {
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed, multivariate=True, n_startup_trials=STARTUP_TRIALS),
    "nsga2": lambda seed: optuna.samplers.NSGAIISampler(seed=seed, population_size=20),
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
}
"""Name -> Optuna's sampler of a seed."""
SAMPLERS = ("gp", *OPTUNA, "grid")
"""Names of all samplers. `gp` is `by_promise`; `grid` takes the points in order."""


def derive_seed(seed: int, *path: int | str) -> int:
    """Returns the seed of a part of a study, such as one trial: the same for the same path, different for others."""
    digest = hashlib.sha256(repr((seed, *path)).encode()).digest()
    return int.from_bytes(digest[:4], "little") >> 1


def distribution(axis: Axis) -> BaseDistribution:
    """Returns an axis as an Optuna distribution."""
    if axis.low is None or axis.high is None:
        return Categorical(axis.answers or ())
    if axis.whole:
        return Whole(int(axis.low), int(axis.high), log=axis.scale == "log", step=int(axis.step or 1))
    high = axis.answers[-1] if axis.answers else axis.high
    return Real(float(axis.low), float(high), log=axis.scale == "log", step=axis.step)


def process_identity(pid: int | None = None) -> list[Any]:
    """Returns host, id and start time of a process, and where ids mean the same processes: a boot and a namespace.

    The start time is 0 where there is no such process. Machines and containers may have the same name.
    """
    pid = pid or os.getpid()
    try:
        # Field 22 of stat (field 2 may contain spaces). Process ids are reused, the pair of id and start time is not.
        start = int(
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
        )
    except (OSError, ValueError, IndexError):
        start = 0 if Path("/proc").is_dir() else pid
    return [socket.gethostname(), pid, start, _process_space()]


@cache
def _process_space() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


class Exhausted(Exception):
    """Every network of the space within budget has been tried."""


class Proposals(optuna.samplers.BaseSampler):
    """An Optuna sampler that proposes networks within budget, each once.

    The inner sampler is created for every trial, with a seed derived from the study's seed and the trial's number: a
    study that was killed and resumed proposes the same networks.
    """

    def __init__(
        self, feasible: Feasible, recipe: Recipe, *, sampler: str, seed: int, objectives: Sequence[str] = ("accuracy",)
    ):
        self._feasible = feasible
        self._recipe = recipe
        self._sampler = sampler
        self._seed = seed
        self._costs = tuple(name for name in objectives[1:] if name in OBJECTIVE_COSTS)
        self._distributions = {name: distribution(axis) for name, axis in feasible.space.axes.items()}

    def candidate(self, point: Point) -> Candidate:
        """Returns network and recipe of a point within budget."""
        candidate = self._feasible.space.candidate(point, self._recipe)
        assert candidate is not None
        return candidate

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Returns all axes: they are sampled together."""
        return self._distributions

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Returns the point of a trial, and stores it in its attributes."""
        storage, trial_id = study._storage, trial._trial_id
        attributes = storage.get_trial(trial_id).user_attrs
        number = proposal_number(study, trial)
        if PLACE not in attributes:
            storage.set_trial_user_attr(trial_id, PLACE, number)
        if POINT in attributes:
            return dict(attributes[POINT])
        if QUEUED in attributes:
            storage.set_trial_user_attr(trial_id, POINT, attributes[QUEUED])
            return dict(attributes[QUEUED])
        refused: set[str] = set()
        while True:
            try:
                candidate = self._propose(study, trial, number, refused)
            except Exhausted:
                return {}
            storage.set_trial_user_attr(trial_id, KEY, candidate.key)
            # Another process may have proposed the same network just now: the trial with the lower number keeps it.
            if candidate.key not in keys(study, below=trial.number):
                break
            refused.add(candidate.key)
        storage.set_trial_user_attr(trial_id, POINT, candidate.point)
        return dict(candidate.point)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Raises Exhausted: Optuna calls it only where `sample_relative` had no point.

        Raises:
            Exhausted: always.
        """
        raise Exhausted

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Records the process of a trial, before anything else."""
        study._storage.set_trial_user_attr(trial._trial_id, PROCESS, process_identity())

    def reseed_rng(self) -> None:
        """Does nothing: every trial derives its own seed."""

    def _propose(self, study: optuna.Study, trial: FrozenTrial, number: int, refused: set[str]) -> Candidate:
        tried = keys(study) | refused
        if self._sampler == "grid":
            return self._next_in_grid(tried)
        for point in self._points(study, trial, number):
            if self._feasible.has(point) and (candidate := self.candidate(point)).key not in tried:
                return candidate
        for attempt in range(RANDOM_ATTEMPTS):
            seed = derive_seed(self._seed, "draw", number, attempt)
            candidate = self.candidate(self._feasible.draw(seed=seed))
            if candidate.key not in tried:
                return candidate
        raise Exhausted

    def _points(self, study: optuna.Study, trial: FrozenTrial, number: int) -> Iterator[Point]:
        """Points in the order in which they are to be tried."""
        if self._sampler == "gp":
            random = Random(derive_seed(self._seed, "proposal", number))
            results = results_of(study)
            yield from by_promise(self._feasible, results, number=number, random=random, costs=self._costs)
            return
        inner = OPTUNA[self._sampler](derive_seed(self._seed, "proposal", number))
        inner.before_trial(study, trial)
        for _ in range(SAMPLER_ATTEMPTS):
            yield self._sampled(inner, study, trial)

    def _sampled(self, inner: optuna.samplers.BaseSampler, study: optuna.Study, trial: FrozenTrial) -> Point:
        joint_axes = inner.infer_relative_search_space(study, trial)
        joint_values = inner.sample_relative(study, trial, joint_axes)

        def value(name: str) -> Any:
            if name in joint_values:
                return joint_values[name]
            return inner.sample_independent(study, trial, name, self._distributions[name])

        return self._feasible.space.ask(Answers(lambda name, _: value(name)))

    def _next_in_grid(self, tried: set[str]) -> Candidate:
        points = (point for point in self._feasible.space.points() if self._feasible.has(point))
        for candidate in map(self.candidate, points):
            if candidate.key not in tried:
                return candidate
        raise Exhausted


def proposal_number(study: optuna.Study, trial: FrozenTrial) -> int:
    """Returns the number of a trial among the proposals, from 0; resuming and surplus trials are not counted."""
    number = trial.user_attrs.get(PLACE)
    if number is not None:
        return int(number)
    return sum(other.number < trial.number and is_proposal(other) for other in study.get_trials(deepcopy=False))


def is_proposal(trial: FrozenTrial) -> bool:
    """Returns whether a trial is a proposal: neither one that resumes another, nor a surplus one, nor a user's own."""
    attributes = trial.user_attrs
    foreign = trial.state.is_finished() and not {PROCESS, PLACE, QUEUED} & {*attributes}
    return RETRY not in attributes and attributes.get(OUTCOME) != "surplus" and not foreign


def results_of(study: optuna.Study) -> Results:
    """Returns what is known of the trials of a study.

    A trial that ended early has the score that it reached, one without a score (diverged, out of memory) that of the
    worst. Failed trials tell nothing.
    """
    latest: dict[int, FrozenTrial] = {}
    for trial in study.get_trials(deepcopy=False):
        if POINT in trial.user_attrs and (is_proposal(trial) or RETRY in trial.user_attrs):
            latest[trial.user_attrs[PLACE]] = trial
    trials = [latest[number] for number in sorted(latest)]
    ended = [trial for trial in trials if trial.state in ENDED]
    # A trial whose process died fails in Optuna's eyes, until another one resumes it.
    alive = [trial for trial in trials if trial.state not in ENDED and trial.user_attrs.get(OUTCOME) != "failed"]
    scores = [_reached(trial) for trial in ended]
    if study.directions[0] == StudyDirection.MINIMIZE:
        # By the logarithm: a loss that explodes must not hide how the others differ.
        logs = all(score > 0 for score in scores if math.isfinite(score))
        scores = [-math.log(score) if logs and math.isfinite(score) else -score for score in scores]
    worst = min((score for score in scores if math.isfinite(score)), default=0.0)
    return Results(
        [trial.user_attrs[POINT] for trial in ended],
        [score if math.isfinite(score) else worst for score in scores],
        [trial.user_attrs[POINT] for trial in alive],
    )


def _reached(trial: FrozenTrial) -> float:
    """The score of a trial that ended, NaN without one; Optuna's value of one that ended early is its last report."""
    if trial.values:
        return trial.values[0]
    return math.nan if trial.intermediate_values else trial.user_attrs.get(SCORE, math.nan)


def keys(study: optuna.Study, *, below: float = float("inf")) -> set[str]:
    """Returns the keys of all candidates that were proposed, or of those with lower numbers."""
    return {
        trial.user_attrs[KEY]
        for trial in study.get_trials(deepcopy=False)
        if KEY in trial.user_attrs and trial.number < below and is_proposal(trial)
    }
