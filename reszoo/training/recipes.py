"""Training recipes as data, and the decisions of a run that follow from its recipe and history alone.

A resumed run makes the same decisions: the best epoch, early stopping, and the learning rate on a plateau.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Field, Strict

from reszoo.arch.spec import Count, Rate
from reszoo.config import FrozenModel, check, configs, inherit, merge, read_yaml
from reszoo.errors import ReszooError
from reszoo.notebook import html_fields

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Monitor = Literal[
    "auto", "loss", "accuracy", "balanced_accuracy", "f1_macro", "auc", "top5", "map", "rmse", "mae", "r2"
]
MONITORS = {
    "classification": ("accuracy", "balanced_accuracy", "f1_macro", "auc", "top5", "loss"),
    "multilabel": ("map", "f1_macro", "auc", "accuracy", "loss"),
    "regression": ("rmse", "mae", "r2", "loss"),
}
"""Task -> metrics by which epochs can be compared; the first one is the default."""

HEADS = {"binary_cross_entropy": "sigmoid"}
"""Loss of one class an example -> activation of the outputs; softmax for the others."""


def _by_name(weights: Any) -> Any:
    """Weights of classes by name: a number is a name, as in `class_weight` of Keras."""
    if not isinstance(weights, Mapping):
        return weights
    for name, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < float("inf"):
            raise ReszooError(str(name), got=repr(weight), expected="a number, greater than 0")
    return {str(name): float(weight) for name, weight in weights.items()}


ClassWeights = Annotated[Literal["none", "balanced"] | dict[str, Positive], BeforeValidator(_by_name)]


class Optimizer(FrozenModel):
    """The optimizer of a recipe."""

    kind: Literal["sgd", "adamw", "lamb", "adam", "rmsprop"] = "sgd"
    momentum: Rate = 0.9
    """SGD only."""
    nesterov: bool = False
    """SGD only."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Applied to kernels only, not to norms and biases."""
    decay: Literal["l2", "decoupled"] = "l2"
    """`l2` adds `weight_decay / 2 * sum(kernel ** 2)` to the loss, as the papers on SGD do; `decoupled` shrinks kernels
    by `rate * weight_decay` per step (Loshchilov 2019)."""
    clip: Annotated[float, Field(ge=0)] = 0.0
    """Limit of the global gradient norm; 0 disables it."""


class LearningRate(FrozenModel):
    """The learning rate over the run."""

    kind: Literal["constant", "steps", "cosine"] = "cosine"
    peak: Positive = 0.1
    at: Annotated[tuple[Share, ...], Strict(False)] = ()
    """`steps` only: fractions of the run after which the rate is multiplied by `factor`."""
    factor: Positive = 0.1
    warmup: Share = 0.0
    """Warmup as a fraction of the run: a lower constant rate for `constant` and `steps`, a ramp for `cosine`."""
    warmup_factor: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Initial rate as a fraction of the peak."""
    final: Annotated[float, Field(ge=0, le=1)] = 0.0
    """`cosine` only: final rate as a fraction of the peak."""


class Augmentation(FrozenModel):
    """Augmentation of training images."""

    shift: Annotated[int, Field(ge=0)] = 0
    """Maximum shift in pixels, filled with zeros (He 2015, 4.2: pad and crop)."""
    flip: bool = False
    """Mirrors half of the images left to right."""
    crop: Annotated[tuple[Share, ...], Strict(False)] = ()
    """Smallest and largest area of a random crop, as fractions of the image (Szegedy 2015); empty disables it."""
    rand_augment: Share = 0.0
    """Strength of Keras' RandAugment; 0 disables it."""
    erase: Share = 0.0
    """Fraction of images in which a rectangle is erased."""
    mixup: Annotated[float, Field(ge=0)] = 0.0
    """Beta parameter of the mixing weights; 0 disables it."""
    cutmix: Annotated[float, Field(ge=0)] = 0.0
    """Beta parameter of the mixed areas; 0 disables it. With `mixup`, each batch uses one of the two at random."""


