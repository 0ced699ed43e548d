"""What the doctor looks at: a model from a file, and examples in the form it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np

from reszoo.data.sources import open_data
from reszoo.diagnosis.diagnose import EXAMPLES
from reszoo.errors import ReszooError


def opened(file: str | Path, data: Any, /, *, size: int | None = None, seed: int = 0) -> tuple[Any, Any, Any]:
    """Returns a model, and inputs and class numbers for it: the validation part first, scaled as in training.

    Args:
        file: a `.keras` file.
        data: a source as for training (`open_data`).
        size: side of the images of a folder; by default the model's.
        seed: of the split.

    Raises:
        ReszooError: the file is no Keras model, or the data are not what it takes.
    """
    path = Path(file).expanduser()
    try:
        model = keras.models.load_model(path, compile=False)
    except (OSError, ValueError, TypeError, KeyError) as error:
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ReszooError(str(path), got=f"no Keras model ({told})", expected="a .keras file") from None
    shape = getattr(model, "input_shape", None)
    side = shape[1] if isinstance(shape, tuple) and len(shape) == 4 else None
    source = open_data(data, size=size or side, seed=seed)
    parts = [source.validation, source.train]
    wanted = [np.arange(min(EXAMPLES, len(parts[0])))]
    wanted.append(np.arange(min(EXAMPLES - len(wanted[0]), len(parts[1]))))
    x = np.concatenate([source.scaling(part.take(at)) for part, at in zip(parts, wanted, strict=True) if len(at)])
    y = np.concatenate([part.labels[at] for part, at in zip(parts, wanted, strict=True)])
    if isinstance(shape, tuple) and len(shape) == 2 and x.ndim > 2:
        # A dense network reads images row by row.
        x = x.reshape(len(x), -1)
    order = np.random.default_rng(seed).permutation(len(x))
    return model, x[order], y[order]
