"""Tables for training, evaluation and prediction: rows of a `.csv` file or a data frame, encoded by their columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from reszoo.data.arrays import Arrays, check_weights
from reszoo.data.cells import Cells, Table, counted, listing
from reszoo.data.columns import Columns
from reszoo.data.labels import Task
from reszoo.data.learn_columns import learn_columns
from reszoo.data.table_files import file_table, frame_table, is_frame, series_cells
from reszoo.data.targets import known_targets, read_targets, target_names
from reszoo.errors import ReszooError, nearest
from reszoo.types import Array

Division: TypeAlias = Callable[[Array, Array | None], tuple[Array, Array]]
"""Labels and groups of all rows -> the indices of training rows and of rows held out for validation."""
TARGET = "target"
"""Name of a target without one."""


class TableParts(NamedTuple):
    """A table, split and encoded."""

    name: str
    train: Arrays
    validation: Arrays
    columns: Columns
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        sizes = f"{len(self.train):,} training, {len(self.validation):,} validation rows"
        return f"TableParts({self.name[:40]!r}: {sizes}, {self.columns!r})"


class Rows(NamedTuple):
    """Rows without targets, for predictions."""

    table: str
    """Name of the table."""
    names: tuple[str, ...]
    """Number of every row: the line of a file, or the position in a frame."""
    x: Array
    """`(rows, features)`, float32."""
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Rows({len(self.names):,} rows of {self.x.shape[1]:,} features, {len(self.notes)} notes)"


def open_table(
    source: Any,
    divide: Division,
    *,
    target: str | Sequence[str] | None = None,
    task: Task | None = None,
    columns: Columns | None = None,
    groups: str | Sequence[Any] | Array | None = None,
    weights: str | Sequence[float] | Array | None = None,
) -> TableParts:
    """Returns a table, split and encoded; the encoding is learned from the training rows alone.

    Args:
        source: see `is_table`.
        divide: splits the rows.
        target: name of the target's column, or several names; by default the last column.
        task: by default classes for one column.
        columns: an encoding to use instead of a new one; its target and task are used too, if it has them.
        groups: name of a column, which is then no feature, or a group for every row: a group is not divided.
        weights: name of a column, which is then no feature, or a weight for every row.

    Raises:
        ReszooError: rows that no training can use; the message names row and column.
    """
    table = read_table(source)
    if columns is None or not columns.targets:
        goal = read_targets(table, target_names(table, target), task)
    else:
        table = _named_as_in_training(table, columns)
        goal = known_targets(table, columns)
    members = _groups(table, groups)
    own = {"groups": groups, "sample_weight": weights}
    aside = {name: role for role, name in own.items() if isinstance(name, str)}
    for name, role in aside.items():
        if name in goal.columns:
            raise ReszooError(role, got=repr(name), expected="another column than the target")
    each = _row_weights(table, weights)
    each = None if each is None else check_weights(table.name, each[goal.kept], len(goal.kept))
    table = table.subset(goal.kept)
    rest, held = divide(goal.labels, None if members is None else members[goal.kept])
    train, notes, encode = table.subset(rest), [*table.notes, *goal.notes], _encode
    if columns is None:
        encode = _encode_parts
        encoding = learn_columns(train, targets={*goal.columns, *aside})
        columns = Columns(encoding.columns, unused=encoding.unused)
        notes += [*encoding.notes, *_copies(train, goal.columns)]
    columns = columns.with_targets(goal.columns, goal.names, goal.task)
    if aside:
        columns = replace(columns, unused={**columns.unused, **aside})
    x, held_x, oddities = encode(columns, table, rest, held)
    parts = (Arrays(x, goal.labels[rest]), Arrays(held_x, goal.labels[held]))
    if each is not None:
        notes.append(f"{table.name}: sample weights from {each.min():g} to {each.max():g}")
        parts = replace(parts[0], weights=each[rest]), replace(parts[1], weights=each[held])
    return TableParts(table.name, parts[0], parts[1], columns, (*notes, *oddities))


def _encode(columns: Columns, table: Table, rest: Array, held: Array) -> tuple[Array, Array, tuple[str, ...]]:
    """The features of the two parts of a further table, and notes on all of its rows."""
    x, notes = columns.encode(table)
    return x[rest], x[held], notes


def _encode_parts(columns: Columns, table: Table, rest: Array, held: Array) -> tuple[Array, Array, tuple[str, ...]]:
    """The features of the two parts of a training table; what only the validation part contains is noted as such."""
    (x, notes), (held_x, held_notes) = (columns.encode(table.subset(part)) for part in (rest, held))
    return x, held_x, (*notes, *(f"validation part: {note}" for note in held_notes if note not in notes))


def _groups(table: Table, groups: str | Sequence[Any] | Array | None) -> Array | None:
    """The group of every row, as a word or a number."""
    import numpy as np

    if groups is None:
        return None
    if isinstance(groups, str):
        if groups not in table.columns:
            hint = nearest(groups, table.columns)
            raise ReszooError("groups", got=repr(groups), expected=listing(table.columns, most=10), hint=hint)
        cells = table.columns[groups]
        for index in np.flatnonzero(cells.missing)[:1]:
            raise ReszooError(table.cell(groups, index), got=repr(cells.words[index]), expected="a group for every row")
        return cells.words
    values = series_cells(groups).words
    if len(values) != len(table):
        got = f"{counted(len(values), 'group')} of {counted(len(table), 'row')}"
        raise ReszooError("groups", got=got, expected="a group for every row")
    return np.asarray(values)


def _row_weights(table: Table, weights: str | Sequence[float] | Array | None) -> Array | None:
    """The weight of every row, from a column or beside the table."""
    import numpy as np

    if weights is None:
        return None
    if not isinstance(weights, str):
        values = np.asarray(weights)
        if len(values) != len(table):
            got = f"{counted(len(values), 'weight')} of {counted(len(table), 'row')}"
            raise ReszooError("sample_weight", got=got, expected="a number for every row")
        return values
    if weights not in table.columns:
        hint = nearest(weights, table.columns)
        raise ReszooError("sample_weight", got=repr(weights), expected=listing(table.columns, most=10), hint=hint)
    cells = table.columns[weights]
    bad = np.flatnonzero(np.isnan(cells.numbers))
    if len(bad):
        got = f"{str(cells.words[bad[0]])!r} in row {table.rows[bad[0]]}"
        raise ReszooError(f"{table.place}: column {weights}", got=got, expected="a weight: a number in every row")
    return cells.numbers


def read_rows(source: Any, columns: Columns | None) -> Rows:
    """Returns the rows of a table as a network takes them: for predictions; a target column is not needed.

    Args:
        source: see `is_table`.
        columns: the encoding that the network was trained with.

    Raises:
        ReszooError: there is no encoding, a column is missing, or a cell of a number column is no number.
    """
    table = read_table(source)
    if columns is None:
        got, hint = "a network whose file names no columns", "train it on a table, or give it an .npz with x"
        raise ReszooError(table.place, got=got, expected="a network that was trained on a table", hint=hint)
    x, notes = columns.encode(table)
    return Rows(table.name, tuple(map(str, table.rows)), x, (*table.notes, *notes))


def read_table(source: Any) -> Table:
    """Returns the cells of a table.

    Raises:
        ReszooError: a malformed file or frame; the message names the row.
    """
    if isinstance(source, tuple):
        return _with_targets(*source)
    return frame_table(source) if is_frame(source) else file_table(Path(source).expanduser())


def _with_targets(frame: Any, targets: Any) -> Table:
    """A frame with the columns of its target: a series, a further frame, an array or a list."""
    table = frame_table(frame)
    if is_frame(targets):
        further = frame_table(targets).columns
    else:
        name = getattr(targets, "name", None)
        name = str(name) if isinstance(name, (str, int)) else TARGET
        columns = targets.T if getattr(targets, "ndim", 1) == 2 else [targets]
        names = [name] if len(columns) == 1 else [f"{name} {number}" for number in range(len(columns))]
        further = {name: series_cells(values) for name, values in zip(names, columns, strict=True)}
    _refuse_another_order(frame, targets)
    for name, cells in further.items():
        hint = "a second table: test=..." if {*further} & {*table.columns} else ""
        if len(cells.words) != len(table):
            got = f"{counted(len(table), 'row')} and {counted(len(cells.words), 'value')} of {name}"
            raise ReszooError("the table", got=got, expected="equal numbers of both", hint=hint)
        if name in table.columns and not table.columns[name].same(cells):
            got = f"column {name!r} both in the frame and as the target, with different values"
            raise ReszooError("the table", got=got, expected="another name for one of them", hint=hint)
    return replace(table, columns={**table.columns, **further}, targets=tuple(further))


def _refuse_another_order(frame: Any, targets: Any) -> None:
    """Refuses a frame and a target that name the same rows in another order, as one does that was shuffled."""
    rows, others = ([*getattr(source, "index", ())] if hasattr(source, "iloc") else [] for source in (frame, targets))
    if rows != others and len(rows) == len(others) and {*rows} == {*others}:
        got = "a frame and its target with the same row labels in another order"
        raise ReszooError("the table", got=got, expected="one order", hint="target.loc[frame.index]")


def _named_as_in_training(table: Table, columns: Columns) -> Table:
    """The table with the target of training: a series or an array beside a frame may have another name, or none."""
    if not table.targets or len(table.targets) != len(columns.targets):
        return table
    others = {name: cells for name, cells in table.columns.items() if name not in table.targets}
    targets = [table.columns[name] for name in table.targets]
    return replace(table, columns=others | dict(zip(columns.targets, targets, strict=True)), targets=columns.targets)


def _copies(table: Table, targets: Sequence[str]) -> list[str]:
    """Notes on columns that hold the target: with one of them, a network has nothing to learn."""
    goals, notes = [table.columns[name] for name in targets], []
    for name, cells in table.columns.items():
        if name in targets:
            continue
        same = any(map(cells.same, goals))
        if same or any(_renames(cells, goal) for goal in goals):
            what = "the values of the target in every row" if same else "another name for each value of the target"
            notes.append(f"column {name}: {what}; leave it out if it is not known before")
    return notes


def _renames(cells: Cells, goal: Cells) -> bool:
    """Whether each value of one column stands for one of another, as codes stand for names, in at least two rows."""
    pairs = {*zip(cells.words, goal.words, strict=True)}
    return 1 < len(pairs) <= len(goal.words) / 2 and len(pairs) == len({*cells.words}) == len({*goal.words})
