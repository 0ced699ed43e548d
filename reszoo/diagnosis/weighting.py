"""The weights of examples, as `fit` takes them: one for each example, or one for each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reszoo.errors import ReszooError
from reszoo.types import Array, Tensor


def example_weights(
    targets: Sequence[Array],
    names: Sequence[str],
    *,
    class_weight: Mapping[int, float] | None,
    sample_weight: Tensor | None,
) -> list[Array | None]:
    """Returns the weights of the examples for every output; None where all count the same.

    Args:
        targets: the true values of every output.
        names: of the outputs.
        class_weight: weight of every class, for a model of one output; a class that is not in it counts 1.
        sample_weight: as for `fit`: an array, or one for each output in a list or a dict.

    Raises:
        ReszooError: both, or weights that do not match the examples.
    """
    where = "diagnose"
    if class_weight is not None and sample_weight is not None:
        raise ReszooError(where, got="class_weight and sample_weight", expected="one of them, as for fit")
    if class_weight is not None:
        if len(targets) > 1:
            hint = "sample_weight= takes one array for each output"
            raise ReszooError(f"{where}.class_weight", got=f"{len(targets)} outputs", expected="one", hint=hint)
        return [_of_classes(f"{where}.class_weight", targets[0], class_weight)]
    if sample_weight is None:
        return [None] * len(targets)
    parts: list[Any]
    if isinstance(sample_weight, Mapping):
        parts = [sample_weight.get(name) for name in names]
    elif len(targets) > 1 and isinstance(sample_weight, (list, tuple)):
        parts = list(sample_weight)
    else:
        parts = [sample_weight] * len(targets)
    if len(parts) != len(targets):
        raise ReszooError(f"{where}.sample_weight", got=f"{len(parts)} arrays", expected=f"one for each of {names}")
    pairs = zip(targets, parts, strict=True)
    return [None if part is None else _checked(f"{where}.sample_weight", y, part) for y, part in pairs]


def class_numbers(y: Array) -> Array | None:
    """Returns the class of every example as Keras reads it for `class_weight`; None for true values of other forms."""
    if y.dtype.kind not in "iufb" or not len(y) or y.ndim > 2:
        return None
    flat = y.argmax(axis=-1) if y.ndim == 2 and y.shape[1] > 1 else y.reshape(len(y))
    finite = bool(np.isfinite(flat).all())
    return np.round(flat).astype("int64") if finite and (flat == np.round(flat)).all() else None


def _of_classes(where: str, y: Array, class_weight: Mapping[int, float]) -> Array:
    numbers = class_numbers(y)
    if numbers is None:
        raise ReszooError(where, got="true values that are no classes", expected="class indices or one-hot rows")
    strange = [key for key in class_weight if not isinstance(key, (int, float, np.number)) or key != int(key)]
    if strange:
        hint = "fit() looks weights up by class index, and gives 1 to every other class"
        raise ReszooError(where, got=f"a weight for {strange[0]!r}", expected="class indices: 0, 1, ...", hint=hint)
    weights = {int(key): float(value) for key, value in class_weight.items()}
    return _checked(where, y, [weights.get(int(number), 1.0) for number in numbers])


def _checked(where: str, y: Array, values: Any) -> Array:
    weights = np.asarray(values)
    if weights.dtype.kind not in "iufb" or weights.ndim < 1 or len(weights) != len(y):
        got = f"weights of shape {weights.shape}, {weights.dtype}"
        raise ReszooError(where, got=got, expected=f"one number for each of {len(y)} examples")
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise ReszooError(where, got="weights below 0, NaN or infinite", expected="finite numbers, 0 or more")
    weights = weights.astype("float32")
    return weights[:, 0] if weights.ndim == 2 and weights.shape[1] == 1 and y.ndim < 3 else weights
