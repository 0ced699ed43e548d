"""Results of a study as plain values: trials, Pareto fronts, and the weights that are kept on disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reszoo.arch.spec import NetSpec
from reszoo.data.sources import Data, DataSource
from reszoo.errors import ReszooError, UnknownNameError
from reszoo.notebook import html_table
from reszoo.training.recipes import Recipe
from reszoo.training.run_folder import BEST, FINAL, STATE
from reszoo.training.trained import Trained
from reszoo.types import KerasModel

COSTS = ("params", "macs", "activations", "depth", "latency", "seconds")
FINISHED = ("complete", "timed_out")
"""States of the trials that count: their training ended as the recipe or the budget says."""


@dataclass(frozen=True, repr=False)
class Trial:
    """One network of a study: what it is, what it costs and what it reached."""

    number: int
    """Number among the proposals, from 0."""
    state: str
    """waiting, running, complete, pruned, diverged, infeasible, failed or damaged."""
    point: dict[str, Any]
    spec: NetSpec
    score: float | None
    """Best validation accuracy after any epoch, which is that of the stored weights; None without one."""
    costs: dict[str, float]
    """params, macs, activations, depth; latency (inference seconds per example) if measured; seconds of training."""
    history: tuple[dict[str, float], ...]
    folder: Path
    note: str = ""
    """The error message, if it failed."""
    recipe: Recipe | None = None
    """The recipe it is trained by."""
    seed: int = 0
    """Of its initial weights, the order of its examples and their augmentation."""
    start: str | None = None
    """Pretrained weights that its training starts from."""

    @property
    def epochs(self) -> int:
        """Epochs trained so far."""
        return len(self.history)

    @property
    def weights(self) -> Path:
        """The file of its best weights; it exists on the fronts and for the three best trials."""
        return self.folder / BEST

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
        """Returns the network with its best weights; its accuracy on the validation data is the score.

        Raises:
            ReszooError: the weights were deleted or are damaged.
        """
        import keras

        if not self.weights.exists():
            hint = "a study keeps those of the Pareto fronts and of the three best trials"
            raise ReszooError(f"trial {self.number}", got="weights that were not kept", hint=hint)
        try:
            return keras.models.load_model(self.weights)
        except (OSError, ValueError) as error:
            raise ReszooError(
                str(self.weights), got=f"a damaged file ({error})", hint="train the trial again"
            ) from None

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

    def row(self) -> dict[str, Any]:
        """Returns the trial as plain data, for tables and plots."""
        return {
            "number": self.number,
            "state": self.state,
            "values": self.point,
            **self.costs,
            "score": self.score,
            "epochs": self.epochs,
            "curve": [row["val_accuracy"] for row in self.history],
            "note": self.note,
        }


def ranked(trials: Iterable[Trial]) -> list[Trial]:
    """Returns the finished trials, best first; of equal scores the cheaper first."""
    scored = [trial for trial in trials if trial.state in FINISHED and trial.score is not None]
    return sorted(scored, key=lambda trial: (-(trial.score or 0.0), trial.costs["macs"], trial.number))


def front(trials: Iterable[Trial], cost: str) -> list[Trial]:
    """Returns the Pareto front of score and a cost, cheapest first.

    This is the one rule for every front: of tables, pages and commands, and for the weights that are kept. Trials that
    pruning ended early are on none: nobody knows what they would have reached.

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
    for trial in sorted(finished, key=lambda trial: (trial.costs[cost], -(trial.score or 0.0))):
        if not optimal or (trial.score or 0.0) > (optimal[-1].score or 0.0):
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
    got = f"no finished trial within {limits}" if limits else "no finished trial"
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
        for state in trial.folder.glob(f"{STATE}-*"):
            shutil.rmtree(state, ignore_errors=True)
        shutil.rmtree(trial.folder / "logs", ignore_errors=True)
        # A study uses the best weights only, never the last ones.
        for name in (FINAL,) if trial.number in keep else (FINAL, BEST):
            (trial.folder / name).unlink(missing_ok=True)
