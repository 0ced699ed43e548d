"""A study that takes over the finished trials of another one: the space grew, or the best trials get more epochs."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import reduce
from itertools import islice
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from reszoo.data.dataset import ASPECTS
from reszoo.errors import ReszooError
from reszoo.training.recipes import best_of, recipe
from reszoo.training.run_folder import BEST, differences
from reszoo.tuning.axes import Axis, Point, all_points, checked_point
from reszoo.tuning.measures import OBJECTIVE_COSTS, metric
from reszoo.tuning.proposals import KEY, OUTCOME, PLACE, POINT, SCORE, distribution
from reszoo.tuning.queue import enqueue
from reszoo.tuning.results import ENDED, Trial, ranked
from reszoo.tuning.setup import Setup
from reszoo.tuning.study import COSTS, NOTE, ORIGIN, ROWS, Study, open_study

STATES = {
    **dict.fromkeys(ENDED, TrialState.COMPLETE),
    **dict.fromkeys(("pruned", "diverged", "infeasible"), TrialState.PRUNED),
}
"""State of a trial -> that of Optuna."""
MORE_EPOCHS = 3
"""Best trials that go on from their weights where a study has more epochs."""
SAME = ("recipe", "objective", "folds")
MOST_POINTS = 10_000
"""Points of a space that are compared with a trial that lacks the values of some axes."""


def extendable(folder: str | Path, setup: Setup) -> Study:
    """Returns the study in a folder whose trials another one can take over.

    Raises:
        ReszooError: there is none; or it has other data, another recipe but for more epochs, or another objective.
    """
    other = open_study(folder)
    where, expected = f"extends {folder}", "the same in both studies"
    before, now = other.settings, setup.settings
    if "digest" not in before:
        raise ReszooError(where, got="a study of an earlier version", expected="one that knows the digest of its data")
    for aspect in ASPECTS:
        if before["digest"].get(aspect) != now["digest"][aspect]:
            raise ReszooError(f"{where}: data.{aspect}", got=f"other {ASPECTS[aspect]}", expected=expected)
    recorded = {**before, "recipe": other.recipe.model_dump(mode="json"), "objective": before["objective"][:1]}
    now = {**now, "objective": now["objective"][:1]}
    for path, old, new in (pair for name in SAME for pair in differences(recorded.get(name), now.get(name), name)):
        if path.removeprefix("recipe.") in setup.space.recipe:
            # The trials that have a value of this axis are taken over.
            continue
        if path != "recipe.epochs":
            raise ReszooError(f"{where}: {path}", got=repr(new), expected=repr(old), hint=expected)
        if new < old:
            raise ReszooError(f"{where}: {path}", got=new, expected=f"{old} or more")
    return other


def take_over(engine: optuna.Study, other: Study, setup: Setup, *, folder: Path) -> str:
    """Adds the finished trials of another study whose points are in the space and within the budget.

    With more epochs, its best trials are queued instead, to go on from copies of their weights.

    Returns:
        How many trials were left out and why; nothing where all were taken over.

    Raises:
        ReszooError: there is no trial that can be taken over.
    """
    longer = other.recipe.epochs < setup.recipe.epochs
    trials, reasons, taken = ranked(other.trials) if longer else other.trials, Counter[str](), 0
    reasons["not trained to their end"] = len(other.trials) - len(trials)
    for trial in trials:
        point, reason = _point(trial, other, setup)
        reason = reason or _obstacle(trial, setup, longer=longer)
        if longer and taken == MORE_EPOCHS:
            reason = reason or f"beyond the best {MORE_EPOCHS}"
        if point is None or reason:
            reasons[reason] += 1
            continue
        if longer:
            start = _copied(trial, folder, Path("start") / f"{trial.number:04d}.keras")
            enqueue(engine, point, setup.feasible, setup.proposals, start=start)
        else:
            _add(engine, trial, point, STATES[trial.outcome], setup, number=taken)
            if trial.weights.exists():
                _copied(trial, folder, Path("trials") / f"{taken:04d}" / BEST)
        taken += 1
    listed = ", ".join(f"{count} {reason}" for reason, count in reasons.items() if count)
    if not taken:
        expected = "at least one in the space and within the budget; with more epochs, one whose weights are here"
        got = f"no trial that can be taken over ({listed or 'there is none'})"
        raise ReszooError(f"extends {other.folder}", got=got, expected=expected)
    count = f"{taken} of {len(other.trials)} trials"
    return f"extends {other.folder}: {count} are taken over; left out: {listed}" if listed else ""


def _obstacle(trial: Trial, setup: Setup, *, longer: bool) -> str:
    """Why a trial whose point fits cannot be taken over, or nothing."""
    if trial.outcome not in STATES:
        return trial.outcome
    if not {*setup.objectives} & {*OBJECTIVE_COSTS} <= {*trial.costs}:
        return "without a cost of the objective"
    return "whose weights are not here" if longer and not trial.weights.exists() else ""


def _copied(trial: Trial, folder: Path, place: Path) -> str:
    """Copies the weights of a trial into a study's folder; returns their place in it, which survives a move."""
    (folder / place).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(trial.weights, folder / place)
    return place.as_posix()


