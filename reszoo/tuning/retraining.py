"""Training a trial again whose weights were lost: seed and recipe are in the database."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping
from typing import Any

from reszoo.data.digest import difference, digests
from reszoo.errors import ReszooError
from reszoo.training.run_folder import BEST
from reszoo.training.selection import best_of
from reszoo.tuning.job import Job, Progress, Source, runs_of
from reszoo.tuning.proposals import derive_seed
from reszoo.tuning.results import Trial
from reszoo.tuning.trainer import Trainer
from reszoo.tuning.worker_process import Answer, Worker


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
