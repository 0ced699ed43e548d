"""The average of the best networks of a study: whether it is better than the best one, and as one Keras model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reszoo.data.dataset import Data
from reszoo.errors import ReszooError
from reszoo.report.tables import short
from reszoo.training.network import open_network
from reszoo.training.saving import save
from reszoo.tuning.results import Trial
from reszoo.types import Array, KerasModel

BATCH, DRAWS = 64, 10_000


@dataclass(frozen=True, repr=False)
class Ensemble:
    """The average of the probabilities of several networks, beside the best one of them, on the same examples."""

    trials: tuple[Trial, ...]
    """Best first."""
    accuracy: float
    single: float
    """Accuracy of the first trial alone."""
    interval: tuple[float, float]
    """95 % of the paired bootstrap of the difference."""
    data: Data
    model: KerasModel
    """One ordinary Keras model, whose output is the average."""

    @property
    def helps(self) -> bool:
        """Whether the average is better than the best network by more than chance."""
        return self.interval[0] > 0

    @property
    def costs(self) -> dict[str, float]:
        """Parameters and multiply-accumulates of all networks together."""
        return {name: sum(trial.costs[name] for trial in self.trials) for name in ("params", "macs")}

    def __repr__(self) -> str:
        return f"Ensemble({len(self.trials)} networks: accuracy {self.accuracy:.4f}, the best alone {self.single:.4f})"

    def __str__(self) -> str:
        numbers = ", ".join(str(trial.number) for trial in self.trials)
        low, high = self.interval
        verdict = "better" if self.helps else "not better beyond chance"
        gain = f"{self.accuracy - self.single:+.4f}, 95 % {low:+.4f} to {high:+.4f}: {verdict}"
        costs = f"{short(self.costs['params'])} parameters and {short(self.costs['macs'])} MACs together"
        alone = f"trial {self.trials[0].number} alone {self.single:.4f}"
        return f"average of trials {numbers}: accuracy {self.accuracy:.4f}, {alone} ({gain}); {costs}"

    def to_dict(self) -> dict[str, Any]:
        """Returns the ensemble as plain data."""
        facts = {"trials": [trial.number for trial in self.trials], "accuracy": self.accuracy, "single": self.single}
        return {**facts, "interval": self.interval, "helps": self.helps, "costs": self.costs}

    def save(self, path: str | Path, /) -> Path:
        """Returns the path of a `.keras` file of the average, for `evaluate`, `predict`, `deploy` and plain Keras."""
        return save(self.model, path, classes=self.data.classes, preprocessing=self.data)


def average(trials: Sequence[Trial], data: Data) -> Ensemble:
    """Returns the average of the networks of some trials, measured on the validation examples.

    Args:
        trials: best first.
        data: of the study.

    Raises:
        ReszooError: fewer than two trials, missing weights, no classes, or networks that scale their inputs otherwise.
    """
    import keras
    import numpy as np

    data.check_classes("ensemble")
    if len(trials) < 2:
        raise ReszooError("ensemble", got=f"{len(trials)} trained networks", expected="at least two")
    for trial in trials:
        trial.check_weights()
    networks = [open_network(trial.weights) for trial in trials]
    scalings = [network.metadata.scaling for network in networks]
    if any(scaling != scalings[0] for scaling in scalings):
        raise ReszooError("ensemble", got="networks that scale their inputs otherwise", expected="one scaling")
    # That of pretrained weights is not that of the data.
    data = replace(data, scaling=scalings[0])
    members = [network.load() for network in networks]
    inputs = keras.Input(members[0].input_shape[1:])
    # Networks of one name are layers of different ones.
    named = [
        keras.Sequential([each], name=f"trial_{trial.number}") for each, trial in zip(members, trials, strict=True)
    ]
    model = keras.Model(inputs, keras.layers.Average()([each(inputs) for each in named]), name="ensemble")
    right = _right(model, data), _right(members[0], data)
    gains = right[0].astype(int) - right[1]
    # Examples that are drawn again: how many of them the average wins, loses, and neither.
    shares = [float((gains == gain).mean()) for gain in (-1, 0, 1)]
    draws = np.random.default_rng(0).multinomial(len(gains), shares, DRAWS)
    low, high = np.quantile((draws[:, 2] - draws[:, 0]) / len(gains), (0.025, 0.975))
    accuracy, single = (float(each.mean()) for each in right)
    return Ensemble(tuple(trials), accuracy, single, (float(low), float(high)), data, model)


def _right(network: KerasModel, data: Data) -> Array:
    """Which validation examples a network predicts rightly."""
    import numpy as np

    examples = data.validation
    parts = [range(start, min(start + BATCH, len(examples))) for start in range(0, len(examples), BATCH)]
    outputs = [network.predict_on_batch(data.scaling(examples.take(part))) for part in parts]
    right: Array = np.concatenate(outputs).argmax(axis=1) == examples.labels
    return right
