"""A search space as a keras-tuner hypermodel that never builds a network over budget."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import keras
import keras_tuner
import numpy as np

from reszoo.config import check
from reszoo.data.arrays import as_array
from reszoo.data.labels import read_labels
from reszoo.data.streams import read_stream
from reszoo.errors import ReszooError
from reszoo.models import create
from reszoo.training.optimizers import compile_for
from reszoo.training.recipes import Recipe, recipe as get_recipe
from reszoo.tuning.budget import Budget, Feasible, limits_of
from reszoo.tuning.space import Space, space as get_space
from reszoo.types import Array

WHERE = "HyperResNet: labels"


class HyperResNet(keras_tuner.HyperModel):
    """A `keras_tuner.HyperModel` of a search space: `RandomSearch(HyperResNet("digits_small", "fast"), ...)`.

    A point over budget is replaced before anything is built, and the trial's hyperparameters are updated to the point
    that is used: no trial is wasted, and Hyperband keeps its full schedule. Labels are class numbers of
    shape (n,) or (n, 1), words, booleans, one-hot or soft rows, in arrays; numbers or rows in a `tf.data.Dataset` or a
    PyDataset. The loss of the recipe decides about the last layer, as in `reszoo.train`.

    Example:
        >>> import reszoo
        >>> hypermodel = reszoo.HyperResNet("digits_small", budget={"params": 1e5})
        >>> 0 < hypermodel.fraction < 1
        True

    Args:
        space: a space or its name; `space.fitted(input_shape=..., classes=...)` adapts it to the data.
        recipe: a recipe or its name.
        budget: the most a network may cost (`Budget`): `{"macs": 2e6}`.
        steps: optimizer steps of the whole training, for learning-rate schedules; by default the rate is constant at
            its peak.

    Raises:
        ReszooError: no network of the space is within budget; the message names the least cost.
    """

    def __init__(
        self,
        space: str | Space,
        recipe: str | Recipe = "fast",
        *,
        budget: Budget | Mapping[str, float] | None = None,
        steps: int | None = None,
    ):
        super().__init__(name="reszoo", tunable=True)
        self.space = get_space(space)
        self.recipe = get_recipe(recipe)
        self.steps = steps
        self.feasible = Feasible(self.space, check(Budget, limits_of(budget), where="budget"))
        self.feasible.check_any()

    @cached_property
    def fraction(self) -> float:
        """Share of random points whose networks are within the counted limits."""
        return self.feasible.fraction()

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """Returns the compiled network of a point."""
        proposal = self.space.ask(hp)
        point = self.feasible.redraw(proposal)
        if point != proposal:
            for name in proposal:
                hp.values.pop(name, None)
            hp.values.update(point)
        candidate = self.space.candidate(point, self.recipe)
        assert candidate is not None
        recipe = candidate.recipe
        if self.steps is None:
            recipe = get_recipe(recipe, learning_rate={"kind": "constant", "warmup": 0.0})
        model = create(candidate.spec, weights=candidate.weights)
        compile_for(model, recipe, steps=self.steps or 1, metrics=["accuracy"])
        return model

    def fit(
        self,
        hp: keras_tuner.HyperParameters,
        model: keras.Model,
        x: object,
        y: object = None,
        *arguments: object,
        **options: object,
    ) -> keras.callbacks.History:
        """Returns the history of `model.fit`, with labels of any form turned into one-hot rows."""
        classes = model.output_shape[-1]
        x, y, validation = with_rows(x, y, options.get("validation_data"), classes)
        if validation is not None:
            options["validation_data"] = validation
        return model.fit(x, y, *arguments, **options)


class RefusedError(ReszooError, keras_tuner.errors.FatalError):
    """Labels that no trial can be trained on: the tuner ends at once instead of counting failed trials."""


def with_rows(x: Any, y: Any, validation: Any, classes: int) -> tuple[Any, Any, Any]:
    """Returns inputs, labels and validation data with one-hot rows, from any form of labels.

    Args:
        x: inputs, or a source of batches.
        y: labels: class numbers `(n,)` or `(n, 1)`, words, booleans, lists, one-hot or soft rows; None for a source.
        validation: as `validation_data` of `fit()`.
        classes: outputs of the network.

    Raises:
        RefusedError: labels that are no classes of the network.
    """
    if classes == 1:
        # One number, or one probability, is no row of classes.
        return x, y, validation
    try:
        x, y = (_loaded(x) if y is None else None) or (x, y)
        validation = _loaded(validation) or validation
        pair = isinstance(validation, (tuple, list)) and len(validation) >= 2
        if y is None:
            x = _batches(x, classes)
        if not pair:
            rows = None if y is None else _rows([y], classes)[0]
            return x, rows, None if validation is None else _batches(validation, classes)
        if y is None:
            (held,) = _rows([validation[1]], classes)
            return x, None, (validation[0], held, *validation[2:])
        # Read together: a part may lack classes, and the same word has the same number in both.
        rows, held = _rows([y, validation[1]], classes)
        return x, rows, (validation[0], held, *validation[2:])
    except RefusedError:
        raise
    except ReszooError as error:
        raise RefusedError(error.where, got=error.got, expected=error.expected, hint=error.hint) from None


def _rows(parts: list[Any], classes: int) -> list[Array]:
    """One-hot rows of the labels of several parts; rows that have a column for every output stay."""
    arrays = [as_array(WHERE, part) for part in parts]
    flat = [array.reshape(len(array)) if array.ndim == 2 and array.shape[1] == 1 else array for array in arrays]
    for array in flat:
        if array.ndim != 1 and array.shape[1:] != (classes,):
            raise RefusedError(WHERE, got=f"shape {array.shape}", expected=f"(n,), (n, 1) or (n, {classes})")
    lists = [array for array in flat if array.ndim == 1]
    numbers = iter(
        np.split(_numbers(np.concatenate(lists), classes), np.cumsum([*map(len, lists)])[:-1]) if lists else ()
    )
    eye = np.eye(classes, dtype="float32")
    return [array if array.ndim == 2 else eye[next(numbers)] for array in flat]


def _numbers(labels: Array, classes: int) -> Array:
    """Class numbers of labels: numbers of outputs as they are, others by name."""
    if (
        labels.dtype.kind in "iuf"
        and (labels == np.floor(labels)).all()
        and 0 <= labels.min() <= labels.max() < classes
    ):
        return labels.astype("int64")
    named = read_labels(WHERE.partition(":")[0], labels)
    if len(named.classes) > classes:
        got = f"{len(named.classes)} classes ({', '.join(named.classes[:5])}, ...)"
        hint = f"space.fitted(classes={len(named.classes)})"
        raise RefusedError(WHERE, got=got, expected=f"at most {classes}, the outputs of the network", hint=hint)
    return named.values


def _batches(source: Any, classes: int) -> Any:
    """A source of batches whose labels are one-hot rows."""
    if hasattr(source, "element_spec"):
        return _dataset(source, classes)
    if isinstance(source, keras.utils.PyDataset):
        return _Rows(source, classes)
    return source


def _loaded(source: Any) -> tuple[Array, Array] | None:
    """The examples of a PyTorch DataLoader, read into memory; None for other sources."""
    if not any(kind.__module__.startswith("torch.utils") for kind in type(source).__mro__):
        return None
    stream = read_stream("HyperResNet", source)
    return stream.x, stream.y


def _dataset(dataset: Any, classes: int) -> Any:
    """A `tf.data.Dataset` with one-hot rows."""
    import tensorflow as tf

    spec = dataset.element_spec
    if not isinstance(spec, tuple) or len(spec) < 2 or not hasattr(spec[1], "shape"):
        return dataset
    kind, shape = spec[1].dtype, spec[1].shape
    if kind == tf.string:
        hint = "numbers: tf.keras.layers.StringLookup(num_oov_indices=0), or arrays, whose words are read"
        raise RefusedError(WHERE, got="a tf.data.Dataset of words", expected="class numbers or one-hot rows", hint=hint)
    if shape.rank is None or (shape.rank == 2 and shape[-1] == classes):
        return dataset
    if shape.rank == 0:
        raise RefusedError("HyperResNet", got="a tf.data.Dataset of single examples", expected="batches: .batch(32)")
    if shape.rank > 2 or (shape.rank == 2 and shape[-1] not in (1, None)):
        got = f"rows of {shape[-1]} in a tf.data.Dataset"
        raise RefusedError(WHERE, got=got, expected=f"class numbers, or rows of {classes}")

    def encoded(x: Any, y: Any, *others: Any) -> Any:
        numbers = tf.cast(tf.reshape(y, [-1]), tf.int64)
        tf.debugging.assert_less(numbers, tf.constant(classes, tf.int64), f"{WHERE}: expected 0 to {classes - 1}")
        tf.debugging.assert_non_negative(numbers, f"{WHERE}: expected 0 to {classes - 1}")
        return (x, tf.one_hot(numbers, classes), *others)

    return dataset.map(encoded)


class _Rows(keras.utils.PyDataset):
    """A PyDataset with one-hot rows, its batches read through another one."""

    def __init__(self, source: Any, classes: int):
        names = ("workers", "use_multiprocessing", "max_queue_size")
        super().__init__(**{name: getattr(source, name) for name in names if hasattr(source, name)})
        self._source, self._classes = source, classes

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Any:
        x, y, *others = self._source[index]
        array = as_array(WHERE, y)
        if array.ndim == 2 and array.shape[1] == self._classes > 1:
            return (x, array, *others)
        numbers = array.reshape(len(array))
        if numbers.dtype.kind not in "iufb" or numbers.min() < 0 or numbers.max() >= self._classes:
            got = f"{numbers[:3].tolist()}, ... in batch {index}"
            raise RefusedError(WHERE, got=got, expected=f"class numbers, 0 to {self._classes - 1}")
        return (x, np.eye(self._classes, dtype="float32")[numbers.astype("int64")], *others)

    def on_epoch_end(self) -> None:
        """Ends an epoch of the source."""
        self._source.on_epoch_end()