def _point(trial: Trial, other: Study, setup: Setup) -> tuple[Point | None, str]:
    """The point in the space with a trial's network and recipe; where there is none within the budget, why."""
    before = other.space.candidate(trial.point, other.recipe)
    assert before is not None
    if "epochs" not in setup.space.recipe:
        # A study may give the best more epochs.
        before = replace(before, recipe=recipe(before.recipe, epochs=setup.recipe.epochs))
    reason = "outside the space"
    for values in islice(_completed(trial, setup), MOST_POINTS):
        try:
            point = checked_point(setup.space.axes, values)
        except ReszooError:
            continue
        candidate = setup.space.candidate(point, setup.recipe)
        if candidate is None or candidate.key != before.key:
            continue
        if setup.feasible.has(point):
            return point, ""
        reason = "over budget"
    return None, reason


def _completed(trial: Trial, setup: Setup) -> Iterator[Point]:
    """Points with the values of a trial. An axis that it has no value of takes all, a range that of its recipe."""
    axes = []
    for name, axis in setup.space.axes.items():
        values: tuple[Any, ...] = (trial.point[name],) if name in trial.point else axis.answers or ()
        if name in setup.space.recipe and axis.answers is None and not values:
            fields = trial.recipe.model_dump() if trial.recipe else {}
            values = (reduce(lambda value, field: value[field], name.split("."), fields),)
        axes.append((name, Axis(values=values, when=axis.when) if values else axis))
    return all_points(axes, {})


def _add(engine: optuna.Study, trial: Trial, point: Point, state: TrialState, setup: Setup, *, number: int) -> None:
    monitor, history = setup.recipe.monitor, [*trial.history]

    def value(name: str, epochs: int) -> float:
        return trial.costs[name] if name in OBJECTIVE_COSTS else best_of(history[:epochs], monitor)[metric(name).name]

    attributes: dict[str, Any] = {PLACE: number, POINT: point, KEY: setup.proposals.candidate(point).key}
    attributes |= {COSTS: trial.costs, NOTE: trial.note or f"taken over from {trial.folder}"}
    if trial.score is not None:
        origin = str((trial.origin or trial.folder).absolute())
        attributes |= {ROWS: history, SCORE: trial.score, ORIGIN: [trial.host, origin]}
    if trial.outcome not in ("complete", "pruned"):
        attributes[OUTCOME] = trial.outcome
    single = len(setup.objectives) == 1
    engine.add_trial(
        optuna.create_trial(
            state=state,
            values=[value(name, len(history)) for name in setup.objectives] if state == TrialState.COMPLETE else None,
            params=point,
            distributions={name: distribution(setup.space.axes[name]) for name in point},
            intermediate_values={n: value(setup.objectives[0], n) for n in range(1, len(history) + 1)}
            if single
            else {},
            user_attrs=attributes,
        )
    )