class Plateau(FrozenModel):
    """A lower learning rate where validation no longer improves; for `learning_rate.kind: constant` without warmup."""

    patience: Annotated[int, Field(ge=0)] = 0
    """Epochs without a better validation result before each reduction; 0 disables it."""
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1


class KerasObject(FrozenModel):
    """A Keras optimizer or loss as data: class and configuration, as `keras.optimizers.serialize` returns them."""

    class_name: str
    config: dict[str, Any] | None
    module: str | None = None
    registered_name: str | None = None

    def __repr__(self) -> str:
        return f"KerasObject({self.class_name})"


class Recipe(FrozenModel):
    """Training settings of a network."""

    name: str
    ref: str
    batch: Count = 128
    epochs: Count = 20
    optimizer: Optimizer = Optimizer()
    learning_rate: LearningRate = LearningRate()
    loss: Literal["cross_entropy", "binary_cross_entropy", "focal", "mse", "mae", "huber"] = "cross_entropy"
    """`binary_cross_entropy` treats every class as a separate binary problem; the classifier ends in a sigmoid, as for
    examples with several labels. `focal`: Lin 2017, with a focus of 2. The last three are for regression, where `mse`
    is the default."""
    label_smoothing: Rate = 0.0
    augmentation: Augmentation = Augmentation()
    ema: Rate = 0.0
    """Momentum of an exponential moving average of the weights, which is validated and saved; 0 disables it."""
    frozen: str = "none"
    """Last part that is frozen: `stem`, `stage1`, ..., or `none`."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Learning rate of a part divided by that of the next deeper one (stem, every block, head)."""
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    patience: Annotated[int, Field(ge=0)] = 0
    """Early stopping: epochs without a better validation result after which the run ends; 0 disables it."""
    plateau: Plateau = Plateau()
    accumulate: Count = 1
    """Batches whose gradients are averaged for one step: `batch: 64, accumulate: 4` steps as batches of 256 do."""
    class_weights: ClassWeights = "none"
    """Weights of the training examples by class name; `balanced`: examples / (classes * examples of the class)."""
    metrics: Annotated[tuple[Literal["top5", "f1_macro", "auc", "balanced_accuracy"], ...], Strict(False)] = ()
    """Further metrics of classes in the history, for training and validation."""
    monitor: Monitor = "auto"
    """Validation metric that selects the best epoch and ends plateaus: `auto` takes accuracy for classes, mean average
    precision for several labels, RMSE for numbers."""
    steps_per_execution: Count = 1
    """Steps in one call of the compiled function, as in `compile()`."""
    keras_optimizer: KerasObject | None = None
    """A Keras optimizer that replaces `optimizer` and `learning_rate`."""
    keras_loss: KerasObject | None = None
    """A Keras loss that replaces `loss` and `label_smoothing`."""

    def __repr__(self) -> str:
        rate = f"{self.learning_rate.kind} {self.learning_rate.peak:g}"
        kind = self.optimizer.kind if self.keras_optimizer is None else self.keras_optimizer.class_name
        return f"Recipe({self.name!r}: {self.epochs} epochs, batch {self.batch}, {kind}, {rate})"

    def _repr_html_(self) -> str:
        """All fields, nested ones by their dotted names."""
        return html_fields(self.model_dump(), title=f"recipe {self.name}")


@cache
def _entries() -> dict[str, dict[str, Any]]:
    return read_yaml(configs() / "recipes" / "recipes.yaml")


def list_recipes() -> list[str]:
    """Returns the names of the recipes.

    Example:
        >>> import reszoo
        >>> "cifar_he2015" in reszoo.list_recipes()
        True
    """
    return [*_entries()]


