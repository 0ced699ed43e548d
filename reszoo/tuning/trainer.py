"""Training of one trial in a worker: attempts, folds, turns of what needs the machine alone; training it again."""

from __future__ import annotations

import shutil
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from statistics import median
from typing import Any

from reszoo.data.dataset import difference, digests
from reszoo.errors import ReszooError
from reszoo.training.recipes import best_of, metric_of
from reszoo.training.run_folder import BEST
from reszoo.tuning.job import Job, Outcome, Progress, Source, runs_of
from reszoo.tuning.proposals import derive_seed
from reszoo.tuning.results import Trial
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


def retrain(trial: Trial, settings: Mapping[str, Any], source: Source, *, worker: Worker) -> None:
    """Trains a trial again, as many epochs as it had, and puts its weights into its folder.

    Args:
        trial: of the study.
        settings: of the study.
        source: of its data.
        worker: that trains.

    Raises:
        ReszooError: other data, or a training that fails.
    """
    where = f"retrain: trial {trial.number}"
    folds = settings.get("folds")
    sources = runs_of(source, folds)
    changed = difference(settings["digest"], digests(sources[0].open())) if "digest" in settings else ""
    if changed:
        raise ReszooError(where, got=f"other data: {changed}", expected="the data with which the study began")
    if trial.recipe is None or not trial.epochs:
        raise ReszooError(where, got=f"a trial that is {trial.state}", expected="a trial with a score")
    folder = trial.folder.with_name(f"{trial.folder.name}.again").absolute()
    shutil.rmtree(folder, ignore_errors=True)
    # A disk that cannot be written is an error before a worker starts.
    folder.mkdir(parents=True)
    folders = [folder] if folds is None else [folder / f"fold{number}" for number in range(1, folds + 1)]
    seed = derive_seed(settings["seed"], "trial", trial.number)
    recipe, jobs = trial.recipe, []
    for each, part in zip(folders, sources, strict=True):
        jobs.append(Job(folder=each, spec=trial.spec, recipe=recipe, source=part, seed=seed, weights=trial.start))

    def decide(progress: Progress, fold: int) -> Answer:
        return "stop" if len(progress.history) >= trial.epochs else "continue"

    try:
        outcome = Trainer(retries=1, is_over=lambda: False).train(jobs, worker, decide)
    finally:
        worker.stop()
    if outcome is None or outcome.state not in ("complete", "pruned"):
        raise ReszooError(where, got="nothing" if outcome is None else f"{outcome.state}: {outcome.note}")
    score = best_of(outcome.history, recipe.monitor)[trial.measure.name]
    if trial.score is not None and abs(score - trial.score) > 1e-6:
        warnings.warn(f"{where}: score {score:.4f}; it was {trial.score:.4f} where it was trained first", stacklevel=3)
    trial.folder.mkdir(parents=True, exist_ok=True)
    (folder / BEST).replace(trial.folder / BEST)
    shutil.rmtree(folder, ignore_errors=True)
