"""Learning the encoding of a table's columns from its training rows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from typing import NamedTuple

from reszoo.data.cells import NUMERIC, Cells, Table, counted, listing
from reszoo.data.columns import LARGEST, Column, number_hint
from reszoo.data.labels import case_notes
from reszoo.errors import ReszooError
from reszoo.types import Array

MOST_WORDS = 1000
"""A column with more words is left out."""
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}\.\d{3}")
"""A number whose point may divide its thousands."""
MARK = re.compile(r"-?9{2,}(\.0+)?")
"""A number that stands for a missing value in many tables: -999, 9999."""
MANY_WORDS = 100
"""A column with more words is noted."""
LIKE_A_NUMBER = re.compile(r"[^\w\s]{0,3}\s*[+-]?\d[\d.,_'\s]*\s*([^\W\d_]{1,4}|%|°\w?|€|£|¥)?\.?")
"""Numbers with units or signs for thousands: `12kg`, `1,234`, `$5`."""


class LearnedColumns(NamedTuple):
    """The encoding that training rows call for."""

    columns: tuple[Column, ...]
    unused: dict[str, str]
    """Columns that are left out, and why."""
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        return f"LearnedColumns({len(self.columns):,} columns, {len(self.unused):,} left out)"


def learn_columns(table: Table, *, targets: Collection[str]) -> LearnedColumns:
    """Returns the encoding of a table's columns.

    A column of which at least nine tenths are numbers is one of numbers; missing values, such as `NA`, do not count.
    Other columns are words. Left out are dates, columns with another word in most rows (names, identifiers), and those
    with one value only.

    Args:
        table: the training rows.
        targets: columns that are no features.

    Raises:
        ReszooError: a few cells of a column of numbers are none; or no column is left.
    """
    columns, unused, notes = [], {}, []
    for name, cells in table.columns.items():
        if name in targets:
            continue
        reason = _useless(cells)
        if reason:
            unused[name] = reason
            notes.append(f"column {name} left out: {reason}")
        elif cells.are_numbers:
            columns.append(_number(table, name, cells))
            notes += [f"column {name}: {note}" for note in _number_notes(cells, columns[-1])]
        else:
            columns.append(Column(name, "category", tuple(sorted(set(cells.words)))))
            notes += [f"column {name}: {note}" for note in _word_notes(cells)]
    if not columns:
        got = "; ".join(f"column {name}: {reason}" for name, reason in unused.items()) or "no column but the target"
        raise ReszooError(table.place, got=got[:300], expected="at least one column that a network can use")
    return LearnedColumns(tuple(columns), unused, tuple(notes))


def _useless(cells: Cells) -> str:
    """Why a column cannot be used, or nothing."""
    import numpy as np

    if not cells.values:
        return "no row has a value"
    if cells.are_numbers:
        numbers = cells.numbers[~np.isnan(cells.numbers)]
        if np.abs(numbers).max() > 2**53 and len(np.unique(numbers)) < len({*cells.words[~np.isnan(cells.numbers)]}):
            return f"numbers of so many digits ({cells.words[0]}) that many become equal: identifiers?"
        same = not len(cells.others) and len(numbers) == len(cells.words) and (numbers == numbers[0]).all()
        return f"{cells.words[0]!r} in every training row" if same else ""
    words = Counter(cells.words)
    if len(words) == 1:
        return f"{cells.words[0]!r} in every training row"
    values = Counter(cells.words[~cells.missing])
    example = listing(values, most=2)
    if cells.are_dates:
        return f"dates or times ({example}); write what matters, such as the month, as a column of its own"
    if mostly_unique(values):
        similar = _like_number(cells)
        looks = f"; {similar!r} is no number: write digits and a decimal point alone" if similar else ""
        return f"another word in most rows ({example}){looks}"
    return f"{len(values):,} words ({example})" if len(values) > MOST_WORDS else ""


def mostly_unique(words: Counter[str]) -> bool:
    """Returns whether more than half of the words occur once, in more than a tenth of the rows: no categories."""
    once = sum(count == 1 for count in words.values())
    return once > len(words) / 2 and once > words.total() / 10


def _number(table: Table, name: str, cells: Cells) -> Column:
    import numpy as np

    if len(cells.others):
        index = cells.others[0]
        word, values = cells.words[index], cells.values
        expected = f"a finite number, as in {values - len(cells.others):,} of {values:,} training rows"
        raise ReszooError(table.cell(name, index), got=repr(word), expected=expected, hint=number_hint(word))
    numbers = cells.numbers[~cells.missing]
    center, spread = _resolution(numbers)
    return Column(
        name,
        "number",
        median=float(np.median(numbers)),
        indicator=bool(cells.missing.any()),
        low=float(numbers.min()),
        high=float(numbers.max()),
        center=center,
        spread=spread,
    )


def _resolution(numbers: Array) -> tuple[float, float]:
    """Center and spread for numbers whose differences would be lost in float32; 0 and 1 for others."""
    import numpy as np

    largest = float(np.abs(numbers).max())
    if largest == 0 or largest > LARGEST:
        return 0.0, 1.0
    # Squares of very small numbers would be 0.
    spread = float(np.std(numbers / largest)) * largest
    if spread == 0 or np.spacing(np.float32(largest)) < spread / 1000:
        return 0.0, 1.0
    return float(np.median(numbers)), spread


def _number_notes(cells: Cells, column: Column) -> list[str]:
    """What is odd about a column of numbers."""
    import numpy as np

    notes, numbers = [], cells.numbers[~np.isnan(cells.numbers)]
    month, day = numbers // 100 % 100, numbers % 100
    dates = (numbers >= 19000101) & (numbers < 22000101) & (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)
    codes = [word for word in cells.words[~cells.missing] if len(word) > 1 and word[0] == "0" and word.isdecimal()]
    if codes:
        notes.append(f"read as numbers, though {codes[0]!r} begins with 0, as codes do")
    steps = np.diff(numbers)
    # Without the rows that are held out, an index has gaps.
    if len(numbers) > 2 and (numbers % 1 == 0).all() and (steps >= 1).all() and steps.sum() < 2 * len(numbers):
        notes.append("numbers the rows one by one; leave it out if it is an index")
    pointed = [word for word in cells.words if "." in word]
    whole = len(pointed) + int(cells.missing.sum()) < len(cells.words)
    if whole and len({word[-3:] for word in pointed}) > 2 and all(map(THOUSANDS.fullmatch, pointed)):
        notes.append(f"{pointed[0]!r} is read as {float(pointed[0]):g}; write thousands without a sign")
    for word in sorted({word for word in cells.words if MARK.fullmatch(word)}):
        value = float(word)
        others = numbers[numbers != value]
        count = len(numbers) - len(others)
        if count > 1 and len(others) and np.abs(others - value).min() > np.ptp(others):
            notes.append(f"{word!r} in {count:,} rows is far from all other values; write NA if it marks missing ones")
    if dates.all() and column.high > column.low:
        notes.append(f"read as numbers, though they look like dates ({column.low:.0f})")
    if column.spread != 1:
        notes.append("standardized before the numbers become float32, which would not tell them apart")
    return notes


def _word_notes(cells: Cells) -> list[str]:
    """What is odd about a column of words."""
    notes = []
    numbers = cells.values - len(cells.others)
    if numbers:
        example = cells.words[cells.others[0]]
        text = f"{numbers:,} of {cells.values:,} values are numbers, {example!r} is none"
        notes.append(f"{text}; below {NUMERIC:.0%} the column is read as words")
    elif similar := _like_number(cells):
        notes.append(f"read as words: {similar!r} is no number; write digits and a decimal point alone")
    words = set(cells.words)
    if len(words) > MANY_WORDS:
        notes.append(f"{len(words):,} words, a feature for each")
    if cells.missing.any():
        notes.append(f"{counted(int(cells.missing.sum()), 'missing value')}: a word of its own")
    return notes + case_notes(words)


def _like_number(cells: Cells) -> str:
    """A value that is no number, if most look like numbers with a unit, another sign or one for thousands."""
    values = cells.words[~cells.missing]
    similar = [word for word in values if LIKE_A_NUMBER.fullmatch(word)]
    others = (str(word) for word in cells.words[cells.others] if LIKE_A_NUMBER.fullmatch(word))
    return next(others, "") if len(similar) >= NUMERIC * len(values) else ""
