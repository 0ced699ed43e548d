"""Tables in `.csv` files."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, NamedTuple

from reszoo.errors import ReszooError


class Table(NamedTuple):
    """A table's rows."""

    x: Any
    """`(rows, features)`: columns of numbers as they are, columns of words as one column per word."""
    labels: Any
    """Class numbers, `(rows,)`."""
    classes: tuple[str, ...]


def read_table(path: Path, target: str | None = None) -> Table:
    """Returns the rows of a `.csv` with a line of names.

    Args:
        path: of the file.
        target: the column of classes; the last one by default.

    Raises:
        ReszooError: a row, a value or the target is not as in a table; the message names the row and the column.
    """
    import numpy as np

    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.reader(stream))
    if len(rows) < 3:
        raise ReszooError(str(path), got=f"{len(rows)} lines", expected="a line of names and at least two rows")
    names, rows = rows[0], [row for row in rows[1:] if row]
    short = next((number for number, row in enumerate(rows, 2) if len(row) != len(names)), None)
    if short:
        raise ReszooError(f"{path}, row {short}", got="another number of columns", expected=str(len(names)))
    target = target or names[-1]
    if target not in names:
        raise ReszooError(f"{path}: target", got=repr(target), expected=", ".join(names))
    columns = {name: [row[place].strip() for row in rows] for place, name in enumerate(names)}
    words = sorted(set(columns.pop(target)), key=lambda word: (len(word), word) if word.isdecimal() else (0, word))
    labels = np.array([words.index(row[names.index(target)].strip()) for row in rows])
    features = [feature for name, values in columns.items() for feature in _features(path, name, values)]
    return Table(np.array(features, "float32").T, labels, tuple(words))


def _features(path: Path, name: str, values: list[str]) -> list[list[float]]:
    if "" in values:
        row = values.index("") + 2
        raise ReszooError(f"{path}, row {row}, column {name}", got="nothing", expected="a number or a word")
    try:
        return [[float(value) for value in values]]
    except ValueError:
        return [[float(value == word) for value in values] for word in sorted(set(values))]
