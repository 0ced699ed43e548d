"""A study that takes over the finished trials of another one: the space grew, or the best trials get more epochs."""

from __future__ import annotations

import shutil
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


def take_over(engine: optuna.Study, other: Study, setup: Setup, *, folder: Path) -> None:
    """Adds the finished trials of another study whose points are in the space and within the budget.

    With more epochs, its best trials are queued instead, to go on from their weights.

    Raises:
        ReszooError: there is no such trial.
    """
    if other.recipe.epochs < setup.recipe.epochs:
        kept = [trial for trial in ranked(other.trials) if trial.weights.exists()]
        chosen = [(trial, point) for trial in kept if (point := _point(trial, other, setup)) is not None]
        for trial, point in chosen[:MORE_EPOCHS]:
            start = str(trial.weights.absolute())
            enqueue(engine, point, setup.feasible, setup.proposals, start=start)
        _check_any(len(chosen), other)
        return
    number = 0
    for trial in other.trials:
        point = _point(trial, other, setup)
        state = STATES.get(trial.outcome)
        if point is None or state is None or not {*setup.objectives} & {*OBJECTIVE_COSTS} <= {*trial.costs}:
            continue
        _add(engine, trial, point, state, setup, number=number)
        if trial.weights.exists():
            (target := folder / "trials" / f"{number:04d}").mkdir(parents=True, exist_ok=True)
            shutil.copyfile(trial.weights, target / BEST)
        number += 1
    _check_any(number, other)


def _check_any(count: int, other: Study) -> None:
    if not count:
        expected = "at least one in the space and within the budget; with more epochs, one whose weights are here"
        raise ReszooError(f"extends {other.folder}", got="no trial that can be taken over", expected=expected)


def _point(trial: Trial, other: Study, setup: Setup) -> Point | None:
    """The point in the space with a trial's network and recipe; None where there is none, or it is over budget."""
    before = other.space.candidate(trial.point, other.recipe)
    assert before is not None
    if "epochs" not in setup.space.recipe:
        # A study may give the best more epochs.
        before = replace(before, recipe=recipe(before.recipe, epochs=setup.recipe.epochs))
    for values in islice(_completed(trial, setup), MOST_POINTS):
        try:
            point = checked_point(setup.space.axes, values)
        except ReszooError:
            continue
        candidate = setup.space.candidate(point, setup.recipe)
        if candidate is not None and candidate.key == before.key and setup.feasible.has(point):
            return point
    return None


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
        attributes |= {ROWS: history, SCORE: trial.score, ORIGIN: [trial.host, str(trial.origin or trial.folder)]}
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
