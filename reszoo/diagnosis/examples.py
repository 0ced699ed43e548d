"""The examples of a diagnosis, arrays or batches as `fit` takes them: the forms of inputs, true values and weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import tree

from reszoo.diagnosis.objective import CATEGORICAL, loss_name
from reszoo.errors import ReszooError
from reszoo.types import Array, KerasModel, Tensor

MOST_EXAMPLES = 2048
"""Examples that are taken from batches, which may go on for ever."""


class Examples(NamedTuple):
    """Inputs, true values and weights, as `fit` takes them."""

    x: Tensor
    y: Tensor
    sample_weight: Tensor
    batch_size: int | None = None
    """Of the batches that they come from; None for arrays."""
    whole: bool = True
    """Whether there are no more examples."""


def gather_examples(x: Tensor, y: Tensor, sample_weight: Tensor = None) -> Examples:
    """Returns examples as they are, or those of the first batches: of a Dataset, PyDataset, DataLoader or generator.

    Example:
        >>> import numpy as np
        >>> batches = ((np.full((2, 1), number), np.zeros(2)) for number in range(3))
        >>> gather_examples(batches, None).x.ravel()
        array([0, 0, 1, 1, 2, 2])

    Args:
        x: inputs, or an iterable of batches (inputs, true values[, weights]) if `y` is None.
        y: true values.
        sample_weight: weights of the examples.

    Raises:
        ReszooError: no true values.
    """
    if y is not None:
        return Examples(x, y, sample_weight)
    expected = "inputs and true values, or batches of both as `fit` takes them"
    arrays = hasattr(x, "shape") or isinstance(x, (list, tuple, Mapping))
    if arrays or not (hasattr(x, "__iter__") or isinstance(x, keras.utils.PyDataset)):
        raise ReszooError("diagnose.y", got=None, expected=expected)
    parts: list[Any] = []
    count, whole = 0, True
    for batch in _batches(x):
        if count >= MOST_EXAMPLES:
            whole = False
            break
        if not isinstance(batch, (list, tuple)) or len(batch) not in (2, 3):
            raise ReszooError("diagnose", got=f"batches of type {type(batch).__name__}", expected=expected)
        parts.append(tree.map_structure(_array, tuple(batch)))
        count += len(tree.flatten(parts[-1])[0])
    if not parts:
        raise ReszooError("diagnose", got="no batch", expected=expected)
    joined = tree.map_structure(lambda *arrays: np.concatenate(arrays), *parts)
    weights = joined[2] if len(joined) > 2 else sample_weight
    return Examples(joined[0], joined[1], weights, len(tree.flatten(parts[0])[0]), whole)


def _batches(x: Any) -> Iterable[Any]:
    if not isinstance(x, keras.utils.PyDataset):
        return x
    return (x[number] for number in range(x.num_batches or MOST_EXAMPLES))


def _array(part: Any) -> Array:
    return np.asarray(part.detach().cpu() if hasattr(part, "detach") else part)


def inputs_of(model: KerasModel, x: Tensor) -> Tensor:
    """Returns inputs as arrays in the structure and of the ranks of the model's, as Keras itself changes them.

    A dict is read by the names of the inputs, and what the model does not read is left out; a last axis of 1 is added
    or removed. Where they do not fit, they are left as they are.
    """
    structure = (getattr(model, "_functional", None) or model).input
    if isinstance(x, Mapping):
        names = {tensor.name.split(":")[0]: tensor for tensor in model.inputs}
        keys = [*structure] if isinstance(structure, Mapping) else [*names]
        if all(key in x for key in keys):
            x = {key: x[key] for key in keys} if isinstance(structure, Mapping) else [x[key] for key in keys]
    if isinstance(x, (list, tuple)) and len(model.inputs) == 1:
        x = x[0] if len(x) == 1 and np.ndim(x[0]) == len(model.inputs[0].shape) else np.asarray(x)
    flat = [_array(part) for part in tree.flatten(x)]
    if len(flat) != len(model.inputs):
        return x
    ranked = [*_ranked(model, flat)]
    return ranked[0] if len(ranked) == 1 and not isinstance(x, (Mapping, list)) else tree.pack_sequence_as(x, ranked)


def _ranked(model: KerasModel, flat: list[Array]) -> Iterator[Array]:
    for part, tensor in zip(flat, model.inputs, strict=True):
        rank = len(tensor.shape)
        if part.ndim == rank - 1 and tensor.shape[-1] == 1:
            yield part[..., None]
        elif part.ndim == rank + 1 and part.shape[-1] == 1:
            yield part[..., 0]
        else:
            yield part


def check_counts(x: Tensor, targets: list[Array]) -> None:
    """Raises an error if there are not as many inputs as true values, two at least."""
    counts = [len(part) if np.ndim(part) else 0 for part in (*tree.flatten(x), *targets)]
    if len({*counts}) > 1 or counts[0] < 2:
        got = f"{', '.join(map(str, counts[: -len(targets)]))} inputs and {counts[-1]} true values"
        raise ReszooError("diagnose", got=got, expected="the same number of both, at least two")


def rows_of_classes(y: Array, shape: tuple[int | None, ...], loss: Any) -> Array:
    """Returns class indices as one-hot rows, if the loss takes those; `fit` itself would refuse the indices."""
    units = int(shape[-1] or 1) if len(shape) == 1 else 1
    if loss_name(loss) not in CATEGORICAL or units < 2 or y.size != len(y) or y.dtype.kind not in "iuf":
        return y
    flat = y.reshape(-1)
    if not np.isfinite(flat).all() or (flat != np.round(flat)).any() or flat.min() < 0 or flat.max() >= units:
        return y
    return np.eye(units, dtype="float32")[flat.astype(int)]


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
