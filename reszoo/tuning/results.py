"""Results of a study as plain values: trials, Pareto fronts, and the weights that are kept on disk.

The database decides about results, files only about what can be loaded.
"""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from socket import gethostname
from typing import Any

from reszoo.arch.spec import NetSpec
from reszoo.data.sources import Data, DataSource
from reszoo.errors import ReszooError, UnknownNameError
from reszoo.notebook import html_table
from reszoo.training.recipes import Metric, Recipe
from reszoo.training.run_folder import BEST, FINAL, STATE
from reszoo.training.trained import Trained
from reszoo.types import KerasModel

COSTS = ("params", "macs", "activations", "depth", "latency", "seconds")
ACCURACY = Metric("val_accuracy", 1)
ENDED = ("complete", "timed_out")
"""States of trials that were trained to their end: only these are ranked and on fronts."""


@dataclass(frozen=True, repr=False)
class Trial:
    """One network of a study: what it is, what it costs and what it reached."""

    number: int
    """Number among the proposals, from 0."""
    state: str
    """waiting, running, complete, timed_out (ended by the budget of seconds), pruned, diverged, infeasible or failed;
    damaged where the weights of a finished trial should be on this machine and cannot be read."""
    point: dict[str, Any]
    spec: NetSpec
    score: float | None
    """Best validation accuracy, or another measure of the objective, after any epoch, which is that of the stored
    weights; None without one."""
    costs: dict[str, float]
    """params, macs, activations, depth; latency (inference seconds per example) if measured; seconds of training."""
    history: tuple[dict[str, float], ...]
    folder: Path
    note: str = ""
    """The error message, if it failed."""
    outcome: str = ""
    """The state in the database, where `state` is `damaged`."""
    recipe: Recipe | None = None
    """How it was trained."""
    seed: int = 0
    """Of its initial weights, the order of its examples and their augmentation."""
    measure: Metric = ACCURACY
    """What the score is."""
    task: str = "classification"
    steps: int = 1
    """Optimizer steps of the whole training."""
    start: str | None = None
    """Pretrained weights that its training started from."""
    host: str = ""
    """The machine that trained it, where that is known."""
    origin: Path | None = None
    """Its folder on that machine."""

    @property
    def is_ended(self) -> bool:
        """Whether it was trained to its end: only such trials are ranked and on fronts."""
        return (self.outcome or self.state) in ENDED and self.score is not None

    @property
    def merit(self) -> float:
        """The score, with its sign changed where smaller scores are better."""
        return self.measure.sign * (self.score or 0.0)

    @property
    def epochs(self) -> int:
        """Epochs trained so far."""
        return len(self.history)

    @property
    def weights(self) -> Path:
        """The file of its best weights; a study keeps those of the fronts and of the three best trials.

        It is in the study's folder, or where the machine that trained it wrote it, if that path can be reached.
        """
        local = self.folder / BEST
        far = local if self.origin is None else self.origin / BEST
        return far if not local.exists() and far.exists() else local

    @property
    def location(self) -> str:
        """The file of its best weights, or the machine and the folder where they are."""
        if self.weights.exists() or not self.host or self.host == gethostname():
            return str(self.weights)
        return f"on {self.host}: {(self.origin or self.folder) / BEST}"

    def __repr__(self) -> str:
        score = "no score" if self.score is None else f"score={self.score:.4f}"
        costs = f"params={self.costs['params']:,.0f}, macs={self.costs['macs']:,.0f}" if self.costs else "no costs"
        return f"Trial({self.number}, {self.state}, {score}, {costs}, epochs={self.epochs})"

    def _repr_html_(self) -> str:
        score = "" if self.score is None else f"{self.score:.4f}"
        rows = [("state", self.state), ("score", score), ("epochs", self.epochs)]
        rows += [(name, f"{cost:,.6g}") for name, cost in self.costs.items()]
        rows += [(name, str(value)) for name, value in self.point.items()]
        return html_table((), rows, title=f"Trial {self.number}", note=self.note)

    def model(self) -> KerasModel:
        """Returns the network with its best weights; its validation result is the score.

        It is compiled with its recipe, for one-hot labels, with the learning-rate schedule of a whole run.

        Raises:
            ReszooError: the weights were deleted, are damaged, or are on another machine.
        """
        self.check_weights()
        import keras

        try:
            model = keras.models.load_model(self.weights)
        except (OSError, ValueError) as error:
            hint = f"restore the file, or train the trial again: study.retrain({self.number})"
            raise ReszooError(str(self.weights), got=f"a damaged file ({error})", hint=hint) from None
        if self.recipe is not None:
            from reszoo.training.losses import loss
            from reszoo.training.optimizers import compile_for

            metrics = ["mae"] if self.task == "regression" else ["accuracy"]
            settings = {"loss": loss(self.recipe, task=self.task), "metrics": metrics}  # type: ignore[arg-type]
            compile_for(model, self.recipe, steps=self.steps, **settings)
        return model

    def check_weights(self) -> None:
        """Checks that the weights can be read here.

        Raises:
            ReszooError: they are not here; the message says where they are, or how to get them.
        """
        where, again = f"trial {self.number}", f"train it again: study.retrain({self.number})"
        if self.state == "damaged":
            got = f"{self.weights}, which is missing or truncated"
            raise ReszooError(where, got=got, hint=f"restore the file, or {again}")
        if self.weights.exists():
            return
        if self.location != str(self.weights):
            hint = f"copy that file to {self.weights}, or {again}"
            raise ReszooError(where, got=f"weights {self.location}", expected="weights on this machine", hint=hint)
        hint = f"a study keeps those of the fronts and of the three best trials; {again}"
        raise ReszooError(where, got="weights that were not kept", hint=hint)

    def train(self, data: Data | DataSource, /, *, output: str | Path, **options: Any) -> Trained:
        """Returns a run that trains this network by its recipe from the start, in a run folder of its own.

        With the data of the search, opened by `open_data` with its seed, it is the run of the search.

        Args:
            data: as for `reszoo.train`.
            output: the run folder; the same call resumes an interrupted run.
            options: further arguments of `reszoo.train`: `epochs=40`, `test=...`, other fields of the recipe.
        """
        from reszoo.training.train import train

        settings = {"recipe": self.recipe, "weights": self.start, "seed": self.seed}
        return train(self.spec, data, output=output, **{**settings, **options})

    @property
    def curve(self) -> list[float]:
        """The score after each epoch."""
        return [row.get(self.measure.name, math.nan) for row in self.history]

    def row(self) -> dict[str, object]:
        """Returns the trial as plain data, for tables and plots."""
        return {
            "number": self.number,
            "state": self.state,
            "values": self.point,
            **self.costs,
            "score": self.score,
            "epochs": self.epochs,
            "curve": self.curve,
            "note": self.note,
        }


