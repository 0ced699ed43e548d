"""The inputs of a diagnosis: a model from a file, and examples in the form it takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from reszoo.data.dataset import range_of
from reszoo.data.ranges import scaling_for_range
from reszoo.data.sources import Data, open_data
from reszoo.diagnosis.examination import EXAMPLES
from reszoo.diagnosis.examples import rows_of_classes
from reszoo.errors import ReszooError, UnknownNameError
from reszoo.training.evaluation_data import training_labels
from reszoo.training.metadata import Metadata, columns_of, read_metadata
from reszoo.types import Array, KerasModel

SCALINGS = ("model", "data", "none")
"""How the command scales inputs: as the model's file says, by the statistics of the data, or not at all."""


LOSSES = {"multilabel": "binary_crossentropy", "regression": "mean_squared_error"}
"""Task -> the loss of a model that is not compiled; classes have cross-entropy."""


class Opened(NamedTuple):
    """A model and examples in the form it takes."""

    model: KerasModel
    x: Array
    y: Array
    """Class indices of the model, or rows of 0 and 1, or of numbers."""
    scaling: str
    """How the inputs are scaled."""
    loss: str | None
    """Of a model that is not compiled, for other tasks than classification."""
    weights: Array | None
    """Of the examples, where the data have them."""

    def __repr__(self) -> str:
        return f"Opened({self.model.name}, {len(self.x):,} examples, {self.scaling[:60]})"


def opened(file: str | Path, data: Any, /, *, size: int | None = None, scaling: str = "model", seed: int = 0) -> Opened:
    """Returns a model and examples for it, the validation part first.

    Args:
        file: a `.keras` file.
        data: a source as for training (`open_data`).
        size: side of the images of a folder; by default that of the model's input.
        scaling: `model`: as the file of a run says, values as they are for any other file; `data`: as `reszoo train`
            would scale these data; `none`: values as they are.
        seed: random seed of the split and the order.

    Raises:
        ReszooError: the file holds no Keras model, or the data do not fit it.
    """
    if scaling not in SCALINGS:
        raise UnknownNameError("scaling", got=scaling, known=SCALINGS)
    path = Path(file).expanduser()
    model = _loaded(path)
    shape = getattr(model, "input_shape", None)
    side = shape[1] if isinstance(shape, tuple) and len(shape) == 4 else None
    try:
        metadata: Metadata | None = read_metadata(path)
    except ReszooError:
        metadata = None
    task: Any = None if metadata is None or metadata.task == "classification" else metadata.task
    source = open_data(data, size=size or side, seed=seed, columns=columns_of(path), task=task)
    if metadata is not None and metadata.task != source.task:
        expected = f"data for {metadata.task}, as in training"
        raise ReszooError(f"{path} on {source.name}", got=f"data for {source.task}", expected=expected)
    scale, how = _scaling(path, source, metadata, scaling)
    parts = [source.validation, source.train]
    indices = [np.arange(min(EXAMPLES, len(parts[0])))]
    indices.append(np.arange(min(EXAMPLES - len(indices[0]), len(parts[1]))))
    pairs = list(zip(parts, indices, strict=True))
    x = np.concatenate([scale(part.take(rows)) for part, rows in pairs if len(rows)])
    y = np.concatenate([part.labels[rows] for part, rows in pairs])
    if metadata is not None:
        y = training_labels(source, y, metadata)
    each = [getattr(part, "weights", None) for part, _ in pairs]
    weights = None
    if any(one is not None for one in each):
        filled = zip(each, pairs, strict=True)
        weights = np.concatenate([np.ones(len(rows)) if one is None else one[rows] for one, (_, rows) in filled])
    if isinstance(shape, tuple) and len(shape) == 2 and x.ndim > 2:
        # A dense network reads an image as one row of numbers.
        x = x.reshape(len(x), -1)
    order = np.random.default_rng(seed).permutation(len(x))
    compiled = getattr(model, "optimizer", None) is not None
    if compiled and len(model.outputs) == 1:
        y = rows_of_classes(y, tuple(model.outputs[0].shape[1:]), model.loss)
    loss = None if compiled else LOSSES.get(source.task)
    return Opened(model, x[order], y[order], how, loss, None if weights is None else weights[order])


def _loaded(path: Path) -> KerasModel:
    """Returns the model of a file, compiled if it was saved so and its loss and optimizer can be loaded."""
    for compile_ in (True, False):
        try:
            return keras.models.load_model(path, compile=compile_)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            message = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise ReszooError(str(path), got=f"no Keras model ({message})", expected="a .keras file")


def _scaling(path: Path, source: Data, metadata: Metadata | None, scaling: str) -> tuple[Callable[[Array], Array], str]:
    if scaling == "data":
        return source.scaling, "scaled by the statistics of the data"
    if scaling == "model" and metadata is not None:
        how, values = "scaled as in the run that the file comes from", range_of(source)
        scaled, note = scaling_for_range(metadata.scaling, metadata.white, values, where=f"{path} on {source.name}")
        return scaled, f"{how}; {note}" if note else how
    return lambda x: np.asarray(x, "float32"), "as they are: the model scales them itself, or --scaling data does"
