"""A range test of the learning rate (Smith 2017): the rate grows with every step until the loss does, too."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from reszoo.arch.build import build
from reszoo.arch.recover import stock_model
from reszoo.arch.spec import NetSpec
from reszoo.arch.stacked_optimizers import innermost
from reszoo.data.sources import Data, DataSource, open_data
from reszoo.errors import ReszooError
from reszoo.notebook import html_table
from reszoo.training.batches import Batches
from reszoo.training.defaults import default_recipe, fitted
from reszoo.training.losses import loss, targets_of
from reszoo.training.optimizers import compile_for, set_rates
from reszoo.training.recipes import Recipe, recipe as load_recipe
from reszoo.training.train import check_seed, fitting_spec, scaled_for
from reszoo.types import KerasModel

SMOOTHING = 0.9
"""Momentum of the moving average of the losses."""
DIVERGED = 4.0
"""The test ends where the averaged loss is this many times its minimum."""


@dataclass(frozen=True)
class RateCurve:
    """Losses at growing learning rates."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    """Moving average, one for every step; the L2 penalty is included where the recipe has one."""
    suggestion: float
    """A tenth of the rate with the smallest loss: a peak for one cycle or a constant rate."""
    recipe: str
    """Name of the recipe whose optimizer and batch were used."""

    def __repr__(self) -> str:
        steps = f"{len(self.rates)} steps up to {self.rates[-1]:.2g}"
        return f"RateCurve({steps}; suggested learning rate {self.suggestion:.2g} for {self.recipe!r})"

    def _repr_html_(self) -> str:
        """Every tenth step."""
        rows = [
            (f"{rate:.2g}", round(value, 4)) for rate, value in zip(self.rates[::10], self.losses[::10], strict=True)
        ]
        return html_table(("learning rate", "loss"), rows, title=repr(self))


def find_rate(
    model: str | NetSpec | KerasModel,
    data: Data | DataSource,
    /,
    *,
    recipe: str | Recipe | None = None,
    changes: Mapping[str, object] | None = None,
    weights: str | Path | None = None,
    low: float = 1e-6,
    high: float = 10.0,
    steps: int = 100,
    seed: int = 0,
    **recipe_changes: object,
) -> RateCurve:
    """Returns losses at growing learning rates, and a rate to train with; no weights of a model change.

    Example:
        >>> import reszoo
        >>> rows = [[float(number % 2), 1.0] for number in range(40)], [0, 1] * 20
        >>> curve = reszoo.find_rate("residual_mlp18", rows, changes={"depths": 1}, steps=20)
        >>> 0 < curve.suggestion < 10
        True

    Args:
        model: as in `train`, or a Keras model with one output for every class.
        data: as in `train`.
        recipe: as in `train`: optimizer, batch, loss and augmentation are those of the recipe.
        changes: as in `train`.
        weights: as in `train`.
        low: first learning rate.
        high: last learning rate, unless the loss grows before.
        steps: from the first to the last rate.
        seed: of weights and batches.
        recipe_changes: as in `train`.

    Raises:
        ReszooError: as for `train`; or the loss is not finite at the first rate.
    """
    check_seed(seed)
    if not 0 < low < high or steps < 2:
        raise ReszooError("find_rate", got=f"{low:g} to {high:g} in {steps} steps", expected="growing rates, two steps")
    source = data if isinstance(data, Data) else open_data(data, seed=seed)
    source.check_trainable()
    name = recipe or default_recipe(source, weights)
    if recipe is None:
        settings, _ = fitted(str(name), len(source.train), recipe_changes)
    else:
        settings = load_recipe(name, **recipe_changes)
    constant = {"kind": "constant", "peak": low, "warmup": 0.0}
    settings = load_recipe(settings, learning_rate=constant, accumulate=1, keras_optimizer=None)
    keras.utils.set_random_seed(seed)
    if isinstance(model, keras.Model):
        model = stock_model(model)
        network = keras.models.clone_model(model)
        network.set_weights(model.get_weights())
    else:
        spec = fitting_spec(model, source, settings, changes or {})
        source = source if weights is None else scaled_for(weights, spec, source)
        network = build(spec) if weights is None else _pretrained(spec, weights)
    return _curve(network, source, settings, np.geomspace(low, high, steps), seed)


def _curve(network: KerasModel, data: Data, recipe: Recipe, rates: Any, seed: int) -> RateCurve:
    targets = targets_of(data)
    options: dict[str, Any] = {"targets": targets, "white": data.white, "augmentation": recipe.augmentation}
    batches = Batches(data.train, data.scaling, targets.outputs, batch=recipe.batch, seed=seed, **options)
    compile_for(network, recipe, steps=len(rates), loss=loss(recipe, task=targets.task), steps_per_execution=1)
    network.optimizer.build(network.trainable_variables)
    # With rates by layer each one keeps its ratio to the head's.
    ratios = [float(each.learning_rate) / recipe.learning_rate.peak for each in innermost(network.optimizer)]
    losses: list[float] = []
    average = 0.0
    for step, rate in enumerate(map(float, rates)):
        set_rates(network.optimizer, [rate * ratio for ratio in ratios])
        epoch, index = divmod(step, len(batches))
        network.reset_metrics()
        value = float(network.train_on_batch(*batches.batch(epoch, index), return_dict=True)["loss"])
        if not math.isfinite(value):
            break
        average = SMOOTHING * average + (1 - SMOOTHING) * value
        losses.append(average / (1 - SMOOTHING ** (step + 1)))
        if losses[-1] > DIVERGED * min(losses):
            break
    if not losses:
        got = f"a loss that is not finite at {recipe.learning_rate.peak:g}"
        raise ReszooError("find_rate", got=got, expected="a finite loss", hint="a smaller low=")
    best = float(rates[int(np.argmin(losses))])
    return RateCurve(tuple(map(float, rates[: len(losses)])), tuple(losses), best / 10, recipe.name)


def _pretrained(spec: NetSpec, weights: str | Path) -> KerasModel:
    from reszoo.weights.load import pretrained

    return pretrained(spec, weights, strict="trunk")
