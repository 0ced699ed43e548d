"""The inputs of a diagnosis: a model from a file, and examples in the form it takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from reszoo.data.sources import Data, open_data
from reszoo.diagnosis.examination import EXAMPLES
from reszoo.errors import ReszooError, UnknownNameError
from reszoo.training.metadata import columns_of, read_metadata
from reszoo.training.ranges import range_of, scaling_for_range
from reszoo.types import Array, KerasModel

SCALINGS = ("model", "data", "none")
"""How the command scales inputs: as the model's file says, by the statistics of the data, or not at all."""


def opened(
    file: str | Path, data: Any, /, *, size: int | None = None, scaling: str = "model", seed: int = 0
) -> tuple[KerasModel, Array, Array, str]:
    """Returns a model, inputs and class indices for it (the validation part first), and how the inputs are scaled.

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
    source = open_data(data, size=size or side, seed=seed, columns=columns_of(path))
    scale, how = _scaling(path, source, scaling)
    parts = [source.validation, source.train]
    indices = [np.arange(min(EXAMPLES, len(parts[0])))]
    indices.append(np.arange(min(EXAMPLES - len(indices[0]), len(parts[1]))))
    pairs = list(zip(parts, indices, strict=True))
    x = np.concatenate([scale(part.take(rows)) for part, rows in pairs if len(rows)])
    y = np.concatenate([part.labels[rows] for part, rows in pairs])
    if isinstance(shape, tuple) and len(shape) == 2 and x.ndim > 2:
        # A dense network reads an image as one row of numbers.
        x = x.reshape(len(x), -1)
    order = np.random.default_rng(seed).permutation(len(x))
    return model, x[order], y[order], how


def _loaded(path: Path) -> KerasModel:
    """Returns the model of a file, compiled if it was saved so and its loss and optimizer can be loaded."""
    for compile_ in (True, False):
        try:
            return keras.models.load_model(path, compile=compile_)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            message = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise ReszooError(str(path), got=f"no Keras model ({message})", expected="a .keras file")


def _scaling(path: Path, source: Data, scaling: str) -> tuple[Callable[[Array], Array], str]:
    if scaling == "data":
        return source.scaling, "scaled by the statistics of the data"
    if scaling == "model":
        try:
            metadata = read_metadata(path)
        except ReszooError:
            pass
        else:
            how, values = "scaled as in the run that the file comes from", range_of(source)
            scaled, note = scaling_for_range(metadata.scaling, metadata.white, values, where=f"{path} on {source.name}")
            return scaled, f"{how}; {note}" if note else how
    return lambda x: np.asarray(x, "float32"), "as they are: the model scales them itself, or --scaling data does"
