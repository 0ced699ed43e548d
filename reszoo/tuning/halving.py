"""The pruner: asynchronous successive halving, once early results are seen to predict late ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

FIRST_RUNG = 2
"""Epochs before a run is judged, where it has at least twice as many."""
FACTOR = 2
"""One in so many runs continues."""
LEAST_COMPLETE, AGREEMENT = 3, 0.75
"""Complete runs before any run is ended, and pairs of them that an epoch must rank as their ends do."""


class Halving(optuna.pruners.BasePruner):
    """Asynchronous successive halving that ends runs and never pauses them, where early results predict late ones.

    Runs are judged after an eighth, a quarter and half of their epochs, but not after the first epoch where they have
    four or more: most are still warming up then. A run continues while it is in the better half of all runs so far,
    including those that ended earlier. Li et al. 2020, algorithm 2, compare the surviving runs only: where proposals
    improve with time, that ends good runs by chance.

    Nothing ends until the study shows that such an epoch predicts who wins: of all pairs of complete runs, three
    at least, it must have ranked three quarters as their ends do (a Kendall correlation of a half).

    Args:
        epochs: of a complete run.
    """

    def __init__(self, *, epochs: int):
        shares = (epochs / FACTOR**power for power in range(1, 4))
        self.rungs = {round(share) for share in shares if share >= FIRST_RUNG} or {1}

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Returns whether a run ends at its last reported epoch."""
        step = trial.last_step
        if step is None or step not in self.rungs:
            return False
        sign = -1 if study.direction == StudyDirection.MINIMIZE else 1
        value = sign * trial.intermediate_values[step]
        others = [
            other
            for other in study.get_trials(deepcopy=False)
            if other.number != trial.number and other.state != TrialState.FAIL
        ]
        curves = [other.intermediate_values for other in others]
        judged = 1 + sum(min(self.rungs) in values for values in curves)
        better = sum(sign * values.get(step, -sign * math.inf) > value for values in curves)
        return better >= max(judged // FACTOR, 1) and _predicts(step, others)


def _predicts(step: int, trials: Sequence[FrozenTrial]) -> bool:
    """Whether the values after an epoch rank complete runs as their ends do."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE and step in trial.intermediate_values]
    changes = [
        (one.intermediate_values[step] - two.intermediate_values[step]) * (one.values[0] - two.values[0])
        for one, two in combinations(complete, 2)
    ]
    return len(complete) >= LEAST_COMPLETE and sum(change > 0 for change in changes) >= AGREEMENT * len(changes)
