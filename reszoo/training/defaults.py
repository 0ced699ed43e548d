"""The settings of a run that names no recipe: they follow from the kind of data and the number of examples."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reszoo.data.sources import Data
from reszoo.training.recipes import Recipe, recipe

MIN_STEPS = 8
"""Steps of an epoch below which the default batch becomes smaller."""
MIN_BATCH = 8
MIN_UPDATES, LONGEST = 500, 5
"""Steps that a run from random weights has at least; it takes up to this many times its recipe's epochs for them."""
PHOTO_SIDE = 48
"""Side in pixels from which color images are trained on as photographs, with random crops."""


def default_recipe(data: Data, weights: str | Path | None) -> str:
    """Returns the name of the default recipe: for rows, pretrained weights, gray images, photographs, small images."""
    if len(data.shape) == 1:
        return "tabular"
    if weights is not None:
        return "fine_tune_small"
    if data.shape[-1] == 1:
        return "fast_symbols"
    return "photos" if min(data.shape[:2]) >= PHOTO_SIDE else "fast"


def fitted(name: str, examples: int, changes: Mapping[str, Any], *, updates: int = MIN_UPDATES) -> tuple[Recipe, str]:
    """Returns a recipe fitted to the number of training examples, and what was changed and why, in one line.

    The batch is halved, down to 8, until an epoch has at least eight steps. The rate of SGD stays in proportion to the
    batch (Goyal 2017, 2.1), that of adaptive optimizers to its root (Malladi 2022). Epochs are added until there are
    `updates` steps, up to five times those of the recipe. Values in `changes` remain.

    Example:
        >>> settings, line = fitted("fast", 244, {})
        >>> settings.batch, settings.learning_rate.peak, settings.epochs
        (16, 0.025, 32)

    Args:
        name: of the recipe.
        examples: for training.
        changes: to the recipe.
        updates: steps of the whole run, at least; fewer are enough from pretrained weights.
    """
    standard = recipe(name)
    batch = standard.batch
    while batch > MIN_BATCH and examples < MIN_STEPS * batch:
        batch = max(batch // 2, MIN_BATCH)
    batch = changes.get("batch", batch)
    peak, values = standard.learning_rate.peak, dict(changes)
    if isinstance(batch, int) and 0 < batch < standard.batch and "keras_optimizer" not in changes:
        share = batch / standard.batch
        kind = changes.get("optimizer", {}).get("kind", standard.optimizer.kind)
        peak = float(f"{peak * (share if kind == 'sgd' else share**0.5):.3g}")
        values["learning_rate"] = {"peak": peak, **changes.get("learning_rate", {})}
    if "epochs" not in changes and isinstance(batch, int) and batch > 0:
        count = -(-updates // max(-(-examples // batch), 1))
        values["epochs"] = min(max(standard.epochs, count), LONGEST * standard.epochs)
    result = recipe(name, **{**values, "batch": batch})
    steps, rate = -(-examples // result.batch), result.learning_rate.peak
    line = (
        f"recipe {name}: batch {result.batch}, learning rate {rate:g}, {steps} steps an epoch, {result.epochs} epochs"
    )
    if result.batch != standard.batch or rate != standard.learning_rate.peak:
        before = f"{standard.batch} and {standard.learning_rate.peak:g} in the recipe"
        reason = "" if "batch" in changes else f": {examples:,} examples, and at least {MIN_STEPS} steps an epoch"
        line += f" ({before}{reason})"
    if result.epochs != standard.epochs and "epochs" not in changes:
        line += f"; {standard.epochs} epochs in the recipe: {result.epochs * steps:,} steps in all"
    return result, line
