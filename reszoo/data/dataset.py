"""An opened data source: examples for training, validation and testing, with what is known about them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from reszoo.data.audit import Audit, audit
from reszoo.data.columns import Columns
from reszoo.data.examples import Examples, count_labels
from reszoo.data.image_folder import LeftOut
from reszoo.data.labels import Task
from reszoo.data.ranges import Range, Scaling, value_range
from reszoo.errors import ReszooError
from reszoo.notebook import html_table
from reszoo.types import Array

SAMPLE = 64
"""Examples that show the range of a source that is not an array."""
TABLE_ROWS = 20
"""Classes in a notebook's table; further ones are counted."""


@dataclass(frozen=True)
class Data:
    """Examples for training, validation and, where the source has them, testing."""

    name: str
    train: Examples
    validation: Examples
    classes: tuple[str, ...]
    """Names of the classes, or of the outputs of a regression."""
    scaling: Scaling
    test: Examples | None = None
    notes: tuple[str, ...] = ()
    """Skipped files and other oddities."""
    seed: int = 0
    """Of the split."""
    own_validation: bool = False
    """Whether the source itself has a validation part."""
    task: Task = "classification"
    """What the labels are: one class, several classes, or numbers."""
    white: float | None = None
    """Value of white in pictures; None for rows, and for values that are no pixel values."""
    left_out: tuple[LeftOut, ...] = ()
    """Files that are not read, with their reasons."""
    columns: Columns | None = None
    """The encoding of a table."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return tuple(int(side) for side in self.train.take([0]).shape[1:])

    def parts(self) -> dict[str, Examples]:
        """Returns the parts that there are, by name: train, validation, test."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: examples for name, examples in parts.items() if examples is not None}

    def arrays(self, part: Literal["train", "validation", "test"]) -> tuple[Array, Array]:
        """Returns all examples of a part, scaled, and their labels: for `model.fit(x, y)`.

        Weights of the examples, where the source has them, are `data.train.weights`, for `sample_weight=`.

        Raises:
            ReszooError: the source has no test part.
        """
        examples = self.parts().get(part)
        if examples is None:
            raise ReszooError(f"{self.name}: {part}", got="no such part", expected=", ".join(self.parts()))
        return self.scaling(examples.take(range(len(examples)))), examples.labels

    def counts(self) -> dict[str, tuple[int, int]]:
        """Returns class -> number of examples for training and for validation."""
        counts = [count_labels(part.labels, len(self.classes)) for part in (self.train, self.validation)]
        return {name: (a, b) for name, a, b in zip(self.classes, *counts, strict=True)}

    def audit(self) -> Audit:
        """Returns counts, sizes, what was left out, imbalance and exact duplicates; files are compared byte by byte."""
        return audit(
            self.parts(),
            name=self.name,
            task=self.task,
            classes=self.classes,
            left_out=self.left_out,
            notes=[note for note in self.notes if not note.startswith(("skipped ", "exact copies"))],
            targets=() if self.columns is None else self.columns.targets,
        )

    def check_trainable(self) -> None:
        """Raises a ReszooError if no network can be trained on these data: no validation example, or one class."""
        where = f"data: {self.name}"
        for name, part in (("training", self.train), ("validation", self.validation)):
            if not len(part):
                got = f"{len(self.train)} training and {len(self.validation)} validation examples: no {name} example"
                hint = "a source for it: validation=..., or more examples of every class"
                raise ReszooError(where, got=got, expected=f"at least one for {name}", hint=hint)
            weights = getattr(part, "weights", None)
            if weights is not None and not weights.any():
                got = f"{name} examples whose weights are all 0"
                raise ReszooError(where, got=got, expected="a weight above 0 in training and in validation")
        present = [name for name, pair in self.counts().items() if any(pair)]
        if self.task == "classification" and len(present) < 2:
            raise ReszooError(where, got=f"one class, {present[0]}", expected="examples of at least two classes")

    def check_classes(self, where: str) -> None:
        """Raises a ReszooError if these are no examples of one class each, all of the same weight."""
        if self.task != "classification":
            expected = "one class for every example"
            raise ReszooError(f"{where}: {self.name}", got=f"data for {self.task}", expected=expected)
        if any(getattr(part, "weights", None) is not None for part in self.parts().values()):
            expected = "(x, y): every example counts the same here"
            raise ReszooError(f"{where}: {self.name}", got="sample weights", expected=expected)

    def __repr__(self) -> str:
        test = "" if self.test is None else f", {len(self.test):,} test"
        sizes = f"{len(self.train):,} training, {len(self.validation):,} validation{test} examples"
        kind = "outputs" if self.task == "regression" else "classes"
        return f"Data({self.name[:40]!r}: {sizes} of {len(self.classes):,} {kind}, {len(self.notes)} notes)"

    def _repr_html_(self) -> str:
        """Examples of every class."""
        rows = [(name, *pair) for name, pair in self.counts().items()]
        remaining = [f"and {len(rows) - TABLE_ROWS} more classes"] if len(rows) > TABLE_ROWS else []
        notes = [f"and {len(self.notes) - 5} more notes"] if len(self.notes) > 5 else []
        note = "; ".join([*remaining, *self.notes[:5], *notes])
        return html_table(("class", "training", "validation"), rows[:TABLE_ROWS], title=repr(self), note=note)


def range_of(data: Data, /) -> Range:
    """Returns the range of the images of a source; for rows of a table, one without a value of white."""
    if len(data.shape) == 1:
        return Range(-math.inf, math.inf, None)
    ranges = [_range(part) for part in data.parts().values() if len(part)]
    low, high = min(each.low for each in ranges), max(each.high for each in ranges)
    whites = [each.white for each in ranges]
    return Range(low, high, data.white or (None if None in whites else max(white or 0 for white in whites)))


def _range(part: Any) -> Range:
    if hasattr(part, "paths"):
        return Range(0.0, part.white, part.white)
    values = getattr(part, "x", None)
    return value_range(part.take(range(min(len(part), SAMPLE))) if values is None else values)
