"""Training of one trial in a worker: attempts, folds, and turns of what needs the machine alone."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from statistics import median

from reszoo.training.run_folder import BEST
from reszoo.training.selection import best_of, metric_of
from reszoo.tuning.job import Job, Outcome, Progress
from reszoo.tuning.worker_process import Answer, Worker

Decide = Callable[[Progress, int], Answer]
"""Whether a run continues, from its progress and the number of the fold."""
History = list[dict[str, float]]


class Turns:
    """Lets trainings run side by side, or one of them alone."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._running = 0
        self._alone = False

    @property
    def several(self) -> bool:
        """Whether another training runs beside one that asks."""
        with self._condition:
            return self._running > 1

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Waits while a training runs alone."""
        with self._condition:
            self._condition.wait_for(lambda: not self._alone)
            self._running += 1
        try:
            yield
        finally:
            self._leave()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Waits until no other training runs, and keeps others waiting."""
        with self._condition:
            self._condition.wait_for(lambda: not self._alone)
            self._alone = True
            self._condition.wait_for(lambda: not self._running)
            self._running += 1
        try:
            yield
        finally:
            with self._condition:
                self._alone = False
            self._leave()

    def _leave(self) -> None:
        with self._condition:
            self._running -= 1
            self._condition.notify_all()


class Trainer:
    """Trains trials.

    Args:
        retries: attempts after the first, where a worker process dies.
        is_over: whether the search ends.
    """

    def __init__(self, *, retries: int, is_over: Callable[[], bool]):
        self._retries = retries
        self._is_over = is_over
        self._turns = Turns()

    def train(self, jobs: Sequence[Job], worker: Worker, decide: Decide) -> Outcome | None:
        """Returns the outcome of a job, or of the jobs of all folds; None where the search ended it.

        The history of several folds is the median of theirs, epoch by epoch; the weights are those of the fold whose
        best epoch is closest to the median.
        """
        if len(jobs) == 1:
            return self._one(jobs[0], worker, lambda progress: decide(progress, 0))
        outcomes = []
        for number, job in enumerate(jobs):
            outcome = self._one(job, worker, lambda progress, number=number: decide(progress, number))  # type: ignore[misc]
            if outcome is None:
                return None
            outcomes.append(outcome)
            if outcome.state != "complete":
                break
        histories = [outcome.history for outcome in outcomes if outcome.history]
        if histories:
            _keep_median(jobs[: len(histories)], histories)
        return replace(outcomes[-1], history=median_history(histories))

    def _one(self, job: Job, worker: Worker, ask: Callable[[Progress], Answer]) -> Outcome | None:
        for attempt in range(self._retries + 1):
            with self._turns.shared():
                outcome = worker.do(job, ask=ask)
                crowded = self._turns.several
            if outcome.state == "infeasible" and crowded:
                # A neighbor may have taken the memory.
                with self._turns.alone():
                    outcome = worker.do(job, ask=ask)
            if outcome.state in ("pruned", "crashed") and self._is_over():
                return None
            if outcome.state != "crashed" or attempt == self._retries:
                return outcome
        return None


def median_history(histories: Sequence[History]) -> History:
    """Returns the median of several histories, for the epochs that all of them have.

    Example:
        >>> median_history([[{"val_accuracy": 0.5}], [{"val_accuracy": 0.9}], [{"val_accuracy": 0.6}]])
        [{'val_accuracy': 0.6}]
    """
    rows = zip(*histories, strict=False) if histories else ()
    return [{name: median(row[name] for row in epoch) for name in epoch[0]} for epoch in rows]


def _keep_median(jobs: Sequence[Job], histories: Sequence[History]) -> None:
    """Copies the best weights of the fold that is closest to the median into the folder of the trial."""
    monitor = jobs[0].recipe.monitor
    name = metric_of(histories[0][0], monitor).name
    scores = [best_of(history, monitor)[name] for history in histories]
    middle = median(scores)
    closest = min(range(len(scores)), key=lambda number: abs(scores[number] - middle))
    folder = jobs[closest].folder
    if (folder / BEST).exists():
        shutil.copyfile(folder / BEST, folder.parent / f".{BEST}")
        (folder.parent / f".{BEST}").replace(folder.parent / BEST)
