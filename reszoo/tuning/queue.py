"""Points that wait to be tried: known ones, presets of a space, and those of Optuna's own `enqueue_trial`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from reszoo.errors import ReszooError
from reszoo.tuning.axes import Point, checked_point
from reszoo.tuning.budget import Feasible
from reszoo.tuning.proposals import KEY, OUTCOME, QUEUED, START, Proposals, keys

FIXED = "fixed_params"
"""Optuna's system attribute with the values of `enqueue_trial`."""


def enqueue(
    study: optuna.Study, values: Point, feasible: Feasible, proposals: Proposals, *, start: str | None = None
) -> None:
    """Queues a point; one that is tried or queued already is left out.

    Args:
        study: where it is tried next.
        values: axis -> value.
        feasible: the space and the budget.
        proposals: that it is one of.
        start: file of weights to start from.

    Raises:
        ReszooError: a point outside the space or over budget.
    """
    attributes = _attributes(values, feasible, proposals)
    if attributes[KEY] not in keys(study):
        attributes |= {START: start} if start else {}
        study.add_trial(optuna.create_trial(state=TrialState.WAITING, user_attrs=attributes))


def adopt(study: optuna.Study, waiting: Sequence[FrozenTrial], feasible: Feasible, proposals: Proposals) -> None:
    """Makes proposals of trials that Optuna's `enqueue_trial` has queued.

    Raises:
        ReszooError: one is outside the space or over budget; it is taken out of the queue.
    """
    storage = study._storage
    for trial in waiting:
        if FIXED not in trial.system_attrs or QUEUED in trial.user_attrs:
            continue
        try:
            attributes = _attributes(trial.system_attrs[FIXED], feasible, proposals)
        except ReszooError:
            storage.set_trial_user_attr(trial._trial_id, OUTCOME, "surplus")
            storage.set_trial_state_values(trial._trial_id, state=TrialState.FAIL)
            raise
        for name, value in attributes.items():
            storage.set_trial_user_attr(trial._trial_id, name, value)


def requeue(study: optuna.Study, trial: FrozenTrial) -> None:
    """Queues a point again whose turn comes with more trials."""
    attributes = {name: trial.user_attrs[name] for name in (KEY, QUEUED, START) if name in trial.user_attrs}
    study.add_trial(optuna.create_trial(state=TrialState.WAITING, user_attrs=attributes))


def _attributes(values: Point, feasible: Feasible, proposals: Proposals) -> dict[str, Any]:
    point = checked_point(feasible.space.axes, values)
    feasible.check(point)
    return {QUEUED: point, KEY: proposals.candidate(point).key}
