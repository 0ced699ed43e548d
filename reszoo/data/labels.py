"""Labels of every form as class indices with names, rows of zeros and ones, or numbers: one rule for all sources."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias
from unicodedata import normalize

from reszoo.errors import ReszooError
from reszoo.types import Array

Task: TypeAlias = Literal["classification", "multilabel", "regression"]
TASKS = ("classification", "multilabel", "regression")
MANY = 20
"""Up to this many integers that are no consecutive class indices raise no doubt whether they are classes."""


class Labels(NamedTuple):
    """Labels as a network is trained on them."""

    values: Array
    """Class indices `(n,)`; 0 and 1 for every class, `(n, classes)`; or numbers, `(n, outputs)`."""
    classes: tuple[str, ...]
    """Names of the classes or outputs."""
    task: Task
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Labels({len(self.values):,} for {self.task}, {len(self.classes):,} classes or outputs)"


def read_labels(name: str, y: Any, /, *, task: Task | None = None, classes: Sequence[str] | None = None) -> Labels:
    """Returns labels of any form as numbers, with the names of their classes.

    Integers, whole floats, booleans, words, `(n, 1)` and one-hot rows are classes. Integers from 0 on, of which at
    least half occur, are indices of the classes `0 ... max`; other integers are names: 10, 20, 30 are three classes.

    Example:
        >>> from reszoo.data.labels import read_labels
        >>> read_labels("y", ["bee", "ant", "bee"]).classes, read_labels("y", [[0, 1], [1, 0]]).values.tolist()
        (('ant', 'bee'), [1, 0])

    Args:
        name: of the source, for messages.
        y: one label for every example.
        task: `multilabel` for rows of zeros and ones, `regression` for numbers; by default classification.
        classes: names of the classes or outputs, where the source has them; integers are then their indices.

    Raises:
        ReszooError: missing labels, or labels that the task cannot have.
    """
    if task is not None and task not in TASKS:
        raise ReszooError("task", got=repr(task), expected=", ".join(TASKS))
    columns = getattr(y, "columns", None)
    y = _as_array(name, y)
    if classes is None and columns is not None and y.ndim == 2 and y.shape[1] == len(columns) > 1:
        # A data frame, as of pandas.get_dummies.
        classes = tuple(plain(str(column)) for column in columns)
    if not y.size:
        raise ReszooError(name, got="no labels", expected="a label for every example")
    if task == "regression":
        return _numbers(name, y, classes)
    if y.ndim == 2 and (y.shape[1] > 1 or task == "multilabel"):
        return _rows(name, y, task, classes)
    if task == "multilabel":
        raise ReszooError(f"{name}: labels", got=f"shape {y.shape}", expected="rows of 0 and 1, (examples, classes)")
    y = y.reshape(len(y))
    if y.dtype.kind in "UO":
        return _words(name, y, classes)
    return _integers(name, y, classes, sure=task is not None)


def plain(word: str) -> str:
    """Returns a word without surrounding blanks, its accents in one spelling: two files may write them differently."""
    return normalize("NFC", word.strip())


def case_notes(words: Collection[str]) -> list[str]:
    """Returns notes on words that differ in upper and lower case alone."""
    spellings: dict[str, list[str]] = {}
    for word in sorted(words):
        spellings.setdefault(word.casefold(), []).append(word)
    pairs = [" and ".join(map(repr, same)) for same in spellings.values() if len(same) > 1]
    return [f"{pairs[0]} differ in upper and lower case alone: two words"] if pairs else []


def combination_notes(words: Collection[str]) -> list[str]:
    """Returns a note on a class that is several other ones: rows with several classes at once."""
    known = {*words}
    for word in sorted(words):
        parts = [part.strip() for part in re.split(r"[|;,/+&]", word)]
        if len(parts) > 1 and known.issuperset(parts):
            return [
                f"{word!r} is read as a class of its own; for several classes at once: columns of 0 and 1, multilabel"
            ]
    return []


def _as_array(name: str, y: Any) -> Array:
    """Labels as an array of numbers or words, without axes of length 1."""
    import numpy as np

    from reszoo.data.arrays import as_array

    values, y = y, as_array(f"{name}: labels", y)
    if y.dtype.kind == "U" and isinstance(values, (list, tuple)):
        # NumPy turns the numbers beside words, NaN among them, into words.
        y = np.array(values, object)
    if y.dtype.kind == "S":
        y = np.char.decode(y, "utf-8")
    while y.ndim > 2 and y.shape[-1] == 1:
        y = y[..., 0]
    if y.ndim not in (1, 2) or y.dtype.kind not in "iufbUO":
        expected = "one class per example, or one-hot rows"
        raise ReszooError(f"{name}: labels", got=f"shape {y.shape}, type {y.dtype}", expected=expected)
    if y.dtype.kind == "O":
        y = _unpack(name, y)
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        row = int(np.argwhere(~np.isfinite(y))[0][0])
        raise ReszooError(f"{name}: labels", got=f"{y[row]} in row {row}", expected="a label for every example")
    return y


def _unpack(name: str, y: Array) -> Array:
    """Objects of one type as an array of that type."""
    import numpy as np

    flat = [value.decode() if isinstance(value, bytes) else value for value in y.reshape(-1).tolist()]
    missing = [row for row, value in enumerate(flat) if value is None or value != value or value == ""]
    if missing:
        got = f"{flat[missing[0]]!r} in row {missing[0]} and {len(missing) - 1} more"
        raise ReszooError(f"{name}: labels", got=got, expected="a label for every example")
    kinds = sorted({type(value).__name__ for value in flat})
    values = np.array(flat) if len(kinds) == 1 else None
    if values is None or values.ndim != 1 or values.dtype.kind not in "iufbU":
        got = f"values of type {', '.join(kinds)}"
        raise ReszooError(f"{name}: labels", got=got, expected="all of them numbers, or all of them words")
    return values.reshape(y.shape)


def _numbers(name: str, y: Array, classes: Sequence[str] | None) -> Labels:
    import numpy as np

    if y.dtype.kind not in "iufb":
        raise ReszooError(f"{name}: labels", got=f"type {y.dtype}", expected="numbers", hint="task='classification'")
    values = y.reshape(len(y), -1).astype("float32")
    if not np.isfinite(values).all():
        raise ReszooError(f"{name}: labels", got="a number beyond the range of float32", expected="finite numbers")
    outputs = values.shape[1]
    names = tuple(classes or (["y"] if outputs == 1 else [f"y{index}" for index in range(outputs)]))
    return Labels(values, names, "regression", (f"regression: {outputs} number{'s' * (outputs > 1)} per example",))


def _rows(name: str, y: Array, task: Task | None, classes: Sequence[str] | None) -> Labels:
    """Several columns: one-hot rows, or several classes of one example."""
    import numpy as np

    where, expected = f"{name}: labels", "a class index or a one-hot row for every example"
    if y.dtype.kind not in "iufb":
        raise ReszooError(where, got=f"{y.shape[1]} words per example", expected=expected)
    binary = bool(((y == 0) | (y == 1)).all())
    names = _names(where, classes, y.shape[1])
    if task == "multilabel":
        if not binary:
            row = int(np.argwhere((y != 0) & (y != 1))[0][0])
            got = f"{y[row].tolist()[:8]} in row {row}"
            raise ReszooError(where, got=got, expected="rows of 0 and 1 for task='multilabel'")
        return Labels(y.astype("uint8"), names, "multilabel", (f"multilabel: {y.shape[1]} classes, each 0 or 1",))
    ones = y.astype("float64").sum(axis=1)
    if binary and (ones == 1).all():
        return Labels(y.argmax(axis=1).astype("int64"), names, "classification")
    if binary:
        row = int(np.flatnonzero(ones != 1)[0])
        got = f"{ones[row]:.0f} classes in row {row}"
        hint = "several classes of one example: task='multilabel'"
        raise ReszooError(where, got=got, expected="exactly one class per example", hint=hint)
    if (y >= 0).all() and np.allclose(ones, 1, atol=1e-3):
        hint = "the most probable class: y.argmax(axis=1)"
        raise ReszooError(where, got="soft labels (fractions that add up to 1)", expected=expected, hint=hint)
    got = f"{y.shape[1]} numbers per example"
    raise ReszooError(where, got=got, expected=expected, hint="numbers to predict: task='regression'")


def _names(where: str, classes: Sequence[str] | None, count: int) -> tuple[str, ...]:
    if classes is not None and len(classes) != count:
        raise ReszooError(where, got=f"{count} columns", expected=f"one for each of {len(classes)} classes")
    return tuple(classes or map(str, range(count)))


def _words(name: str, y: Array, classes: Sequence[str] | None) -> Labels:
    import numpy as np

    spellings, indices = np.unique(y, return_inverse=True)
    words, places = np.unique([plain(word) for word in spellings.tolist()], return_inverse=True)
    indices, names = places[indices.reshape(-1)], tuple(map(str, words))
    if "" in names:
        row = int(np.flatnonzero(indices == 0)[0])
        raise ReszooError(f"{name}: labels", got=f"an empty word in row {row}", expected="a label for every example")
    if classes is None:
        return Labels(indices.astype("int64"), names, "classification")
    unknown = [word for word in names if word not in classes]
    if unknown:
        raise ReszooError(f"{name}: labels", got=repr(unknown[0]), expected=", ".join(classes))
    places = np.array([list(classes).index(word) for word in names])
    return Labels(places[indices].astype("int64"), tuple(classes), "classification")


def _integers(name: str, y: Array, classes: Sequence[str] | None, *, sure: bool) -> Labels:
    import numpy as np

    where = f"{name}: labels"
    if y.dtype.kind == "b" and classes is None:
        return Labels(y.astype("int64"), ("False", "True"), "classification")
    if y.dtype.kind == "f" and (y != np.floor(y)).any():
        row = int(np.flatnonzero(y != np.floor(y))[0])
        got = f"{y[row]:g} in row {row}"
        hint = "numbers to predict: task='regression'"
        raise ReszooError(where, got=got, expected="classes: whole numbers or words", hint=hint)
    if y.dtype.kind in "fu" and np.abs(y).max() > 2**53:
        raise ReszooError(where, got=f"{y.max():g}", expected="class indices")
    y = y.astype("int64")
    low, high = int(y.min()), int(y.max())
    if classes is not None:
        if low < 0 or high >= len(classes):
            got = f"class {low if low < 0 else high}"
            raise ReszooError(where, got=got, expected=f"0 to {len(classes) - 1}: {', '.join(classes[:10])}")
        return Labels(y, tuple(classes), "classification")
    values, indices = np.unique(y, return_inverse=True)
    notes = []
    if not sure and len(values) > max(MANY, len(y) / 10):
        notes.append(f"{len(values)} different labels of {len(y)} examples: for quantities, task='regression'")
    if low == 0 and 2 * len(values) >= high + 1:
        return Labels(y, tuple(map(str, range(high + 1))), "classification", tuple(notes))
    examples = ", ".join(map(str, values[:5])) + (", ..." if len(values) > 5 else "")
    notes.insert(0, f"labels {examples} are read as {len(values)} classes with these names")
    return Labels(indices.reshape(-1).astype("int64"), tuple(map(str, values)), "classification", tuple(notes))
