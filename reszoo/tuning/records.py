"""How trials end, and how that is stored: as attributes in the database, from which a study reads all results."""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from socket import gethostname
from typing import Literal

import optuna

from reszoo.errors import ReszooError
from reszoo.training.recipes import best_of
from reszoo.tuning.accelerators import description
from reszoo.tuning.budget import COUNTED_COSTS
from reszoo.tuning.job import Outcome
from reszoo.tuning.measures import OBJECTIVE_COSTS, metric
from reszoo.tuning.proposals import OUTCOME, PLACE, SCORE
from reszoo.tuning.results import tidy
from reszoo.tuning.setup import Setup
from reszoo.tuning.space import Candidate
from reszoo.tuning.study import COSTS, NOTE, ORIGIN, ROWS, Study

MAX_EQUAL_FAILURES = 3
"""The search stops after so many builds in a row that failed with the same error."""

Ending = Literal["complete", "pruned", "failed", "surplus", "interrupted", "taken", "exhausted"]
"""How a trial ended, for the loop that runs trials and for Optuna:

complete     trained to its last epoch                                    Optuna: COMPLETE, with values
pruned       ended early, diverged or out of memory                       Optuna: PRUNED
failed       its build or its process failed; the search continues        Optuna: FAIL
surplus      proposed after enough others; the search continues           Optuna: FAIL
interrupted  the search ends; a new trial is queued that resumes it       Optuna: FAIL
taken        another process has taken it; the search continues           Optuna: FAIL, set by that process
exhausted    no network of the space is left; the search ends             Optuna: FAIL
"""


@dataclass(frozen=True)
class TrialEnd:
    """How a trial ended, and what it reached."""

    ending: Ending
    values: tuple[float, ...] = ()
    """Of the objectives, where it is complete."""

    def for_optuna(self) -> tuple[float, ...]:
        """Returns the values of a complete trial; `Study.optimize` takes every other ending as an exception."""
        if self.ending == "complete":
            return self.values
        if self.ending == "pruned":
            raise optuna.TrialPruned
        raise TrialFailed


class TrialFailed(Exception):
    """Makes `Study.optimize` note a trial as FAIL and return."""


