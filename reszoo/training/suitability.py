"""Which losses, metrics and class weights belong to which data; known before Keras is imported."""

from __future__ import annotations

from reszoo.data.sources import Data
from reszoo.errors import ReszooError
from reszoo.training.recipes import MONITORS, Recipe

REGRESSION_LOSSES = ("mse", "mae", "huber")


def check_recipe(recipe: Recipe, data: Data) -> None:
    """Checks that loss, metrics and class weights belong to the data.

    Raises:
        ReszooError: they belong to another task, or there is a weight for an unknown class.
    """
    task = data.task
    if task != "regression" and recipe.loss in REGRESSION_LOSSES:
        expected = "cross_entropy, binary_cross_entropy, focal"
        raise ReszooError("recipe.loss", got=repr(recipe.loss), expected=f"{expected} for {task}")
    if task == "regression" and recipe.loss in ("binary_cross_entropy", "focal"):
        raise ReszooError("recipe.loss", got=repr(recipe.loss), expected="mse, mae, huber for regression")
    if task != "classification" and recipe.class_weights != "none":
        raise ReszooError("recipe.class_weights", got=f"data for {task}", expected="one label an example")
    if recipe.monitor not in ("auto", *MONITORS[task]):
        raise ReszooError("recipe.monitor", got=f"{recipe.monitor!r} for {task}", expected=", ".join(MONITORS[task]))
    unsuitable = [
        name
        for name in recipe.metrics
        if task == "regression" or (task == "multilabel" and name in ("top5", "balanced_accuracy"))
    ]
    if unsuitable:
        raise ReszooError("recipe.metrics", got=f"{', '.join(unsuitable)} for {task}", expected="metrics of this task")
    check_class_weights(recipe, data)


def check_class_weights(recipe: Recipe, data: Data) -> None:
    """Checks that the data have the classes for which a recipe has weights.

    Raises:
        ReszooError: a weight for an unknown class.
    """
    if isinstance(recipe.class_weights, dict):
        for name in recipe.class_weights:
            if name not in data.classes:
                raise ReszooError("recipe.class_weights", got=repr(name), expected=", ".join(data.classes))
