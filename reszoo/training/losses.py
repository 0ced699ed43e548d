"""Losses and metrics of recipes for every task: one label an example, several labels, or numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from reszoo.data.labels import Task
from reszoo.data.sources import Data
from reszoo.training.recipes import Recipe
from reszoo.types import Array, KerasModel, Tensor


@dataclass(frozen=True)
class Targets:
    """Turns labels into what a network is trained on: one-hot rows, zeros and ones, or standardized numbers.

    Example:
        >>> Targets("classification", 3)(np.array([2, 0])).tolist()
        [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """

    task: Task
    outputs: int
    """Columns of a row, and outputs of the network."""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    """Of the numbers to be predicted, in training."""

    def __call__(self, labels: Array) -> Array:
        rows: Array
        if self.task == "classification":
            rows = np.eye(self.outputs, dtype="float32")[labels]
        elif self.task == "multilabel":
            rows = np.asarray(labels, "float32")
        else:
            rows = ((np.asarray(labels, "float64") - self.mean) / self.std).astype("float32")
        return rows

    def fold(self, model: KerasModel) -> None:
        """Makes a network that predicts standardized numbers predict the numbers themselves."""
        if self.task == "regression":
            layer, std = model.get_layer("predictions"), np.array(self.std, "float32")
            kernel, bias = layer.get_weights()
            layer.set_weights([kernel * std, bias * std + np.array(self.mean, "float32")])


def targets_of(data: Data) -> Targets:
    """Returns the targets of data; of numbers, mean and deviation are those of the training part."""
    task: Task = data.task
    if task == "classification":
        return Targets(task, len(data.classes))
    labels = np.asarray(data.train.labels, "float64")
    if task == "multilabel":
        return Targets(task, labels.shape[1])
    mean, std = labels.mean(axis=0), labels.std(axis=0)
    return Targets(task, labels.shape[1], tuple(map(float, mean)), tuple(float(each) or 1.0 for each in std))


def loss(recipe: Recipe, *, from_logits: bool = False, task: Task = "classification") -> keras.losses.Loss:
    """Returns the recipe's loss, for rows of class probabilities, of zeros and ones, or of numbers."""
    if recipe.keras_loss is not None:
        return keras.losses.deserialize(recipe.keras_loss.model_dump())
    if task == "regression":
        kinds = {"mae": keras.losses.MeanAbsoluteError, "huber": keras.losses.Huber}
        return kinds.get(recipe.loss, keras.losses.MeanSquaredError)()
    settings: dict[str, Any] = {"label_smoothing": recipe.label_smoothing, "from_logits": from_logits}
    binary = task == "multilabel" or recipe.loss == "binary_cross_entropy"
    if recipe.loss == "focal":
        # Without Keras' factor of 0.25 for every class: weights of classes are a field of their own.
        binary_focal, focal = keras.losses.BinaryFocalCrossentropy, keras.losses.CategoricalFocalCrossentropy
        return binary_focal(**settings) if binary else focal(alpha=1.0, **settings)
    return keras.losses.BinaryCrossentropy(**settings) if binary else keras.losses.CategoricalCrossentropy(**settings)


def metrics(recipe: Recipe, targets: Targets) -> list[keras.metrics.Metric]:
    """Returns the metrics of a task and those that the recipe adds; epochs are compared by the first one.

    Classes: accuracy. Several labels: mean average precision (the area under the curve of precision and recall, mean
    over the labels), macro F1 at 0.5, accuracy over all labels. Numbers: RMSE and MAE in the unit of the labels, R2.
    """
    if targets.task == "regression":
        return [_Root(_scaled(keras.ops.square, targets.std), name="rmse"), *_regression(targets)]
    several = targets.task == "multilabel"
    area = {"multi_label": True, "num_labels": targets.outputs}
    chosen: dict[str, keras.metrics.Metric] = {"accuracy": keras.metrics.CategoricalAccuracy(name="accuracy")}
    if several:
        chosen = {
            "map": keras.metrics.AUC(curve="PR", name="map", **area),
            "f1_macro": keras.metrics.F1Score("macro", 0.5, name="f1_macro"),
            "accuracy": keras.metrics.BinaryAccuracy(name="accuracy"),
        }
    further: dict[str, Callable[[], keras.metrics.Metric]] = {
        "top5": lambda: keras.metrics.TopKCategoricalAccuracy(min(5, targets.outputs), name="top5"),
        "f1_macro": lambda: keras.metrics.F1Score("macro", name="f1_macro"),
        "auc": lambda: keras.metrics.AUC(name="auc", **area),
        "balanced_accuracy": lambda: BalancedAccuracy(targets.outputs),
    }
    names = dict.fromkeys((*recipe.metrics, recipe.monitor))
    return [*chosen.values(), *(further[name]() for name in names if name in further and name not in chosen)]


def data_loss(recipe: Recipe, task: Task) -> keras.metrics.Metric:
    """Returns the metric of the loss without the L2 penalty, which Keras adds to the loss that it logs."""
    return keras.metrics.MeanMetricWrapper(loss(recipe, task=task).call, name="data_loss")


def _regression(targets: Targets) -> list[keras.metrics.Metric]:
    absolute = keras.metrics.MeanMetricWrapper(_scaled(keras.ops.absolute, targets.std), name="mae")
    return [absolute, keras.metrics.R2Score(name="r2")]


def _scaled(function: Callable[[Tensor], Tensor], std: tuple[float, ...]) -> Callable[[Tensor, Tensor], Tensor]:
    """A function of the errors of standardized numbers in the unit of the numbers, mean over the outputs."""

    def errors(y_true: Tensor, y_pred: Tensor) -> Tensor:
        scale = keras.ops.convert_to_tensor(np.array(std, "float32"))
        return keras.ops.mean(function((y_true - y_pred) * scale), axis=-1)

    return errors


class BalancedAccuracy(keras.metrics.Metric):
    """Mean of the recalls of the classes that have examples.

    Args:
        classes: number of classes.
    """

    def __init__(self, classes: int):
        super().__init__(name="balanced_accuracy")
        self._right = self.add_variable((classes,), "zeros", name="right")
        self._total = self.add_variable((classes,), "zeros", name="total")
        self._classes = classes

    def update_state(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor = None) -> None:
        """Adds the examples of a batch; those of weight zero do not count."""
        labels = keras.ops.argmax(y_true, axis=-1)
        rows = keras.ops.one_hot(labels, self._classes, dtype="float32")
        if sample_weight is not None:
            rows = rows * keras.ops.reshape(keras.ops.cast(sample_weight, "float32"), (-1, 1))
        right = keras.ops.cast(keras.ops.equal(labels, keras.ops.argmax(y_pred, axis=-1)), "float32")
        self._total.assign_add(keras.ops.sum(rows, axis=0))
        self._right.assign_add(keras.ops.sum(rows * keras.ops.reshape(right, (-1, 1)), axis=0))

    def result(self) -> Tensor:
        """Returns the mean recall so far."""
        present = keras.ops.cast(self._total > 0, "float32")
        recalls = self._right / keras.ops.maximum(self._total, 1e-12)
        return keras.ops.sum(recalls * present) / keras.ops.maximum(keras.ops.sum(present), 1.0)


class _Root(keras.metrics.MeanMetricWrapper):
    """The square root of a mean."""

    def result(self) -> Tensor:
        return keras.ops.sqrt(super().result())
