"""Targets of tables: classes, several classes at once, or numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from reszoo.data.cells import NUMBER, Cells, Table, counted, listing
from reszoo.data.columns import LARGEST, Column, Columns, number_hint
from reszoo.data.labels import TASKS, Task
from reszoo.data.learn_columns import mostly_unique
from reszoo.errors import ReszooError, nearest
from reszoo.types import Array

MANY_CLASSES = 20
"""More distinct numbers than this, and than a tenth of the rows, are no classes."""
YES = {"1": 1.0, "0": 0.0, "true": 1.0, "false": 0.0, "yes": 1.0, "no": 0.0}
"""Values of a column for one of several classes at once."""


class Targets(NamedTuple):
    """The targets of a table's rows."""

    labels: Array
    """Class indices, `(rows,)` int64; 0 and 1, `(rows, classes)` uint8; or numbers, `(rows, outputs)` float32."""
    names: tuple[str, ...]
    """Class names, or the names of the target's columns."""
    task: Task
    columns: tuple[str, ...]
    """Names of the target's columns."""
    kept: Array
    """Indices of the rows that have a target; labels are those of these rows."""
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Targets({len(self.labels):,} rows, {self.task}: {', '.join(self.names)[:40]})"


def target_names(table: Table, target: str | Sequence[str] | None) -> tuple[str, ...]:
    """Returns the names of a table's target columns: by default the last column.

    Raises:
        ReszooError: an unknown column, or a table whose first line is not one of names.
    """
    if len(table.columns) < 2:
        got = f"one column ({listing(table.columns)})"
        expected = "the target and at least one more, between commas, semicolons, tabs or vertical bars"
        raise ReszooError(table.place, got=got, expected=expected)
    last = [*table.columns][-1]
    # Before an unknown target: without a line of names every target is unknown.
    _refuse_values_as_names(table, last)
    names = target if target is not None else table.targets or last
    several = isinstance(names, Iterable) and not isinstance(names, str)
    chosen = tuple(dict.fromkeys(map(str, names if several else [names])))
    if table.targets and {*chosen} != {*table.targets}:
        raise ReszooError(
            "target", got=listing(chosen), expected=f"{listing(table.targets)}, which stands beside the frame"
        )
    for name in chosen or ("",):
        if name not in table.columns:
            hint = nearest(name, table.columns)
            raise ReszooError(
                f"{table.place}: target", got=repr(name), expected=listing(table.columns, most=10), hint=hint
            )
        _refuse_values_as_names(table, name)
    return chosen


def _refuse_values_as_names(table: Table, target: str) -> None:
    """Refuses a table whose names look like a row: one is a fraction, or one of its column's own values."""
    hint = "write the names of the columns as the first line"
    names = [*table.columns]
    counts = names in ([str(start + number) for number in range(len(names))] for start in (0, 1))
    where, expected = f"{table.place}, row 1", "the names of the columns"
    if counts or not names:
        return
    comma = table.decimal == ","
    numbers = [name for name in names if NUMBER.fullmatch(name.replace(",", ".") if comma else name)]
    fractions = [name for name in numbers if not name.isdigit()]
    if fractions or len(numbers) == len(names):
        got = f"a column named {(fractions or numbers)[0]!r}"
        raise ReszooError(where, got=got, expected=expected, hint=hint)
    own = [name for name in names if (table.columns[name].words == name).any()]
    if target in own or len(own) > len(names) / 2:
        name = target if target in own else own[0]
        got = f"{name!r}, which is also a value of its column"
        raise ReszooError(where, got=got, expected=expected, hint=hint)