def ranked(trials: Iterable[Trial]) -> list[Trial]:
    """Returns the trials that were trained to their end, best first; of equal scores the cheaper first."""
    ended = [trial for trial in trials if trial.is_ended]
    return sorted(ended, key=lambda trial: (-trial.merit, trial.costs["macs"], trial.number))


def front(trials: Iterable[Trial], cost: str) -> list[Trial]:
    """Returns the Pareto front of score and a cost, cheapest first.

    This is the one rule for every front: of tables, pages and commands, and for the weights that are kept. Only trials
    that were trained to their end count, with the score of their best epoch, whose weights are stored.

    Raises:
        UnknownNameError: an unknown cost.
        ReszooError: the cost was not measured.
    """
    if cost not in COSTS:
        raise UnknownNameError("pareto", got=cost, known=COSTS)
    finished = ranked(trials)
    if any(cost not in trial.costs for trial in finished):
        raise ReszooError(f"pareto.{cost}", got="trials without it", hint=f"search with a budget of {cost}")
    optimal: list[Trial] = []
    for trial in sorted(finished, key=lambda trial: (trial.costs[cost], -trial.merit)):
        if not optimal or trial.merit > optimal[-1].merit:
            optimal.append(trial)
    return optimal


def fronts(trials: Iterable[Trial]) -> dict[str, list[Trial]]:
    """Returns cost -> Pareto front, for every cost of a network that all finished trials have."""
    finished = ranked(trials)
    measured = [cost for cost in COSTS[:5] if finished and all(cost in trial.costs for trial in finished)]
    return {cost: front(finished, cost) for cost in measured}


def best_of(trials: Sequence[Trial], limits: dict[str, float]) -> Trial:
    """Returns the trial with the best score within limits such as `max_params=3e5`.

    Raises:
        UnknownNameError: an unknown limit.
        ReszooError: no finished trial is within the limits.
    """
    keywords = {name: f"max_{name}" for name in COSTS}
    for limit in limits:
        if limit not in keywords.values():
            raise UnknownNameError("best", got=limit, known=keywords.values())
    most = {name: limits[keyword] for name, keyword in keywords.items() if keyword in limits}
    for trial in ranked(trials):
        if all(trial.costs.get(name, float("inf")) <= limit for name, limit in most.items()):
            return trial
    states = ", ".join(f"{count} {state}" for state, count in Counter(trial.state for trial in trials).items())
    got = f"no finished trial within {limits}" if limits else f"no finished trial ({states or 'no trials'})"
    raise ReszooError("best", got=got, expected="a trial that was trained to its end")


def numbers_to_keep(trials: Sequence[Trial]) -> set[int]:
    """Returns the numbers of trials whose weights are kept: on a front, among the three best, or still running."""
    finished = ranked(trials)
    on_front = {trial.number for optimal in fronts(trials).values() for trial in optimal}
    alive = {trial.number for trial in trials if trial.state in ("waiting", "running")}
    return on_front | alive | {trial.number for trial in finished[:3]}


def tidy(trials: Sequence[Trial]) -> None:
    """Deletes the weights that are not kept, and the training states of finished trials; histories stay."""
    keep = numbers_to_keep(trials)
    for trial in trials:
        # A trial whose process died counts as failed until another one resumes it from its files.
        if trial.state in ("waiting", "running", "failed"):
            continue
        for folder in (trial.folder, *filter(Path.is_dir, trial.folder.glob("fold*"))):
            for state in folder.glob(f"{STATE}-*"):
                shutil.rmtree(state, ignore_errors=True)
            shutil.rmtree(folder / "logs", ignore_errors=True)
            if folder != trial.folder:
                for name in (FINAL, BEST):
                    (folder / name).unlink(missing_ok=True)
        # A study uses the best weights only, never the last ones.
        for name in (FINAL,) if trial.number in keep else (FINAL, BEST):
            (trial.folder / name).unlink(missing_ok=True)
