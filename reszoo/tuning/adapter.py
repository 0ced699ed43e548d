"""keras-tuner's `HyperParameters`, answered by an Optuna trial: so Optuna searches any HyperModel."""

from __future__ import annotations

from typing import Any

import keras_tuner
import optuna
from keras_tuner.engine import hyperparameters as kinds

from reszoo.errors import ReszooError


class TrialHyperParameters(keras_tuner.HyperParameters):
    """A `keras_tuner.HyperParameters` whose values are those of an Optuna trial.

    `study.optimize(lambda trial: score(hypermodel.build(TrialHyperParameters(trial))))`. Conditional scopes and name
    scopes work as ever; what is not active is not asked.

    Args:
        trial: of an Optuna study.
    """

    def __init__(self, trial: optuna.Trial):
        super().__init__()
        self._trial = trial

    def _register(self, hyperparameter: Any, overwrite: bool = False) -> Any:
        found = super()._register(hyperparameter, overwrite)
        if self.is_active(hyperparameter):
            self.values[hyperparameter.name] = found = _asked(self._trial, hyperparameter)
        return found


def _asked(trial: optuna.Trial, hp: Any) -> Any:
    """The trial's answer to one of keras-tuner's questions."""
    if isinstance(hp, kinds.Fixed):
        return hp.value
    if isinstance(hp, kinds.Boolean):
        return trial.suggest_categorical(hp.name, [False, True])
    if isinstance(hp, kinds.Choice):
        return trial.suggest_categorical(hp.name, [*hp.values])
    # keras-tuner's sampling: linear, log, reverse_log; with a logarithm its step is a factor.
    if hp.sampling in (None, "linear"):
        if isinstance(hp, kinds.Int):
            return trial.suggest_int(hp.name, hp.min_value, hp.max_value, step=hp.step or 1)
        return trial.suggest_float(hp.name, hp.min_value, hp.max_value, step=hp.step)
    if hp.sampling == "log" and hp.step is None:
        ask: Any = trial.suggest_int if isinstance(hp, kinds.Int) else trial.suggest_float
        return ask(hp.name, hp.min_value, hp.max_value, log=True)
    if hp.sampling == "log":
        values = [hp.min_value]
        while values[-1] * hp.step <= hp.max_value:
            values.append(values[-1] * hp.step)
        return trial.suggest_categorical(hp.name, values)
    raise ReszooError(hp.name, given=f"sampling {hp.sampling}", allowed="linear, log")
