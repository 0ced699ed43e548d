"""What a trained `.keras` file is worth on data, and what it says of new examples. The file alone is enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import keras
import numpy as np

from reszoo.data.image_folder import FORMATS, Pictures, is_picture
from reszoo.data.sources import Data, Examples, Scaling, open_data
from reszoo.errors import ReszooError
from reszoo.training.metadata import Facts, read_facts, scaling_for
from reszoo.weights.catalogue import Record

BINS = 15
"""Of the calibration error (Guo et al. 2017, 2)."""

Split = Literal["test", "validation", "train", "all"]


class OfClass(NamedTuple):
    """How one class fared."""

    name: str
    examples: int
    recall: float
    """Share of its examples that were recognised."""
    precision: float
    """Share of the examples taken for it that were it; NaN where none was."""


@dataclass(frozen=True)
class Evaluation:
    """What was measured, and how."""

    accuracy: float
    calibration_error: float
    """Mean distance between confidence and accuracy over fifteen bins of confidence, weighted by their size."""
    classes: tuple[OfClass, ...]
    confusion: Any
    """Examples of every class (rows) taken for every class (columns)."""
    protocol: str


class Prediction(NamedTuple):
    """What a network takes one example for."""

    example: str
    """Path of the file, or number in the array."""
    label: str
    probability: float


def evaluate(file: str | Path, data: Any, /, *, part: Split | None = None, batch: int = 64) -> Evaluation:
    """Returns how a trained network does on data.

    Args:
        file: a `.keras` file of a run, or published weights: a name of `list_weights()`, or their file.
        data: a source as for training (`open_data`); it is split as it was for training.
        part: which of it; by default its test part, or else the validation part that a folder has, or else all.
        batch: examples at a time; the numbers do not depend on it.

    Raises:
        ReszooError: the file is none of a run, or the data are not what it was trained for.
    """
    model, facts, side, record = _opened(file)
    source = data if isinstance(data, Data) else open_data(data, size=side, seed=facts.seed)
    if record is not None:
        facts = replace(facts, scaling=scaling_for(record, source))
    examples, which = _part(source, part)
    labels = _as_trained(source, examples.labels, facts)
    outputs = _outputs(model, facts, examples, batch)
    count = len(facts.classes)
    taken = outputs.argmax(axis=1)
    confusion = np.zeros((count, count), "int64")
    np.add.at(confusion, (labels, taken), 1)
    right, per_class = np.diag(confusion), confusion.sum(axis=1)
    rows = zip(facts.classes, per_class, right, confusion.sum(axis=0), strict=True)
    classes = tuple(
        OfClass(name, int(n), float(r / n) if n else np.nan, float(r / t) if t else np.nan) for name, n, r, t in rows
    )
    protocol = f"{which} of {source.name}: {len(labels):,} examples, each once, no augmentation, as in validation"
    return Evaluation(
        float((taken == labels).mean()), _calibration(outputs, taken == labels), classes, confusion, protocol
    )


def predict(file: str | Path, source: str | Path, /, *, batch: int = 64) -> list[Prediction]:
    """Returns what a trained network takes new examples for.

    Args:
        file: see `evaluate`.
        source: an image, a folder of images (searched through), or a `.npz` with `x`.
        batch: examples at a time.

    Raises:
        ReszooError: there is nothing to predict, or it is not what the network was trained for.
    """
    model, facts, side, _ = _opened(file)
    names, examples = _unlabelled(Path(source).expanduser(), side)
    outputs = _outputs(model, facts, examples, batch)
    best = outputs.argmax(axis=1)
    return [
        Prediction(name, facts.classes[i], float(row[i])) for name, i, row in zip(names, best, outputs, strict=True)
    ]


class _Opened(NamedTuple):
    """A network that can be asked."""

    model: Any
    facts: Facts
    side: int | None
    """Of the images it is shown, in pixels."""
    record: Record | None = None


def _opened(file: str | Path) -> _Opened:
    if Path(file).suffix == ".keras":
        facts, model = read_facts(file), keras.models.load_model(file)
        shape = model.input_shape
        return _Opened(model, facts, int(shape[1]) if len(shape) == 4 and shape[1] else None)
    from reszoo.weights.labels import words
    from reszoo.weights.load import from_checkpoint
    from reszoo.weights.origin import origin

    model = from_checkpoint(file, classifier_activation="softmax").model
    known = origin(model)
    record = known.record if known else None
    if record is None:
        got = "weights of whose classes and images nothing is known"
        raise ReszooError(str(file), got=got, expected="a .keras file of a run, or published weights")
    told = record.preprocessing
    facts = Facts(tuple(words(record.labels) or ()), Scaling(told.scale, told.mean, told.std), record.name, seed=0)
    return _Opened(model, facts, told.crop, record)


def _part(source: Data, part: Split | None) -> tuple[Examples, str]:
    parts: dict[str, Examples | None] = {"test": source.test, "validation": source.validation, "train": source.train}
    if part is None:
        part = "test" if source.test is not None else "validation" if source.own_validation else "all"
    if part == "all":
        return _Together([source.train, source.validation]), "all"
    if part not in parts or parts[part] is None:
        expected = ", ".join([*(name for name, examples in parts.items() if examples is not None), "all"])
        raise ReszooError("evaluate.part", got=repr(part), expected=expected)
    return parts[part], f"the {part} part"  # type: ignore[return-value]


class _Together:
    """Several examples as one."""

    def __init__(self, parts: Sequence[Examples]):
        self._parts = parts
        self.labels = np.concatenate([part.labels for part in parts])

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, numbers: Any, shown: Any = None) -> Any:
        first = len(self._parts[0])
        return np.stack(
            [self._parts[0].take([i])[0] if i < first else self._parts[1].take([i - first])[0] for i in numbers]
        )


def _as_trained(source: Data, labels: Any, facts: Facts) -> Any:
    """Class numbers as the network has them: by name, where the data names its classes."""
    if source.classes == tuple(map(str, range(len(source.classes)))) and len(source.classes) <= len(facts.classes):
        return labels
    strange = [name for name in source.classes if name not in facts.classes]
    if strange:
        expected = ", ".join(facts.classes[:10])
        raise ReszooError(f"evaluate: {source.name}", got=f"class {strange[0]!r}", expected=expected)
    return np.array([facts.classes.index(name) for name in source.classes])[labels]


def _outputs(model: Any, facts: Facts, examples: Examples, batch: int) -> Any:
    found = []
    for start in range(0, len(examples), batch):
        x = facts.scaling(examples.take(np.arange(start, min(start + batch, len(examples)))))
        if x.shape[1:] != tuple(a or b for a, b in zip(model.input_shape[1:], x.shape[1:], strict=False)):
            got, expected = f"examples of shape {x.shape[1:]}", f"{model.input_shape[1:]}"
            raise ReszooError(model.name, got=got, expected=expected)
        found.append(keras.ops.convert_to_numpy(model.predict_on_batch(x)))
    return np.concatenate(found)


def _calibration(outputs: Any, right: Any) -> float:
    confidence = outputs.max(axis=1)
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = [abs(confidence[bins == i].mean() - right[bins == i].mean()) * (bins == i).mean() for i in np.unique(bins)]
    return float(sum(gaps))


def _unlabelled(source: Path, side: int | None) -> tuple[list[str], Examples]:
    if source.suffix == ".npz" and source.is_file():
        with np.load(source, allow_pickle=False) as arrays:
            x = arrays["x"] if "x" in arrays.files else None
        if x is None:
            raise ReszooError(str(source), got="no array x", expected="x of (examples, ...)")
        x = x[..., None] if x.ndim == 3 else x
        from reszoo.data.arrays import Arrays

        return [str(number) for number in range(len(x))], Arrays(x, np.zeros(len(x), int))
    files = sorted(source.rglob("*")) if source.is_dir() else [source]
    paths = tuple(path for path in files if path.is_file() and is_picture(path))
    if not paths:
        raise ReszooError(
            str(source), got="no image", expected=f"an image, a folder of images ({', '.join(FORMATS)}), a .npz"
        )
    return [str(path) for path in paths], Pictures(paths, np.zeros(len(paths), int), side or 224)
