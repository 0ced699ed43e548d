"""The training of trials: jobs of one, its time, and whether it continues after an epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import optuna

from reszoo.tuning.job import Job, Progress
from reszoo.tuning.proposals import START, derive_seed
from reszoo.tuning.records import Records, TrialEnd
from reszoo.tuning.setup import Setup
from reszoo.tuning.space import Candidate
from reszoo.tuning.trainer import Trainer
from reszoo.tuning.worker_process import Answer, Worker

ELAPSED = "elapsed"
"""Name of the trial attribute with the seconds of training so far, over all attempts."""


@dataclass
class Clock:
    """The time of one trial, and why it was stopped."""

    start: float
    limit: float
    timed_out: bool = False
    lost: bool = False
    """Whether another process has taken the trial."""

    @property
    def seconds(self) -> float:
        """Seconds of training so far."""
        return time.monotonic() - self.start


class TrialRuns:
    """Trains the networks of trials.

    Args:
        setup: of the search.
        records: where outcomes are stored.
        storage: of the study.
        folder: of the study.
        is_over: whether the search ends.
    """

    def __init__(
        self,
        setup: Setup,
        records: Records,
        storage: optuna.storages.BaseStorage,
        folder: Path,
        *,
        is_over: Callable[[], bool],
    ):
        self._setup, self._records, self._storage, self._root = setup, records, storage, folder
        self._is_over = is_over
        self._trainer = Trainer(retries=setup.retries, is_over=is_over)

    def train(self, trial: optuna.Trial, candidate: Candidate, number: int, worker: Worker) -> TrialEnd:
        """Trains the network of a trial, and returns how it ended."""
        attributes = self._storage.get_trial(trial._trial_id).user_attrs
        limit = self._setup.feasible.budget.seconds or math.inf
        clock = Clock(time.monotonic() - attributes.get(ELAPSED, 0.0), limit)
        jobs = self._jobs(candidate, number, attributes.get(START))
        jobs = [replace(job, seconds=max(limit - clock.seconds, 0.0)) for job in jobs]
        outcome = self._trainer.train(jobs, worker, lambda progress, fold: self._decide(trial, progress, clock, fold))
        if outcome is not None and outcome.state == "crashed" and clock.seconds > limit and outcome.history:
            clock.timed_out, outcome = True, replace(outcome, state="pruned")
        if outcome is None or clock.lost:
            return TrialEnd("interrupted" if outcome is None else "taken")
        return self._records.store(
            trial,
            candidate,
            outcome,
            folder=self._folder(number),
            seconds=clock.seconds,
            environment=getattr(worker, "environment", {}),
            timed_out=clock.timed_out,
        )

    def _folder(self, number: int) -> Path:
        return (self._root / "trials" / f"{number:04d}").absolute()

    def _jobs(self, candidate: Candidate, number: int, start: str | None) -> list[Job]:
        """What is trained for a trial: one run, or one for every fold."""
        folder, sources = self._folder(number), self._setup.sources
        folders = [folder] if len(sources) == 1 else [folder / f"fold{fold}" for fold in range(1, len(sources) + 1)]
        return [
            Job(
                folder=each,
                spec=candidate.spec,
                recipe=candidate.recipe,
                source=source,
                seed=derive_seed(self._setup.seed, "trial", number),
                weights=str((self._root / start).absolute()) if start else candidate.weights,
                callbacks=self._setup.callbacks,
                stall=self._setup.stall,
            )
            for each, source in zip(folders, sources, strict=True)
        ]

    def _decide(self, trial: optuna.Trial, progress: Progress, clock: Clock, fold: int) -> Answer:
        """Whether a run continues at the start of an epoch; runs are compared by the first fold."""
        frozen = self._storage.get_trial(trial._trial_id)
        clock.lost = frozen.state.is_finished()
        clock.timed_out = not clock.lost and clock.seconds > clock.limit
        if clock.lost or clock.timed_out or self._is_over():
            return "stop"
        trial.set_user_attr(ELAPSED, clock.seconds)
        prune = False
        if len(self._setup.objectives) == 1 and not fold:
            reported = frozen.intermediate_values
            last = len(progress.history)
            for epoch in range(1, last + 1):
                if epoch not in reported:
                    trial.report(self._records.score(progress.history[:epoch]), epoch)
                # The last epoch is judged even if it was reported before: the process may have died before the answer.
                prune = prune or ((epoch not in reported or epoch == last) and trial.should_prune())
        self._records.watch()
        return "stop" if prune else "continue"
