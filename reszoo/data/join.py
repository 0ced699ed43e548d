"""Further parts of a data source: their classes, and their range of values, become those of the training part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from reszoo.data.arrays import Arrays
from reszoo.data.dataset import Data
from reszoo.data.examples import Examples
from reszoo.data.labels import Task
from reszoo.errors import ReszooError, nearest
from reszoo.types import Array


def with_part(data: Data, part: str, other: Data, /) -> Data:
    """Returns data with all examples of a further source as its validation or test part.

    Args:
        data: the training data.
        part: `validation` or `test`.
        other: the further source, opened without a split.

    Raises:
        ReszooError: other shapes, classes, tasks or values.
    """
    if other.shape != data.shape:
        raise ReszooError(other.name, got=f"examples of shape {other.shape}", expected=str(data.shape))
    labels = match_labels(other.name, other.train.labels, other.classes, data.classes, data.task)
    examples, remarks = _in_range(data, other, replace(other.train, labels=labels))  # type: ignore[type-var]
    notes = [note if str(note).startswith("skipped ") else f"{part} part: {note}" for note in other.notes]
    changes: dict[str, Any] = {
        part: examples,
        "notes": (*data.notes, *notes, *(f"{part} part: {text}" for text in remarks)),
    }
    own = data.own_validation or part == "validation"
    return replace(data, left_out=(*data.left_out, *other.left_out), own_validation=own, **changes)


def match_labels(where: str, labels: Array, names: Sequence[str], classes: Sequence[str], task: Task, /) -> Array:
    """Returns labels in the order of other classes: matched by name.

    Integers, whose classes are named by numbers, are places where no class is named by a number.

    Args:
        where: the source, for messages.
        labels: class indices, or one column per class.
        names: their classes.
        classes: the classes to match.
        task: of both.

    Raises:
        ReszooError: a class that is not among `classes`.
    """
    import numpy as np

    numbered = all(name.isdecimal() for name in names) and not any(_is_number(name) for name in classes)
    if task == "regression" and len(names) == len(classes) and set(names) != set(classes):
        return labels
    if numbered and max(map(int, names)) < len(classes):
        indices = np.array([int(name) for name in names])
    else:
        unknown = [name for name in names if name not in classes]
        if unknown:
            expected = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
            raise ReszooError(where, got=f"class {unknown[0]!r}", expected=expected, hint=nearest(unknown[0], classes))
        indices = np.array([list(classes).index(name) for name in names])
    if task == "classification":
        result: Array = indices[labels]
        return result
    columns = np.zeros((len(labels), len(classes)), labels.dtype)
    columns[:, indices] = labels
    return columns


def _is_number(name: str) -> bool:
    return name.removeprefix("-").isdecimal()


def _in_range(data: Data, other: Data, examples: Examples) -> tuple[Examples, tuple[str, ...]]:
    """Pictures with the training part's value of white."""
    if len(data.shape) != 3 or data.white == other.white or data.white is None:
        return examples, ()
    if other.white is None:
        got = "; ".join(note for note in other.notes if "no range of pixel values" in note) or "no pixel values"
        raise ReszooError(other.name, got=got, expected=f"pixel values, as in training (white is {data.white:g})")
    note = f"white is {other.white:g}, and {data.white:g} in training: converted"
    if isinstance(examples, Arrays):
        factor = data.white / other.white
        return replace(examples, x=(examples.x * factor).astype("float32")), (note,)
    return replace(examples, white=data.white), (note,)  # type: ignore[type-var]