def recipe(name: str | Recipe, /, **changes: object) -> Recipe:
    """Returns a recipe by name or from `file.yaml:name`, with changes.

    Example:
        >>> import reszoo
        >>> reszoo.recipe("fast", epochs=5, optimizer={"momentum": 0.95})
        Recipe('fast': 5 epochs, batch 128, sgd, cosine 0.2)

    Args:
        name: of `list_recipes()`, `file.yaml:name`, or a recipe to change.
        changes: fields and their new values; nested fields as dicts.

    Raises:
        ReszooError: an unknown recipe or an invalid change.
    """
    if isinstance(name, Recipe):
        data, where = name.model_dump(), name.name
    else:
        file, _, entry = name.rpartition(":")
        entries = {**_entries(), **(read_yaml(Path(file)) if file else {})}
        data, where = inherit(entry, entries, kind="recipe") | {"name": entry}, entry
    merge(data, changes)
    result = check(Recipe, data, where=f"recipe {where}")
    rate = result.learning_rate
    if result.plateau.patience and (rate.kind != "constant" or rate.warmup or result.keras_optimizer):
        hint = "learning_rate.kind=constant, learning_rate.warmup=0, no optimizer object"
        raise ReszooError(
            f"recipe {where}: plateau", got=f"a rate of kind {rate.kind!r}", expected="constant", hint=hint
        )
    return result


Row = dict[str, float]


class Metric(NamedTuple):
    """The metric by which epochs are compared."""

    name: str
    sign: int
    """1 where larger is better, -1 where smaller is."""

    def __repr__(self) -> str:
        return f"Metric({self.name!r}, {'larger' if self.sign > 0 else 'smaller'} is better)"


METRICS = (Metric("val_map", 1), Metric("val_rmse", -1), Metric("val_accuracy", 1), Metric("val_loss", -1))
"""Of several labels, of numbers, of classes; the first one that a history contains is used."""
SMALLER = ("loss", "rmse", "mae")
"""Metrics of which smaller values are better."""


def metric_of(row: Row, monitor: str = "auto") -> Metric:
    """Returns the metric by which the epochs of a run are compared.

    Example:
        >>> metric_of({"loss": 0.5, "val_accuracy": 0.9})
        Metric('val_accuracy', larger is better)
        >>> metric_of({"val_loss": 0.5, "val_accuracy": 0.9}, "loss")
        Metric('val_loss', smaller is better)

    Args:
        row: of a history.
        monitor: the recipe's field.
    """
    if monitor != "auto":
        return Metric(f"val_{monitor}", -1 if monitor in SMALLER else 1)
    return next(metric for metric in METRICS if metric.name in row)


def best_of(history: Sequence[Row], monitor: str = "auto") -> Row:
    """Returns the row of the best epoch, the first one of equals.

    Example:
        >>> best_of([{"epoch": 1, "val_rmse": 2.0}, {"epoch": 2, "val_rmse": 1.5}])["epoch"]
        2
    """
    name, sign = metric_of(history[0], monitor)
    return max(history, key=lambda row: sign * row[name])


def stale_epochs(history: Sequence[Row], *, start: int = 0, monitor: str = "auto") -> int:
    """Returns the number of epochs since the best one, counted from epoch `start` at the earliest."""
    if not history:
        return 0
    best = history.index(best_of(history, monitor)) + 1
    return len(history) - max(best, start)


def plateau_factor(history: Sequence[Row], plateau: Plateau, monitor: str = "auto") -> float:
    """Returns the factor of the learning rate after these epochs: smaller for every plateau they contain.

    Example:
        >>> rows = [{"val_accuracy": value} for value in (0.5, 0.6, 0.6, 0.6, 0.6)]
        >>> plateau_factor(rows, Plateau(patience=2, factor=0.1))
        0.1
    """
    factor, waited = 1.0, 0
    if not plateau.patience or not history:
        return factor
    name, sign = metric_of(history[0], monitor)
    best = sign * history[0][name]
    for row in history[1:]:
        better = sign * row[name] > best
        best, waited = max(best, sign * row[name]), 0 if better else waited + 1
        if waited == plateau.patience:
            factor, waited = factor * plateau.factor, 0
    return factor
