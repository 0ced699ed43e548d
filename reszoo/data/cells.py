"""Tables as they are read: rows of cells, which are numbers, words or missing."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from reszoo.data.labels import plain
from reszoo.types import Array

MISSING = frozenset(
    (
        *("", "na", "n/a", "n.a.", "<na>", "#n/a", "#na", "nan", "-nan", "nat", "null", "none", "nil", "missing"),
        *("?", "-", "--", ".", "1.#qnan", "-1.#ind"),
    )
)
"""Cells without a value, in lower case."""
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
"""What counts as a number. `float()` reads more: `1_000`, `inf`, digits of other scripts."""
CHARACTERS = frozenset("0123456789+-.eE")
"""Those of numbers."""
DATE = re.compile(
    r"(\d{4}[-/.]\d{1,2}([-/.]\d{1,2})?|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}|\d{1,2}[. -]+[^\W\d]{3,9}[., -]+\d{2,4}"
    r"|[^\W\d]{3,9}\.? +\d{1,2},? +\d{4})([T ,]+\d{1,2}:\d{2}.*)?|\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?( ?[AaPp][Mm])?"
)
"""A date, a time of day, or both."""
NUMERIC = 0.9
"""A column of numbers: at least this fraction of its cells are numbers, missing ones not counted."""


@dataclass(frozen=True, eq=False)
class Cells:
    """The cells of a column."""

    words: Array
    """As they are written, without surrounding blanks, `(rows,)`."""
    numbers: Array
    """Their values as float64, `(rows,)`; NaN for a cell that is no finite number."""
    missing: Array
    """Whether a cell has no value, `(rows,)`."""

    def __repr__(self) -> str:
        return f"Cells({len(self.words):,}: {', '.join(map(str, self.words[:3]))[:60]})"

    @cached_property
    def others(self) -> Array:
        """Indices of the cells that are neither a number nor missing."""
        import numpy as np

        return np.flatnonzero(np.isnan(self.numbers) & ~self.missing)

    @property
    def values(self) -> int:
        """Number of cells that are not missing."""
        return len(self.words) - int(self.missing.sum())

    @property
    def are_numbers(self) -> bool:
        """Whether the column is one of numbers, perhaps with a few other cells."""
        return self.values > 0 and len(self.others) <= (1 - NUMERIC) * self.values + 1e-9

    @property
    def are_dates(self) -> bool:
        """Whether most values are dates or times."""
        values = self.words[~self.missing]
        return len(values) > 0 and sum(DATE.fullmatch(word) is not None for word in values) >= NUMERIC * len(values)

    def same(self, other: Cells) -> bool:
        """Returns whether two columns have the same values; one number may be written in several ways."""
        same = (self.words == other.words) | (self.numbers == other.numbers) | (self.missing & other.missing)
        return bool(same.all())

    def subset(self, indices: Any) -> Cells:
        """Returns the cells at these indices."""
        return Cells(self.words[indices], self.numbers[indices], self.missing[indices])


def parse_cells(words: Iterable[str], *, decimal: str = ".") -> Cells:
    """Returns the cells of a column.

    Example:
        >>> parse_cells(["1.5", "NA", "red"]).numbers
        array([1.5, nan, nan])

    Args:
        words: as they are written.
        decimal: the decimal sign of numbers; with a comma, points are not part of a number.
    """
    import numpy as np

    stripped = [*map(plain, words)]
    numbers = _numbers(_with_points(stripped, decimal))
    if not np.isnan(numbers).any():
        return Cells(_objects(stripped), numbers, np.zeros(len(stripped), bool))
    missing = np.array([len(word) < 8 and word.casefold() in MISSING for word in stripped], bool)
    return Cells(_objects(stripped), numbers, missing)


def _with_points(words: list[str], decimal: str) -> list[str]:
    return words if decimal == "." else [word.replace(".", " ").replace(decimal, ".") for word in words]


def _numbers(words: list[str]) -> Array:
    """The values of words, NaN for one that is no number, or too large."""
    import numpy as np

    values = np.array([])
    if {*"".join(words)} <= CHARACTERS:
        # Without other characters, float() reads what NUMBER does, and several times faster.
        with contextlib.suppress(ValueError):
            values = np.array([*map(float, words)], "float64")
    if not len(values):
        values = np.array([float(word) if NUMBER.fullmatch(word) else math.nan for word in words], "float64")
    return np.where(np.isfinite(values), values, math.nan)


def _objects(words: Sequence[str]) -> Array:
    """An array of Python strings: an array of NumPy's strings would be as wide as the longest one."""
    import numpy as np

    array = np.empty(len(words), object)
    array[:] = words
    return array


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of cells under names, before any of them is encoded."""

    name: str
    columns: Mapping[str, Cells]
    rows: Array
    """Number of every row, as messages give it: the line of a file, or the position in a frame, from 0."""
    path: str = ""
    """Of the file, for messages; by default the name."""
    decimal: str = "."
    """The decimal sign of the table's numbers."""
    targets: tuple[str, ...] = ()
    """Names of the target's columns, where the source states them: a frame and a series."""
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Table({self.name[:40]!r}: {len(self):,} rows, {len(self.columns):,} columns)"

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def place(self) -> str:
        """How messages name the table."""
        return self.path or self.name

    def cell(self, column: str, index: int) -> str:
        """Returns how messages name a cell."""
        return f"{self.place}, row {self.rows[index]}, column {column}"

    def row_numbers(self, indices: Any) -> str:
        """Returns the numbers of some rows: `row 3`, `rows 3, 5, ...`."""
        return row_numbers([int(number) for number in self.rows[indices]])

    def subset(self, indices: Any) -> Table:
        """Returns the table of some of the rows."""
        columns = {name: cells.subset(indices) for name, cells in self.columns.items()}
        return replace(self, columns=columns, rows=self.rows[indices])


def listing(words: Iterable[object], *, most: int = 3) -> str:
    """Returns the first of some words, quoted, and the number of the others.

    Example:
        >>> listing("abcde")
        "'a', 'b', 'c' and 2 more"
    """
    quoted = [repr(str(word)[:40]) for word in words]
    return ", ".join(quoted[:most]) + (f" and {len(quoted) - most:,} more" if len(quoted) > most else "")


def row_numbers(numbers: Sequence[int]) -> str:
    """Returns the first numbers of some rows: `row 3`, `rows 3, 5, 8, ...`."""
    shown = ", ".join([*map(str, numbers[:3]), *(["..."] if len(numbers) > 3 else [])])
    return f"row{'s' if len(numbers) > 1 else ''} {shown}"


def counted(number: int, noun: str) -> str:
    """Returns a number and its noun: `1 row`, `2 rows`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
