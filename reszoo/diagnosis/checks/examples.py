"""The examples among each other and against their labels: copies, one example under two labels, leaks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
from keras import tree

from reszoo.data.examples import copies
from reszoo.diagnosis.causes import Cause
from reszoo.diagnosis.examples import class_numbers
from reszoo.diagnosis.output import Output
from reszoo.diagnosis.program import Program
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
    """Yields how many examples are copies of others, and columns that are the true value: odd, but no cause."""
    rows, keys = _keys(program)
    count = 0 if keys is None else len(rows) - len(np.unique(keys))
    chance = _chance(program, rows) if count >= COPIES * len(rows) else count
    if count > 2 * chance:
        yield (
            f"{count:,} of {len(rows):,} inputs are copies of others ({chance:,} where every column is shuffled): "
            "copies on both sides of a split make the validation too good"
        )
    yield from _leak_notes(program, rows)


def _leak_notes(program: Program, rows: Array) -> Iterator[str]:
    """Yields columns of a table that are the true value, or its class under another name."""
    parts = tree.flatten(program.x)
    if len(parts) != 1 or parts[0].ndim != 2 or len(rows) < FEWEST:
        return
    for output in program.outputs:
        columns = [*_leaking(parts[0][rows], output, rows)]
        if columns:
            several = len(columns) > 1
            yield (
                f"column{'s' * several} {', '.join(map(str, columns[:3]))}{', ...' * (len(columns) > 3)} of the inputs "
                f"{'are' if several else 'is'} the true value or stand{'s' * (not several)} for it in all "
                f"{len(rows):,} examples: leave it out unless it is known at prediction time"
            )


def _chance(program: Program, rows: Array) -> int:
    """Returns the number of copies among rows whose columns are shuffled independently.

    Rows of few possible values, such as truth tables, have as many there.
    """
    flat = [np.asarray(part)[rows].reshape(len(rows), -1) for part in tree.flatten(program.x)]
    if any(part.dtype.kind not in "iufb" for part in flat):
        return len(rows)
    x = np.concatenate([part[:, :COLUMNS].astype("float64") for part in flat], axis=1)
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


def _leaking(x: Array, output: Output, rows: Array) -> Iterator[int]:
    """Yields the columns in which every class has one value of its own, or which equal the numbers of a regression.

    The control: none of 19 other orders of the labels fits as well.
    """
    y = output.y[rows]
    if output.form == "values":
        flat = y.reshape(len(y), -1)
        if flat.shape[1] == 1:
            yield from (column for column in range(x.shape[1]) if np.array_equal(x[:, column], flat[:, 0]))
        return
    numbers = class_numbers(y) if output.form in ("one-hot", "binary", "classes") else None
    if numbers is None or min(Counter(numbers.tolist()).values()) < 3 or len(np.unique(numbers)) < 2:
        return
    classes, random = len(np.unique(numbers)), np.random.default_rng(0)
    for column in range(x.shape[1]):
        values = x[:, column]
        if len(np.unique(values[:200])) > classes or len(np.unique(values)) != classes:
            continue
        orders = (random.permutation(numbers) for _ in range(PERMUTATIONS))
        if _one_to_one(values, numbers) and not any(_one_to_one(values, order) for order in orders):
            yield column


def _one_to_one(values: Array, numbers: Array) -> bool:
    """Returns whether every class has one value, and every value one class."""
    return len(set(zip(values.tolist(), numbers.tolist(), strict=True))) == len(np.unique(numbers))