def read_targets(table: Table, names: Sequence[str], task: Task | None) -> Targets:
    """Returns the targets of training rows; rows without one are left out and noted.

    Args:
        table: all rows.
        names: of the target's columns.
        task: by default classes for one column; for several ones what their values are.

    Raises:
        ReszooError: values that do not fit the task, or one class only.
    """
    if task not in (None, *TASKS):
        raise ReszooError("task", got=repr(task), expected=", ".join(TASKS))
    if len(names) > 1 and task == "classification":
        raise ReszooError("target", got=listing(names, most=5), expected="one column of classes", hint=SEVERAL_TASKS)
    if len(names) == 1 and task in (None, "classification"):
        return _classes(table, names[0], task)
    choice = task or _task_of(table, names)
    targets = read_numbers(table, names, choice)
    for place, name in enumerate(names):
        if (targets.labels[:, place] == targets.labels[0, place]).all():
            got = f"{targets.labels[0, place]:g} in every row"
            raise ReszooError(f"{table.place}, target {name}", got=got, expected="at least two different values")
    notes = [] if task else [f"task {choice}, from the values of {listing(names)}"]
    if not task and choice == "multilabel" and (targets.labels.sum(axis=1, dtype="int64") == 1).all():
        notes.append("each row has exactly one 1: classes that exclude each other are words of one column")
    return targets._replace(notes=(*notes, *targets.notes))


SEVERAL_TASKS = 'task="regression" for numbers, task="multilabel" for columns of 0 and 1'


def _task_of(table: Table, names: Sequence[str]) -> Task:
    columns = [table.columns[name] for name in names]
    if all(_are_binary(cells) for cells in columns):
        return "multilabel"
    if all(not len(cells.others) for cells in columns):
        return "regression"
    raise ReszooError("target", got=listing(names, most=5), expected="columns of numbers", hint=SEVERAL_TASKS)


def _are_binary(cells: Cells) -> bool:
    """Whether all values are 0 or 1, as numbers or as words for them."""
    pairs = zip(cells.words, cells.numbers, cells.missing, strict=True)
    return all(empty or value in (0, 1) or word.casefold() in YES for word, value, empty in pairs)


def _classes(table: Table, name: str, task: Task | None) -> Targets:
    import numpy as np

    cells, notes = table.columns[name], []
    absent = cells.missing.copy()
    for word, count in Counter(cells.words[absent]).items():
        if word and count > len(table) / 10:
            absent &= cells.words != word
            notes.append(f"target {name}: {word!r} is read as a class of {count:,} rows, not as a missing value")
    kept = np.flatnonzero(~absent)
    notes += _without_target(table, name, np.flatnonzero(absent))
    table = table.subset(kept)
    cells = table.columns[name]
    if task is None:
        _refuse_numbers(table, name, cells)
    names = _class_names(cells)
    classes = sorted({*names.values()}, key=lambda label: _class_order(label, cells.are_numbers))
    if len(classes) < 2:
        got = f"one class ({listing(classes)})" if classes else "no row with a class"
        raise ReszooError(f"{table.place}, target {name}", got=got, expected="at least two classes")
    if cells.are_numbers and len(cells.others):
        text = (
            f"{cells.words[cells.others[0]]!r} ({table.row_numbers(cells.others)}) is no number, the other classes are"
        )
        notes.append(f"target {name}: {text}")
    places = {label: place for place, label in enumerate(classes)}
    labels = np.array([places[names[word]] for word in cells.words], "int64")
    return Targets(labels, tuple(classes), "classification", (name,), kept, tuple(notes))


def _without_target(table: Table, name: str, indices: Array) -> list[str]:
    if not len(indices):
        return []
    return [f"{counted(len(indices), 'row')} without a value of {name} left out: {table.row_numbers(indices)}"]


def _refuse_numbers(table: Table, name: str, cells: Cells) -> None:
    """Refuses a target that holds quantities or names of rows, not classes."""
    import numpy as np

    where, hint = f"{table.place}, target {name}", 'task="regression" learns numbers; target="..." names another column'
    if cells.are_numbers:
        numbers = np.unique(cells.numbers[~np.isnan(cells.numbers)])
        fractions = numbers[numbers % 1 != 0]
        many = len(numbers) > max(MANY_CLASSES, len(table) / 10)
        if len(fractions) or many:
            got = (
                f"numbers with fractions ({fractions[0]:g})"
                if len(fractions)
                else f"{len(numbers):,} different numbers"
            )
            raise ReszooError(where, got=got, expected=f"classes in {len(table):,} rows", hint=hint)
    words = Counter(cells.words)
    if len(words) > MANY_CLASSES and mostly_unique(words):
        got = f"{len(words):,} different words ({listing(words)}) in {len(table):,} rows"
        raise ReszooError(where, got=got, expected="classes", hint='target="..." names another column')


