"""The examples among each other and against their labels: copies, one example under two labels, leaked labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
from keras import tree

from reszoo.data.duplicates import copies
from reszoo.diagnosis.causes import Cause
from reszoo.diagnosis.program import Output, Program
from reszoo.diagnosis.weighting import class_numbers
from reszoo.types import Array

ROWS = 5000
"""Most examples that are compared."""
WRONG = 0.1
"""Share of examples that no network can get right, from which on it is a cause."""
FEWEST = 30
"""Fewest examples from which a column is compared with the labels."""
COPIES = 0.05
"""Share of copies from which on they are noted."""
COLUMNS = 64
PERMUTATIONS = 19
"""Label orders of which none may fit a column as well as the labels do."""


def contradictions(program: Program) -> Iterator[Cause]:
    """Yields equal inputs with different classes: whatever the network, all but one class of them are wrong.

    The control is the share that is wrong where the classes are dealt out anew to the same inputs.
    """
    rows, keys = _keys(program)
    if keys is None:
        return
    for output in program.outputs:
        numbers = class_numbers(output.y[rows]) if output.form in ("one-hot", "binary", "classes") else None
        if numbers is None:
            continue
        wrong = _wrong(keys, numbers)
        chance = _wrong(keys, np.random.default_rng(0).permutation(numbers))
        if wrong < WRONG:
            continue
        yield Cause(
            "labels",
            f"{wrong:.0%} of the examples are equal to one of another class ({len(np.unique(keys)):,} different "
            f"inputs among {len(rows):,}); {chance:.0%} where classes are dealt out at random",
            f"no network gets more than {1 - wrong:.0%} right: equal inputs have equal outputs",
            "x_unique, index = np.unique(x.reshape(len(x), -1), axis=0, return_inverse=True)  # look at y of one index",
            certain=wrong > 0.5 * chance,
            evidence={"share that cannot be right": wrong, "classes at random": chance},
        )


def example_notes(program: Program) -> Iterator[str]:
    """Yields how many examples are copies of others, and columns equal to the numbers of a regression."""
    rows, keys = _keys(program)
    count = 0 if keys is None else len(rows) - len(np.unique(keys))
    chance = _chance(program, rows) if count >= COPIES * len(rows) else count
    if count > 2 * chance:
        yield (
            f"{count:,} of {len(rows):,} inputs are copies of others ({chance:,} where every column is shuffled): "
            "copies on both sides of a split make the validation too good"
        )
    for output in program.outputs:
        parts, y = tree.flatten(program.x), output.y[rows].reshape(len(rows), -1)
        if output.form != "values" or len(parts) != 1 or parts[0].ndim != 2 or y.shape[1] != 1 or len(rows) < FEWEST:
            continue
        equal = [column for column in range(parts[0].shape[1]) if np.array_equal(parts[0][rows, column], y[:, 0])]
        if equal:
            yield f"{_columns(equal)} of the inputs equal{'s' * (len(equal) == 1)} the true value in every example"


def _chance(program: Program, rows: Array) -> int:
    """Returns the number of copies among rows whose columns are shuffled independently.

    Rows of few possible values, such as truth tables, have as many there.
    """
    flat = [np.asarray(part)[rows].reshape(len(rows), -1) for part in tree.flatten(program.x)]
    x = np.concatenate([part[:, :COLUMNS].astype("float64") for part in flat if part.dtype.kind in "iufb"], axis=1)
    return len(x) - len(np.unique(np.random.default_rng(0).permuted(x, axis=0), axis=0))


def _keys(program: Program) -> tuple[Array, Array | None]:
    """Returns rows, and a number for each of them, the same for equal inputs; None where all differ."""
    rows = program.finite_rows[:ROWS]
    parts = [np.ascontiguousarray(np.asarray(part)[rows]) for part in tree.flatten(program.x)]
    digests = [tuple(part[row].tobytes() for part in parts) for row in range(len(rows))]
    return rows, copies(digests)


def _wrong(keys: Array, numbers: Array) -> float:
    """Returns the share of examples that are not of the most frequent class among their equals."""
    pairs = Counter(zip(keys.tolist(), numbers.tolist(), strict=True))
    best: dict[int, int] = {}
    for (key, _), count in pairs.items():
        best[key] = max(best.get(key, 0), count)
    return 1 - sum(best.values()) / len(keys)


def leaks(program: Program) -> Iterator[Cause]:
    """Yields columns of a table that are the label, or its classes under other names.

    A column counts if every class has one value of its own, and none of 19 other orders of the labels does as well.
    """
    parts = tree.flatten(program.x)
    rows = program.finite_rows[:ROWS]
    if len(parts) != 1 or parts[0].ndim != 2 or parts[0].shape[1] < 2 or len(rows) < FEWEST:
        return
    x = parts[0][rows]
    for output in program.outputs:
        columns = [*_leaking(x, output, rows)]
        if columns:
            yield Cause(
                "labels",
                f"{_columns(columns)} of the inputs {'is' if len(columns) == 1 else 'are'} the class, or stand for it, "
                f"in all {len(rows):,} examples",
                "the network learns to copy it, and fails where the class is not known before",
                f"x = np.delete(x, {columns}, axis=1)  # unless it is known at prediction time",
                certain=False,
                evidence={"columns": len(columns), "other orders of the labels that fit": 0},
            )


def _leaking(x: Array, output: Output, rows: Array) -> Iterator[int]:
    numbers = class_numbers(output.y[rows]) if output.form in ("one-hot", "binary", "classes") else None
    if numbers is None or min(Counter(numbers.tolist()).values()) < 3 or len(np.unique(numbers)) < 2:
        return
    classes = len(np.unique(numbers))
    random = np.random.default_rng(0)
    for column in range(x.shape[1]):
        values = x[:, column]
        if len(np.unique(values[:200])) > classes or len(np.unique(values)) != classes:
            continue
        orders = (random.permutation(numbers) for _ in range(PERMUTATIONS))
        if _one_to_one(values, numbers) and not any(_one_to_one(values, order) for order in orders):
            yield column


def _columns(columns: list[int]) -> str:
    return f"column{'s' * (len(columns) > 1)} {', '.join(map(str, columns[:3]))}{', ...' * (len(columns) > 3)}"


def _one_to_one(values: Array, numbers: Array) -> bool:
    """Returns whether every class has one value, and every value one class."""
    return len(set(zip(values.tolist(), numbers.tolist(), strict=True))) == len(np.unique(numbers))
