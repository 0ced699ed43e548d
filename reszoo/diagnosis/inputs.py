"""The inputs of a diagnosis: a model from a file, and examples in the form it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np

from reszoo.data.sources import open_data
from reszoo.diagnosis.diagnose import EXAMPLES
from reszoo.errors import ReszooError
from reszoo.training.metadata import columns_of
from reszoo.types import Array, KerasModel


def opened(
    file: str | Path, data: Any, /, *, size: int | None = None, seed: int = 0
) -> tuple[KerasModel, Array, Array]:
    """Returns a model, and inputs and class indices for it: the validation part first, scaled as in training.

    Args:
        file: a `.keras` file.
        data: a source as for training (`open_data`).
        size: side of the images of a folder; by default that of the model's input.
        seed: random seed of the split and the order.

    Raises:
        ReszooError: the file holds no Keras model, or the data do not fit it.
    """
    path = Path(file).expanduser()
    try:
        model = keras.models.load_model(path, compile=False)
    except (OSError, ValueError, TypeError, KeyError) as error:
        message = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ReszooError(str(path), got=f"no Keras model ({message})", expected="a .keras file") from None
    shape = getattr(model, "input_shape", None)
    side = shape[1] if isinstance(shape, tuple) and len(shape) == 4 else None
    source = open_data(data, size=size or side, seed=seed, columns=columns_of(path))
    parts = [source.validation, source.train]
    indices = [np.arange(min(EXAMPLES, len(parts[0])))]
    indices.append(np.arange(min(EXAMPLES - len(indices[0]), len(parts[1]))))
    pairs = list(zip(parts, indices, strict=True))
    x = np.concatenate([source.scaling(part.take(rows)) for part, rows in pairs if len(rows)])
    y = np.concatenate([part.labels[rows] for part, rows in pairs])
    if isinstance(shape, tuple) and len(shape) == 2 and x.ndim > 2:
        # A dense network reads an image as one row of numbers.
        x = x.reshape(len(x), -1)
    order = np.random.default_rng(seed).permutation(len(x))
    return model, x[order], y[order]
