"""Evaluation of trained networks, and predictions for new examples; the `.keras` file alone is enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import keras
import numpy as np

from reszoo.data.image_folder import FORMATS, ImageFiles, is_image
from reszoo.data.sources import Data, DataSource, Examples, Scaling, open_data
from reszoo.data.table import is_table, read_rows
from reszoo.errors import ReszooError
from reszoo.notebook import html_table
from reszoo.training.metadata import Metadata, check_columns, read_metadata, scaling_for, warn_of
from reszoo.types import Array, KerasModel
from reszoo.weights.catalogue import Record

BINS = 15
"""Bins of the calibration error (Guo et al. 2017, 2)."""

Split = Literal["test", "validation", "train", "all"]


class ClassMetrics(NamedTuple):
    """Recall and precision of one class."""

    name: str
    examples: int
    recall: float
    """Fraction of the class' examples that were predicted as it; NaN without examples."""
    precision: float
    """Fraction of the predictions of this class that were right; NaN without predictions."""

    def __repr__(self) -> str:
        metrics = f"recall {self.recall:.4f}, precision {self.precision:.4f}"
        return f"ClassMetrics({self.name[:40]!r}: {self.examples:,} examples, {metrics})"


@dataclass(frozen=True)
class Evaluation:
    """Accuracy, calibration and the confusion matrix of a network on data."""

    accuracy: float
    calibration_error: float
    """Expected calibration error: mean of |confidence - accuracy| over fifteen bins of confidence, weighted by size."""
    classes: tuple[ClassMetrics, ...]
    confusion: Array
    """Confusion matrix: counts of true classes (rows) by predicted classes (columns)."""
    protocol: str

    def __repr__(self) -> str:
        numbers = f"accuracy {self.accuracy:.4f}, calibration error {self.calibration_error:.4f}"
        return f"Evaluation({numbers}, {len(self.classes):,} classes; {self.protocol[:60]})"

    def _repr_html_(self) -> str:
        """Recall and precision of every class."""
        rows = [(row.name, row.examples, round(row.recall, 4), round(row.precision, 4)) for row in self.classes]
        note = f"accuracy {self.accuracy:.2%}; calibration error {self.calibration_error:.4f}"
        return html_table(("class", "examples", "recall", "precision"), rows, title=self.protocol, note=note)


class Prediction(NamedTuple):
    """The predicted class of one example."""

    example: str
    """Path of the file, or index in the array."""
    label: str
    probability: float

    def __repr__(self) -> str:
        return f"Prediction({self.example[-60:]!r}: {self.label[:40]!r}, {self.probability:.4f})"


def evaluate(file: str | Path, data: Data | DataSource, /, *, part: Split | None = None, batch: int = 64) -> Evaluation:
    """Returns accuracy, calibration error, confusion matrix, and recall and precision of every class.

    `reszoo.evaluate("runs/a/model.keras", "digits").accuracy`

    Args:
        file: a `.keras` file of a run, or published weights: a name of `list_weights()`, or their file.
        data: a source as for training (`open_data`); it is split as it was for training.
        part: of the data; by default the test part, otherwise the validation part of a folder, otherwise everything.
        batch: examples per batch; it does not change the results.

    Raises:
        ReszooError: the file does not come from a run, or the data does not match what it was trained on.
    """
    model, metadata, side, record = _load(file)
    source = data if isinstance(data, Data) else _open(data, metadata, side)
    check_columns(source, metadata.columns)
    if record is not None:
        metadata = replace(metadata, scaling=scaling_for(record, source))
    examples, part_name = _select(source, part)
    labels = _training_labels(source, examples.labels, metadata)
    outputs = _outputs(model, metadata, examples, batch)
    count = len(metadata.classes)
    predictions = outputs.argmax(axis=1)
    confusion = np.zeros((count, count), "int64")
    np.add.at(confusion, (labels, predictions), 1)
    protocol = f"{part_name} of {source.name}: {len(labels):,} examples, each once, no augmentation, as in validation"
    return Evaluation(
        accuracy=float((predictions == labels).mean()),
        calibration_error=_calibration_error(outputs, predictions == labels),
        classes=_class_metrics(metadata.classes, confusion),
        confusion=confusion,
        protocol=protocol,
    )


def _open(data: DataSource, metadata: Metadata, side: int | None) -> Data:
    """A source opened with the facts of a network; what is odd about a table is a warning."""
    source = open_data(data, size=side, seed=metadata.seed, columns=metadata.columns)
    if source.columns is not None:
        warn_of(source.notes, source.name)
    return source


def _class_metrics(names: Sequence[str], confusion: Array) -> tuple[ClassMetrics, ...]:
    rows = zip(names, confusion.sum(axis=1), np.diag(confusion), confusion.sum(axis=0), strict=True)
    return tuple(
        ClassMetrics(
            name=name,
            examples=int(examples),
            recall=float(correct / examples) if examples else np.nan,
            precision=float(correct / predicted) if predicted else np.nan,
        )
        for name, examples, correct, predicted in rows
    )


