"""Tables in `.csv` files."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

from reszoo.errors import ReszooError
from reszoo.types import Array


class Table(NamedTuple):
    """The rows of a table."""

    x: Array
    """`(rows, features)`: numeric columns unchanged, text columns one-hot encoded."""
    labels: Array
    """Class indices, `(rows,)`."""
    classes: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Table({len(self.labels):,} rows, {self.x.shape[1]} features, {len(self.classes)} classes)"


def read_table(path: Path, target: str | None = None) -> Table:
    """Returns the rows of a `.csv` file with a header line.

    Args:
        path: of the file.
        target: name of the class column; by default the last one.

    Raises:
        ReszooError: a malformed row, a missing value or an unknown target; the message names row and column.
    """
    import numpy as np

    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.reader(stream))
    if len(rows) < 3:
        raise ReszooError(str(path), got=f"{len(rows)} lines", expected="a header line and at least two rows")
    names, rows = rows[0], [row for row in rows[1:] if row]
    irregular = next((index for index, row in enumerate(rows, 2) if len(row) != len(names)), None)
    if irregular:
        got = f"{len(rows[irregular - 2])} columns"
        raise ReszooError(f"{path}, row {irregular}", got=got, expected=f"{len(names)} columns")
    target = target or names[-1]
    if target not in names:
        raise ReszooError(f"{path}: target", got=repr(target), expected=", ".join(names))
    columns = {name: [row[position].strip() for row in rows] for position, name in enumerate(names)}
    classes = sorted(set(columns.pop(target)), key=lambda word: (len(word), word) if word.isdecimal() else (0, word))
    labels = np.array([classes.index(row[names.index(target)].strip()) for row in rows])
    features = [feature for name, values in columns.items() for feature in _features(path, name, values)]
    return Table(np.array(features, "float32").T, labels, tuple(classes))


def _features(path: Path, name: str, values: list[str]) -> list[list[float]]:
    """One feature for a numeric column, one per word for a text column."""
    if "" in values:
        row = values.index("") + 2
        raise ReszooError(f"{path}, row {row}, column {name}", got="an empty cell", expected="a number or a word")
    try:
        return [[float(value) for value in values]]
    except ValueError:
        return [[float(value == word) for value in values] for word in sorted(set(values))]
