"""The encoding of a table's columns, as a network keeps it: `learn_columns` makes it from the training rows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, NamedTuple

from reszoo.data.cells import NUMBER, Cells, Table, counted, listing, parse_cells
from reszoo.data.labels import TASKS, Task
from reszoo.errors import ReszooError, nearest
from reszoo.types import Array

LARGEST = 3.4028234663852886e38
"""The largest number in float32."""


class Encoded(NamedTuple):
    """The rows of a table as a network takes them."""

    x: Array
    """`(rows, features)`, float32."""
    notes: tuple[str, ...]
    """Missing values, unknown words and other oddities."""

    def __repr__(self) -> str:
        return f"Encoded({len(self.x):,} rows of {self.x.shape[1]:,} features, {len(self.notes)} notes)"


@dataclass(frozen=True)
class Column:
    """The encoding of one column.

    A number becomes one feature, and a second one, 1 where it is missing, if training rows lack it. A category becomes
    one feature for every word of the training rows: 1 for the word of the row, 0 for all others.
    """

    name: str
    kind: Literal["number", "category"]
    words: tuple[str, ...] = ()
    """Of a category."""
    median: float = 0.0
    """Of the training rows; it takes the place of missing values."""
    indicator: bool = False
    """Whether a feature says which values are missing."""
    low: float = 0.0
    """Smallest number of the training rows."""
    high: float = 0.0
    """Largest number of the training rows."""
    center: float = 0.0
    """Subtracted from numbers that float32 cannot tell apart as they are, such as times in seconds since 1970."""
    spread: float = 1.0
    """These numbers are divided by it."""

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features."""
        if self.kind == "category":
            return tuple(f"{self.name}={word}" for word in self.words)
        return (self.name, f"{self.name} missing") if self.indicator else (self.name,)

    def encode(self, table: Table) -> Encoded:
        """Returns the features of this column.

        Raises:
            ReszooError: a cell of a number column is neither a number nor missing.
        """
        cells = table.columns[self.name]
        return self._numbers(table, cells) if self.kind == "number" else self._categories(table, cells)

    def _numbers(self, table: Table, cells: Cells) -> Encoded:
        import numpy as np

        with np.errstate(over="ignore"):
            values = (np.where(cells.missing, self.median, cells.numbers) - self.center) / self.spread
            values = values.astype("float32")
        unusable = np.flatnonzero(~np.isfinite(values))
        if len(unusable):
            index = unusable[0]
            expected = "a finite number, as in training"
            where, got = table.cell(self.name, index), repr(cells.words[index])
            raise ReszooError(where, got=got, expected=expected, hint=number_hint(cells.words[index]))
        notes = []
        if cells.missing.any():
            indices = np.flatnonzero(cells.missing)
            text = f"{counted(len(indices), 'missing value')} ({table.row_numbers(indices)}) replaced by the median"
            feature = "a further feature marks them" if self.indicator else "none is missing in the training rows"
            notes.append(f"column {self.name}: {text} {self.median:g}; {feature}")
        outside = (cells.numbers < self.low) | (cells.numbers > self.high)
        if outside.sum() > max(len(table) / 2, 1):
            values_text = f"{outside.sum():,} of {len(table):,} values are outside of the range in training"
            notes.append(f"column {self.name}: {values_text}, {self.low:g} to {self.high:g}: other units?")
        features = [values, cells.missing.astype("float32")] if self.indicator else [values]
        return Encoded(np.stack(features, axis=1), tuple(notes))

    def _categories(self, table: Table, cells: Cells) -> Encoded:
        import numpy as np

        places = self.places(cells)
        result, rows = np.zeros((len(table), len(self.words)), "float32"), np.arange(len(table))
        indices = np.array([places[word] for word in cells.words], int)
        known = indices >= 0
        result[rows[known], indices[known]] = 1
        if known.all():
            return Encoded(result, ())
        absent, new = (~known & empty for empty in (cells.missing, ~cells.missing))
        texts = [
            f"{counted(int(chosen.sum()), 'row')} {what} ({table.row_numbers(np.flatnonzero(chosen))})"
            for chosen, what in ((new, f"with {listing(Counter(cells.words[new]))}"), (absent, "without a value"))
            if chosen.any()
        ]
        note = f"column {self.name}: {' and '.join(texts)}, as no training row: 0 for every word"
        return Encoded(result, (note,))

    def places(self, cells: Cells) -> dict[str, int]:
        """Returns word -> its place among the words of the training rows, -1 for another word.

        One number is one word, however it is written, and so are `true` and `TRUE`; a missing value is one word, if
        training had one.
        """
        known = parse_cells(self.words)
        numbers: dict[float, list[int]] = {}
        for place, value in enumerate(known.numbers):
            numbers.setdefault(float(value), []).append(place)
        missing = [place for place, empty in enumerate(known.missing) if empty]
        places = {word: place for place, word in enumerate(self.words)}
        for word, value, empty in zip(cells.words, cells.numbers, cells.missing, strict=True):
            if word not in places:
                same = missing if empty else numbers.get(float(value), [])
                if word.casefold() in ("true", "false"):
                    same = [place for place, other in enumerate(self.words) if other.casefold() == word.casefold()]
                places[word] = same[0] if len(same) == 1 else -1
        return places