class Records:
    """Stores outcomes of trials, and calls the user's `watch`."""

    def __init__(self, setup: Setup, study: Study, watch: Callable[[Study], None] | None):
        self._setup = setup
        self._study = study
        self._watch = watch
        self._lock = threading.RLock()
        self._equal_failures: list[str] = []

    def watch(self) -> None:
        """Calls the user's function; its error costs no trial."""
        if self._watch is None:
            return
        try:
            self._watch(self._study)
        except Exception as error:
            warnings.warn(f"watch raised {type(error).__name__}: {error}", stacklevel=2)

    def score(self, history: list[dict[str, float]]) -> float:
        """Returns the first objective after the epoch whose weights are stored; NaN where the history lacks it."""
        name = self._setup.objectives[0]
        return math.nan if _absent(history, [metric(name).name]) else self._value(history, name)

    def costs(self, candidate: Candidate) -> dict[str, float]:
        """Returns the costs of a network."""
        cost = self._setup.space.cost(candidate.point)
        costs: dict[str, float] = {name: getattr(cost, name) for name in COUNTED_COSTS}
        if self._setup.feasible.budget.latency is not None or "latency" in self._setup.objectives:
            costs["latency"] = self._setup.latency(candidate.spec)
        return costs

    def store(
        self,
        trial: optuna.Trial,
        candidate: Candidate,
        outcome: Outcome,
        *,
        folder: Path,
        seconds: float,
        environment: Mapping[str, str],
        timed_out: bool,
    ) -> TrialEnd:
        """Stores the outcome of a trial in its attributes, and returns how it ended."""
        costs = self.costs(candidate)
        outcome = self._checked(outcome, candidate, environment)
        if outcome.note:
            trial.set_user_attr(NOTE, outcome.note)
        trial.set_user_attr(COSTS, {**costs, "seconds": seconds})
        if outcome.state not in ("complete", "pruned"):
            return self._store_failure(trial, outcome)
        self._equal_failures.clear()
        trial.set_user_attr(ROWS, outcome.history)
        trial.set_user_attr(SCORE, self.score(outcome.history))
        trial.set_user_attr(ORIGIN, [gethostname(), str(folder)])
        if timed_out:
            trial.set_user_attr(OUTCOME, "timed_out")
        self._after_trial(trial)
        if outcome.state == "pruned" and not timed_out:
            return TrialEnd("pruned")
        values = (
            costs[name] if name in OBJECTIVE_COSTS else self._value(outcome.history, name)
            for name in self._setup.objectives
        )
        return TrialEnd("complete", tuple(values))

    def _value(self, history: list[dict[str, float]], name: str) -> float:
        return best_of(history, self._setup.recipe.monitor)[metric(name).name]

    def _checked(self, outcome: Outcome, candidate: Candidate, environment: Mapping[str, str]) -> Outcome:
        """The outcome; one with a validation result that is no number has diverged, one without a measure failed."""
        state, note = outcome.state, outcome.note
        measures = [metric(name).name for name in self._setup.objectives if name not in OBJECTIVE_COSTS]
        if state in ("complete", "pruned") and (absent := _absent(outcome.history, measures)):
            return Outcome("failed", outcome.history, f"the history has no {absent}, an objective of the study")
        names = {"val_loss", *measures}
        wrong = [
            f"{name} {row[name]} after epoch {row['epoch']:.0f}"
            for row in outcome.history
            for name in sorted(names & row.keys())
            if not math.isfinite(row[name])
        ]
        if state in ("complete", "pruned") and wrong:
            state, note = "diverged", wrong[0]
        if state == "diverged":
            note = f"{note}; learning_rate.peak {candidate.recipe.learning_rate.peak:g}"
        if state == "infeasible":
            note = f"{note}; on {description(environment)}"
        return Outcome(state, outcome.history, note)

    def _store_failure(self, trial: optuna.Trial, outcome: Outcome) -> TrialEnd:
        """Stores an outcome without a score: a sampler learns from `diverged` and `infeasible`, not from the rest."""
        trial.set_user_attr(OUTCOME, "failed" if outcome.state == "crashed" else outcome.state)
        self._after_trial(trial)
        if outcome.state in ("diverged", "infeasible"):
            self._equal_failures.clear()
            if len(self._setup.objectives) == 1:
                # Optuna's samplers and ours rank NaN below every number.
                reported = trial.storage.get_trial(trial._trial_id).intermediate_values
                trial.report(math.nan, max(reported, default=0) + 1)
            return TrialEnd("pruned")
        if outcome.state == "failed":
            self._stop_after_equal_failures(outcome.note)
        return TrialEnd("failed")

    def _stop_after_equal_failures(self, note: str) -> None:
        """Raises a ReszooError where the last builds all failed with the same error."""
        with self._lock:
            message = note.splitlines()[-1] if note else ""
            self._equal_failures = [*(earlier for earlier in self._equal_failures if earlier == message), message]
            if len(self._equal_failures) >= MAX_EQUAL_FAILURES:
                got = f"{MAX_EQUAL_FAILURES} trials in a row with the same error:\n{note}\n"
                hint = "fix it and rerun: the study is intact, and failed trials are tried again"
                raise ReszooError(str(self._study.folder), got=got, hint=hint)

    def _after_trial(self, trial: optuna.Trial) -> None:
        with self._lock:
            tidy([other for other in self._study.trials if other.number != trial.user_attrs.get(PLACE)])
        self.watch()


def _absent(history: list[dict[str, float]], names: Sequence[str]) -> str:
    """The first metric that an epoch of a history lacks, such as one that a callback has removed; empty without one."""
    return next((name for name in names for row in history if name not in row), "")
