"""What a study has found, as plain values: trials, the Pareto front, what is kept on disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reszoo.arch.spec import NetSpec
from reszoo.errors import ReszooError, UnknownNameError
from reszoo.training.run_folder import BEST, FINAL, STATE

COSTS = ("params", "macs", "activations", "depth", "latency", "seconds")
FINISHED = ("complete", "pruned")


@dataclass(frozen=True)
class Trial:
    """One network that was tried, or is being tried."""

    number: int
    """Its place among the proposals, from 0."""
    state: str
    """waiting, running, complete, pruned, diverged, infeasible, failed or damaged."""
    point: dict[str, Any]
    spec: NetSpec
    score: float | None
    """Greatest validation accuracy after an epoch: what the kept weights reach."""
    costs: dict[str, float]
    """params, macs, activations, depth; latency (seconds for one example) if measured; seconds of training."""
    history: tuple[dict[str, float], ...]
    folder: Path
    note: str = ""
    """What went wrong."""

    @property
    def epochs(self) -> int:
        """Epochs trained so far."""
        return len(self.history)

    @property
    def weights(self) -> Path:
        """The file of its best weights, where it is kept."""
        return self.folder / BEST

    def model(self) -> Any:
        """Returns the network with its best weights: its evaluation on the validation part is the score.

        Raises:
            ReszooError: its weights are not kept, or damaged.
        """
        import keras

        if not self.weights.exists():
            hint = "those on the Pareto front and the three best are kept"
            raise ReszooError(f"trial {self.number}", got="weights that were not kept", hint=hint)
        try:
            return keras.models.load_model(self.weights)
        except (OSError, ValueError) as error:
            raise ReszooError(str(self.weights), got=f"a damaged file ({error})", hint="train it again") from None

    def row(self) -> dict[str, Any]:
        """Returns the trial as plain data, for tables and pictures."""
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
    """Returns finished trials, the best first; of equal ones the cheaper first."""
    scored = [trial for trial in trials if trial.state in FINISHED and trial.score is not None]
    return sorted(scored, key=lambda trial: (-(trial.score or 0.0), trial.costs["macs"], trial.number))


def front(trials: Iterable[Trial], cost: str) -> list[Trial]:
    """Returns the trials that no other one beats in both score and cost, the cheapest first.

    The one rule for every front: of table, page and command, and for the weights that are kept. Complete and pruned
    trials count alike, with the score of their best epoch, whose weights are kept.

    Raises:
        UnknownNameError: there is no such cost.
        ReszooError: it was not measured.
    """
    if cost not in COSTS:
        raise UnknownNameError("pareto", got=cost, known=COSTS)
    finished = ranked(trials)
    if any(cost not in trial.costs for trial in finished):
        raise ReszooError(f"pareto.{cost}", got="trials without it", hint=f"search with a budget of {cost}")
    found: list[Trial] = []
    for trial in sorted(finished, key=lambda trial: (trial.costs[cost], -(trial.score or 0.0))):
        if not found or (trial.score or 0.0) > (found[-1].score or 0.0):
            found.append(trial)
    return found


def fronts(trials: Iterable[Trial]) -> dict[str, list[Trial]]:
    """Returns the front of every cost of a network that all finished trials have: the networks that are kept."""
    finished = ranked(trials)
    measured = [cost for cost in COSTS[:5] if finished and all(cost in trial.costs for trial in finished)]
    return {cost: front(finished, cost) for cost in measured}


def best_of(trials: Sequence[Trial], limits: dict[str, float]) -> Trial:
    """Returns the trial of the greatest score within limits such as `max_params=3e5`.

    Raises:
        ReszooError: no trial is.
    """
    named = {name: f"max_{name}" for name in COSTS}
    for limit in limits:
        if limit not in named.values():
            raise UnknownNameError("best", got=limit, known=named.values())
    within = [
        trial
        for trial in ranked(trials)
        if all(trial.costs.get(name, float("inf")) <= limits[limit] for name, limit in named.items() if limit in limits)
    ]
    if not within:
        raise ReszooError("best", got=f"no finished trial within {limits}" if limits else "no finished trial")
    return within[0]


def kept(trials: Sequence[Trial]) -> set[int]:
    """Returns the numbers of the trials whose weights are kept: the fronts, the three best, and what runs."""
    finished = ranked(trials)
    on_front = {trial.number for found in fronts(trials).values() for trial in found}
    alive = {trial.number for trial in trials if trial.state in ("waiting", "running")}
    return on_front | alive | {trial.number for trial in finished[:3]}


def tidy(trials: Sequence[Trial]) -> None:
    """Deletes the weights that are not kept, and the states of all finished runs; histories stay."""
    keep = kept(trials)
    for trial in trials:
        # A trial whose process died counts as failed until another stands in for it, and goes on with what is there.
        if trial.state in ("waiting", "running", "failed"):
            continue
        for state in trial.folder.glob(f"{STATE}-*"):
            shutil.rmtree(state, ignore_errors=True)
        shutil.rmtree(trial.folder / "logs", ignore_errors=True)
        # The best weights are what a trial is worth; the last ones are of no use to a study.
        for name in (FINAL,) if trial.number in keep else (FINAL, BEST):
            (trial.folder / name).unlink(missing_ok=True)
