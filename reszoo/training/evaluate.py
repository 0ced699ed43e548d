"""Evaluation of trained networks on data; the `.keras` file alone is enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reszoo.data.dataset import range_of
from reszoo.data.ranges import scaling_for_range
from reszoo.data.sources import Data, DataSource, open_data
from reszoo.data.table_files import is_table
from reszoo.errors import ReszooError
from reszoo.notebook import html_table
from reszoo.report.evaluation import evaluation_page
from reszoo.report.page import Page
from reszoo.report.write import Presentable, versions
from reszoo.training.evaluation_data import (
    Selection,
    Split,
    WrongExample,
    check_data,
    most_wrong,
    select,
    training_labels,
)
from reszoo.training.metadata import Metadata, check_columns, warn_of
from reszoo.training.metrics import (
    Bin,
    ClassMetrics,
    calibration_error,
    class_metrics,
    classification,
    macro,
    multilabel,
    regression,
    reliability,
)
from reszoo.training.network import Network, check_size, open_network, outputs_of, probabilities
from reszoo.training.remarks import no_better
from reszoo.types import Array, KerasModel

THRESHOLD = 0.5
"""Probability from which one of several classes is predicted."""


@dataclass(frozen=True)
class Evaluation(Presentable):
    """Measures of a network on data, by its task: classification, several classes at once, or regression."""

    task: str
    metrics: dict[str, float]
    """Name -> value, a control beside each: `accuracy` and `largest_class_share`, `mae` and `mae_of_the_median`."""
    classes: tuple[ClassMetrics, ...]
    """One row for every class; none for a regression."""
    confusion: Array | None
    """Confusion matrix of a classification: counts of true classes (rows) by predicted classes (columns)."""
    protocol: str
    """Which examples, how many, and whether the network has seen them in training."""
    reliability: tuple[Bin, ...] = ()
    """Confidence and accuracy of a classification, by confidence."""
    wrong: tuple[WrongExample, ...] = field(default=(), repr=False)
    """The most wrong examples, the worst first."""
    notes: tuple[str, ...] = ()
    """What was converted, and what a number cannot say."""

    @property
    def accuracy(self) -> float:
        """Fraction of the examples whose class was predicted."""
        return self._metric("accuracy")

    @property
    def calibration_error(self) -> float:
        """Expected calibration error: mean of |confidence - accuracy| over fifteen bins of confidence, by size."""
        return self._metric("calibration_error")

    def _metric(self, name: str) -> float:
        if name not in self.metrics:
            raise ReszooError(f"Evaluation.{name}", got=f"a {self.task}", expected=", ".join(self.metrics))
        return self.metrics[name]

    def page(self) -> Page:
        """Returns the evaluation as a page: measures, classes, confusion matrix, calibration, most wrong examples."""
        return evaluation_page(self, title=f"Evaluation of a {self.task}", foot=versions())

    def __repr__(self) -> str:
        numbers = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in [*self.metrics.items()][:3])
        return f"Evaluation({numbers}, {len(self.classes):,} classes; {self.protocol[:60]})"

    def _repr_html_(self) -> str:
        """The measures of every class, or of a regression."""
        note = "; ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in self.metrics.items())
        rows = [
            (row.name, row.examples, *(dash(value) for value in (row.recall, row.precision, row.f1)))
            for row in self.classes
        ]
        return html_table(("class", "examples", "recall", "precision", "F1"), rows, title=self.protocol, note=note)


def dash(value: float, form: str = ".4f") -> str:
    """Returns a number as text, with a dash for one that is undefined."""
    return format(value, form) if value == value else "\N{EN DASH}"


def evaluate(
    network: str | Path | KerasModel,
    data: Data | DataSource,
    /,
    *,
    part: Split | None = None,
    size: int | None = None,
    flip: bool = False,
    batch: int = 64,
) -> Evaluation:
    """Returns the measures of a network on data, by its task, with the most wrong examples.

    Classes are matched by name, and pixels of another range than in training are converted.

    `reszoo.evaluate("runs/a/model.keras", "digits").accuracy`

    Args:
        network: a `.keras` file of a run or of `reszoo.save`, a Keras model, or published weights: a name of
            `list_weights()`, or their file.
        data: a source as for training (`open_data`); it is split as it was for training.
        part: of the data; by default the test part, otherwise the validation part of a folder or of the training data,
            otherwise everything.
        size: side of the images in pixels, for a network of any size.
        flip: whether to average the outputs for images and for their mirror images.
        batch: examples per batch; it does not change the results.

    Raises:
        ReszooError: the network's classes and inputs are unknown, or the data does not match them.
    """
    check_data(data)
    opened = open_network(network)
    side = check_size(opened, size)
    source = data if isinstance(data, Data) else _open(data, opened, side)
    _check_task(opened, source)
    notes = [check_columns(source, opened.metadata.columns), *(() if isinstance(data, Data) else source.notes)]
    selection = select(source, part, opened.metadata)
    metadata = opened.metadata
    labels = training_labels(source, selection.examples.labels, metadata)
    scaling = metadata.scaling
    if opened.takes_images:
        where = f"{opened.name} on {source.name}"
        scaling, note = scaling_for_range(scaling, metadata.white, range_of(source), where=where)
        notes.append(note)
    notes = [note for note in notes if note]
    warn_of(notes, source.name)
    model, outputs = opened.load(), []
    for start in range(0, len(labels), batch):
        x = selection.examples.take(range(start, min(start + batch, len(labels))))
        outputs.append(outputs_of(model, opened, x, scaling, flip=flip, rows=min(batch, len(labels))))
    import numpy as np

    scores = probabilities(np.concatenate(outputs), metadata, name=opened.name)
    return _measured(metadata, labels, scores, selection, notes)


def _open(data: DataSource, network: Network, side: int | None) -> Data:
    """A source opened as in training: the same split, task, size and channels."""
    metadata, images = network.metadata, network.takes_images and not is_table(data)
    channels = {1: "gray", 3: "rgb"}.get(network.shape[-1] or 0) if images else None
    task = None if metadata.task == "classification" else metadata.task
    settings: dict[str, Any] = {"task": task, "channels": channels, "columns": metadata.columns}
    return open_data(data, size=side if images else None, seed=metadata.seed, **settings)


def _check_task(network: Network, source: Data) -> None:
    if source.task != network.metadata.task:
        got, expected = f"data for {source.task}", f"data for {network.metadata.task}, as in training"
        raise ReszooError(f"{network.name} on {source.name}", got=got, expected=expected)
    if len(source.shape) != len(network.shape):
        kinds = ["rows of numbers", "images"]
        got, expected = kinds if network.takes_images else kinds[::-1]
        raise ReszooError(f"{network.name} on {source.name}", got=got, expected=f"{expected}, as in training")


def _measured(metadata: Metadata, labels: Array, scores: Array, selection: Selection, notes: list[str]) -> Evaluation:
    """The measures of a task."""
    names, task, confusion = metadata.classes, metadata.task, None
    rows: tuple[ClassMetrics, ...] = ()
    bins: tuple[Bin, ...] = ()
    if task == "regression":
        if labels.shape[1:] != scores.shape[1:]:
            got = f"{scores.shape[1]} outputs for {labels.shape[1]} numbers"
            raise ReszooError("evaluate", got=got, expected="one output for every number")
        metrics = regression(labels, scores)
    elif task == "multilabel":
        predicted = (scores >= THRESHOLD).astype("uint8")
        rows = class_metrics(names, labels, predicted, scores)
        metrics = multilabel(rows, labels, predicted)
    else:
        metrics, confusion = classification(names, labels, scores)
        rows = _single_rows(names, labels, scores)
        bins = reliability(scores, scores.argmax(axis=1) == labels)
        metrics["f1_macro"], metrics["auc"] = macro([r.f1 for r in rows]), macro([r.auc for r in rows])
        metrics["calibration_error"] = calibration_error(bins)
        notes = [*notes, *_notes(metrics, rows, len(labels))]
    metrics |= _weighted(task, labels, scores, getattr(selection.examples, "weights", None))
    wrong = most_wrong(selection, labels, scores, names, task)
    return Evaluation(task, metrics, rows, confusion, selection.protocol, bins, wrong, tuple(notes))


def _weighted(task: str, labels: Array, scores: Array, weights: Array | None) -> dict[str, float]:
    """The same measures with the weights of the examples, where the data have them."""
    import numpy as np

    if weights is None or not weights.any() or task == "multilabel":
        return {}
    if task == "regression":
        return {"weighted_mae": float(np.average(np.abs(labels - scores).mean(axis=1), weights=weights))}
    return {"weighted_accuracy": float(np.average(scores.argmax(axis=1) == labels, weights=weights))}


def _single_rows(names: Sequence[str], labels: Array, scores: Array) -> tuple[ClassMetrics, ...]:
    import numpy as np

    eye = np.eye(len(names), dtype="uint8")
    return class_metrics(names, eye[labels], eye[scores.argmax(axis=1)], scores)


def _notes(metrics: dict[str, float], rows: Sequence[ClassMetrics], count: int) -> list[str]:
    """What the numbers of a classification do not say by themselves."""
    never = [row.name for row in rows if row.examples and row.precision != row.precision]
    notes = [f"no example was predicted as {', '.join(never)}"] if never else []
    return notes + no_better(metrics["accuracy"], metrics["largest_class_share"], count)