@dataclass(frozen=True)
class Columns:
    """The encoding of a table: which columns become which features, and what the target is.

    Example:
        >>> from reszoo.data.cells import Table, parse_cells
        >>> import numpy as np
        >>> age, color = Column("age", "number", median=40.0, high=80.0), Column("color", "category", ("blue", "red"))
        >>> columns = Columns((age, color))
        >>> columns.features
        ('age', 'color=blue', 'color=red')
        >>> cells = {"color": parse_cells(["red", "green"]), "age": parse_cells(["30", "NA"])}
        >>> columns.encode(Table("new", cells, np.array([2, 3]))).x.tolist()
        [[30.0, 0.0, 1.0], [40.0, 0.0, 0.0]]
    """

    columns: tuple[Column, ...]
    targets: tuple[str, ...] = ()
    """Names of the target's columns: one for classes."""
    classes: tuple[str, ...] = ()
    """Class names, or the names of the target's columns."""
    task: Task = "classification"
    unused: Mapping[str, str] = field(default_factory=dict)
    """Columns of the training table that are left out, and why."""

    def __repr__(self) -> str:
        text = f"{len(self.columns):,} columns as {len(self.features):,} features"
        return f"Columns({text}, {self.task} of {', '.join(self.targets)[:40]})"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns that are used, in the order of their features."""
        return tuple(column.name for column in self.columns)

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features, in the order in which a network takes them."""
        return tuple(feature for column in self.columns for feature in column.features)

    def encode(self, table: Table) -> Encoded:
        """Returns the rows of a table, its columns found by name; further columns are not used.

        Raises:
            ReszooError: a missing column, or a cell that is no number in a column of numbers.
        """
        import numpy as np

        absent = [name for name in self.names if name not in table.columns]
        if absent:
            raise self.missing_column(absent[0], table)
        encoded = [column.encode(table) for column in self.columns]
        x = np.concatenate([part.x for part in encoded], axis=1)
        names = {*self.names, *self.targets, *self.unused}
        further = [name for name in table.columns if name not in names]
        noun = "column" if len(further) == 1 else "columns"
        notes = [f"{noun} {listing(further)}: not in the training table, not used"] if further else []
        return Encoded(x, tuple(notes) + tuple(note for part in encoded for note in part.notes))

    def with_targets(self, targets: tuple[str, ...], classes: tuple[str, ...], task: Task) -> Columns:
        """Returns the same features with another target; without one, it is learned from the next table.

        Raises:
            ReszooError: the target is one of the features.
        """
        features = [name for name in self.names if name in targets]
        if features:
            expected = "a column that is no feature of the network"
            raise ReszooError("target", got=repr(features[0]), expected=expected)
        return replace(self, targets=targets, classes=classes, task=task)

    def missing_column(self, name: str, table: Table) -> ReszooError:
        """Returns the error for a table without a column of training."""
        hint = nearest(name, table.columns)
        if not {*self.names} & {*table.columns}:
            hint = hint or "is its first line a row? Write the names of the columns above it"
        elif name in self.targets:
            hint = "for rows without a target: predict"
        expected = f"the columns of the training table; here: {listing(table.columns, most=8)}"
        return ReszooError(f"{table.place}, column {name}", got="no such column", expected=expected, hint=hint)

    def same_features(self, other: Columns) -> bool:
        """Returns whether two encodings make the same features of the same table."""
        return self.columns == other.columns

    def to_dict(self) -> dict[str, Any]:
        """Returns the encoding as JSON takes it."""
        defaults = {item.name: item.default for item in fields(Column)}
        columns = [
            {name: value for name, value in asdict(column).items() if value != defaults[name]}
            for column in self.columns
        ]
        return asdict(self) | {"columns": columns, "unused": dict(self.unused)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Columns:
        """Returns the encoding that `to_dict` wrote.

        Raises:
            ValueError: the content is not that of an encoding.
        """
        columns = tuple(_column(fields_) for fields_ in content["columns"])
        task = content["task"]
        if task not in TASKS:
            raise ValueError(f"task {task!r}")
        words = {name: tuple(map(str, content[name])) for name in ("targets", "classes")}
        unused = {str(name): str(reason) for name, reason in content["unused"].items()}
        return cls(columns, words["targets"], words["classes"], task, unused)


def _column(content: Mapping[str, Any]) -> Column:
    kind = content["kind"]
    if kind not in ("number", "category"):
        raise ValueError(f"column of kind {kind!r}")
    numbers = {name: float(content[name]) for name in ("median", "low", "high", "center", "spread") if name in content}
    if not all(map(math.isfinite, numbers.values())) or numbers.get("spread") == 0:
        raise ValueError(f"column {content['name']!r}: {numbers}")
    words = tuple(map(str, content.get("words", ())))
    return Column(str(content["name"]), kind, words, indicator=bool(content.get("indicator", False)), **numbers)


def number_hint(word: str) -> str:
    """Returns how to write a cell that looks like a number and is none."""
    if NUMBER.fullmatch(word):
        return f"the largest number of a network is {LARGEST:.2g}"
    if not any(character.isdigit() for character in word):
        return "leave the cell empty, or write NA, where there is no value"
    return "write digits with a decimal point, without units or signs for thousands"
