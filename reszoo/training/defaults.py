"""What a run takes from its data, network and weights: settings, how data are opened, and what fits together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reszoo.arch import zoo
from reszoo.arch.spec import NetSpec
from reszoo.data.pictures import Channels
from reszoo.data.sources import Data
from reszoo.errors import ReszooError
from reszoo.training.metadata import features_of, read_file
from reszoo.training.recipes import MONITORS, Recipe, recipe
from reszoo.training.run_folder import read_settings
from reszoo.weights.catalogue import find
from reszoo.weights.origin import preprocessing_in, published_record

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


def arguments_of(
    model: str | NetSpec, data: Any, options: Mapping[str, Any], /, *, output: str | Path, weights: str | Path | None
) -> dict[str, Any]:
    """Returns the arguments of `open_data` for a run, completed by what its network and weights expect.

    A folder of images is read at the network's own size, where its entry names one, and with the channels of the
    weights; a table by the columns of the weights.

    Args:
        model: of the run.
        data: its source.
        options: arguments of `open_data` that are named already.
        output: the run folder; a run that is there keeps its size.
        weights: that the run starts from.
    """
    arguments = {name: value for name, value in options.items() if value is not None}
    columns = None if weights is None else features_of(weights)
    arguments |= {} if columns is None else {"columns": columns}
    spec = zoo.spec(model)
    if spec.dense or not isinstance(data, (str, Path)) or not Path(data).expanduser().is_dir():
        return arguments
    recorded = read_settings(Path(output).expanduser()).get("spec", {}).get("input_shape")
    side = (recorded or spec.input_shape)[0]
    if side is not None:
        arguments.setdefault("size", side)
    if weights is not None and _channels(weights, spec) == "gray":
        arguments.setdefault("channels", "gray")
    return arguments


def _channels(weights: str | Path, spec: NetSpec) -> Channels | None:
    """The channels of the images that weights take, where they are known before the weights are opened."""
    path = Path(weights).expanduser()
    if path.suffix == ".keras" and path.is_file():
        settings = preprocessing_in(read_file(path)[0])
    else:
        try:
            record = published_record(path) if path.exists() else find(str(weights), spec)
        except ReszooError:
            # Unknown names are refused where the weights are opened.
            return None
        settings = record.preprocessing if record else None
    return "gray" if settings is not None and settings.channels == "gray" else None


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