def predict(file: str | Path, source: DataSource, /, *, batch: int = 64) -> list[Prediction]:
    """Returns the predicted class of every new example.

    `reszoo.predict("runs/a/model.keras", "photos")`

    Args:
        file: see `evaluate`.
        source: an image, a folder of images (searched recursively), a `.npz` with `x`, or a table; a table is read
            with the columns of training, found by name, and may lack the target.
        batch: examples per batch.

    Raises:
        ReszooError: there is no example, or it does not match what the network was trained on.
    """
    model, metadata, side, _ = _load(file)
    names, examples = _unlabelled(source, side, metadata)
    outputs = _outputs(model, metadata, examples, batch)
    best = outputs.argmax(axis=1)
    return [
        Prediction(name, metadata.classes[i], float(row[i])) for name, i, row in zip(names, best, outputs, strict=True)
    ]


class _Loaded(NamedTuple):
    """A network with the metadata that predicting needs."""

    model: KerasModel
    metadata: Metadata
    side: int | None
    """Of its input images, in pixels."""
    record: Record | None = None


def _load(file: str | Path) -> _Loaded:
    if Path(file).suffix == ".keras":
        metadata, model = read_metadata(file), keras.models.load_model(file)
        shape = model.input_shape
        return _Loaded(model, metadata, int(shape[1]) if len(shape) == 4 and shape[1] else None)
    from reszoo.weights.labels import words
    from reszoo.weights.load import from_checkpoint
    from reszoo.weights.origin import origin

    model = from_checkpoint(file, classifier_activation="softmax").model
    source = origin(model)
    record = source.record if source else None
    if record is None:
        got = "weights with unknown classes and preprocessing"
        raise ReszooError(str(file), got=got, expected="a .keras file of a run, or published weights")
    preprocessing = record.preprocessing
    scaling = Scaling(preprocessing.scale, preprocessing.mean, preprocessing.std)
    return _Loaded(
        model, Metadata(tuple(words(record.labels) or ()), scaling, record.name, seed=0), preprocessing.crop, record
    )


def _select(source: Data, part: Split | None) -> tuple[Examples, str]:
    """The examples of a part, and its name in words."""
    parts: dict[str, Examples | None] = {"test": source.test, "validation": source.validation, "train": source.train}
    if part is None and source.test is not None:
        part = "test"
    elif part is None:
        part = "validation" if source.own_validation else "all"
    if part == "all":
        return _Concatenation([source.train, source.validation]), "all"
    examples = parts.get(part)
    if examples is None:
        expected = ", ".join([*(name for name, examples in parts.items() if examples is not None), "all"])
        raise ReszooError("evaluate.part", got=repr(part), expected=expected)
    return examples, f"the {part} part"


class _Concatenation:
    """Two sets of examples as one."""

    def __init__(self, parts: Sequence[Examples]):
        self._parts = parts
        self.labels = np.concatenate([part.labels for part in parts])

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Any, boxes: Any = None) -> Array:
        first, second = self._parts
        size = len(first)
        return np.stack([first.take([i])[0] if i < size else second.take([i - size])[0] for i in indices])


def _training_labels(source: Data, labels: Array, metadata: Metadata) -> Array:
    """Class indices as in training: matched by name if the data names its classes."""
    count = len(source.classes)
    if source.classes == tuple(map(str, range(count))) and count <= len(metadata.classes):
        return labels
    unknown = [name for name in source.classes if name not in metadata.classes]
    if unknown:
        expected = ", ".join(metadata.classes[:10])
        raise ReszooError(f"evaluate: {source.name}", got=f"class {unknown[0]!r}", expected=expected)
    return np.array([metadata.classes.index(name) for name in source.classes])[labels]


def _outputs(model: KerasModel, metadata: Metadata, examples: Examples, batch: int) -> Array:
    outputs = []
    for start in range(0, len(examples), batch):
        x = metadata.scaling(examples.take(np.arange(start, min(start + batch, len(examples)))))
        if x.shape[1:] != tuple(a or b for a, b in zip(model.input_shape[1:], x.shape[1:], strict=False)):
            got, expected = f"examples of shape {x.shape[1:]}", f"{model.input_shape[1:]}"
            raise ReszooError(model.name, got=got, expected=expected)
        outputs.append(keras.ops.convert_to_numpy(model.predict_on_batch(x)))
    return np.concatenate(outputs)


def _calibration_error(outputs: Array, correct: Array) -> float:
    confidence = outputs.max(axis=1)
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    members = [bins == index for index in np.unique(bins)]
    return float(sum(abs(confidence[m].mean() - correct[m].mean()) * m.mean() for m in members))


def _unlabelled(source: Any, side: int | None, metadata: Metadata) -> tuple[Sequence[str], Examples]:
    from reszoo.data.arrays import Arrays

    if is_table(source):
        rows = read_rows(source, metadata.columns)
        warn_of(rows.notes, rows.table)
        return rows.names, Arrays(rows.x, np.zeros(len(rows.x), int))
    source = Path(source).expanduser()
    if source.suffix == ".npz" and source.is_file():
        with np.load(source, allow_pickle=False) as arrays:
            x = arrays["x"] if "x" in arrays.files else None
        if x is None:
            raise ReszooError(str(source), got="no array x", expected="x of (examples, ...)")
        x = x[..., None] if x.ndim == 3 else x
        return [str(index) for index in range(len(x))], Arrays(x, np.zeros(len(x), int))
    files = sorted(source.rglob("*")) if source.is_dir() else [source]
    paths = tuple(path for path in files if path.is_file() and is_image(path))
    if not paths:
        expected = f"an image, a folder of images ({', '.join(FORMATS)}), a .npz, a .csv"
        raise ReszooError(str(source), got="no image", expected=expected)
    return [str(path) for path in paths], ImageFiles(paths, np.zeros(len(paths), int), side or 224)