def _class_names(cells: Cells) -> dict[str, str]:
    """Word -> class name: one number is one class, however it is written."""
    spellings: dict[float, set[str]] = {}
    for word, value in zip(cells.words, cells.numbers, strict=True):
        spellings.setdefault(float(value), set()).add(word)
    names = {}
    for word, value in zip(cells.words, cells.numbers, strict=True):
        whole = value == value and value % 1 == 0 and abs(value) < 2**53
        alone = word.isdigit() and len(spellings[float(value)]) == 1
        names[word] = word if alone or value != value else str(int(value)) if whole else repr(float(value))
    return names


def _class_order(label: str, numeric: bool) -> tuple[bool, float, str]:
    """Numbers by value, then words by the alphabet."""
    number = NUMBER.fullmatch(label) is not None
    return (not number, float(label) if number and numeric else 0.0, label)


def known_targets(table: Table, columns: Columns) -> Targets:
    """Returns the targets of further rows, with the classes of a network.

    Raises:
        ReszooError: no column of that name, or a class that the network does not know.
    """
    import numpy as np

    for name in columns.targets:
        if name not in table.columns:
            raise columns.missing_column(name, table)
    if columns.task != "classification":
        return read_numbers(table, columns.targets, columns.task)
    name = columns.targets[0]
    cells = table.columns[name]
    # A class may have the name of a missing value.
    places = Column(name, "category", columns.classes).places(cells)
    known = {*columns.classes}
    labels = np.array(
        [
            places[word] if word in known or not empty else -1
            for word, empty in zip(cells.words, cells.missing, strict=True)
        ],
        "int64",
    )
    unknown = np.flatnonzero((labels < 0) & ~cells.missing)
    if len(unknown):
        index = unknown[0]
        got, expected = f"class {cells.words[index]!r}", listing(columns.classes, most=10)
        raise ReszooError(table.cell(name, index), got=got, expected=expected)
    kept = np.flatnonzero(labels >= 0)
    if not len(kept):
        raise ReszooError(f"{table.place}, column {name}", got="no row with a class", expected="at least one")
    notes = _without_target(table, name, np.flatnonzero(labels < 0))
    return Targets(labels[kept], columns.classes, "classification", (name,), kept, tuple(notes))


def read_numbers(table: Table, names: Sequence[str], task: Task) -> Targets:
    """Returns targets that are numbers, or 0 and 1 for each of several classes.

    Raises:
        ReszooError: another value; the message names row and column.
    """
    import numpy as np

    values = np.stack([_column_values(table, name, task) for name in names], axis=1)
    complete = ~np.isnan(values).any(axis=1)
    kept = np.flatnonzero(complete)
    if not len(kept):
        raise ReszooError(f"{table.place}, target {listing(names)}", got="no row with a value", expected="at least one")
    notes = _without_target(table, listing(names) if len(names) > 1 else names[0], np.flatnonzero(~complete))
    kind = "uint8" if task == "multilabel" else "float32"
    return Targets(values[kept].astype(kind), tuple(names), task, tuple(names), kept, tuple(notes))


def _column_values(table: Table, name: str, task: Task) -> Array:
    """The values of a column as float64, NaN where they are missing."""
    import numpy as np

    cells = table.columns[name]
    values = cells.numbers
    if task == "multilabel":
        values = np.array([YES.get(word.casefold(), value) for word, value in zip(cells.words, values, strict=True)])
    right = np.isin(values, (0, 1)) if task == "multilabel" else np.abs(values) <= LARGEST
    wrong = np.flatnonzero(~right & ~cells.missing)
    if len(wrong):
        expected = "0 or 1" if task == "multilabel" else "a number"
        word = cells.words[wrong[0]]
        raise ReszooError(table.cell(name, wrong[0]), got=repr(word), expected=expected, hint=number_hint(word))
    return values
