"""How much every axis of a search matters, by Optuna's fANOVA (Hutter et al. 2014)."""

from __future__ import annotations

from collections.abc import Sequence

import optuna

from reszoo.tuning.results import Trial
from reszoo.tuning.space import Space
from reszoo.tuning.storage import quiet

MIN_TRIALS = 10
"""Trials below which nothing is said."""


def importances(trials: Sequence[Trial], space: Space, *, epoch: int) -> dict[str, float]:
    """Returns axis -> share of the variance of the scores after an epoch, which trials that ended early reached, too.

    The shares add up to 1, whatever part of the variance is chance. Axes that apply to some trials only, and those with
    one value, are left out. Empty for fewer than ten trials.

    Args:
        trials: of a study, in any state.
        space: of the study.
        epoch: at which the trials are compared, from 1.
    """
    from reszoo.tuning.proposals import distribution

    measured = [trial for trial in trials if trial.score is not None and trial.epochs >= epoch > 0]
    axes = {name: distribution(axis) for name, axis in space.axes.items()}
    axes = {name: axis for name, axis in axes.items() if all(name in trial.point for trial in measured)}
    axes = {name: axis for name, axis in axes.items() if len({trial.point[name] for trial in measured}) > 1}
    if len(measured) < MIN_TRIALS or not axes:
        return {}
    scores = [trial.row()["curve"][epoch - 1] for trial in measured]
    if max(scores) == min(scores):
        return {}
    with quiet:
        study = optuna.create_study(direction="maximize")
        for trial, score in zip(measured, scores, strict=True):
            params = {name: trial.point[name] for name in axes}
            study.add_trial(optuna.create_trial(params=params, distributions=axes, value=score))
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: float(share) for name, share in shares.items()}
