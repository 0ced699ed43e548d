"""Which examples are held out for validation: a share of every class, or one of several folds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any, NamedTuple

from reszoo.errors import ReszooError
from reszoo.types import Array


class Division(NamedTuple):
    """Indices of the training examples and of the examples that are held out."""

    rest: Array
    held: Array
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Division({len(self.rest):,} for training, {len(self.held):,} held out)"


def divide(
    labels: Array,
    /,
    *,
    share: float,
    seed: int,
    groups: Any = None,
    copies: Array | None = None,
    folds: int | None = None,
    fold: int | None = None,
) -> Division:
    """Returns a stratified division of examples.

    Args:
        labels: class indices, `(n,)`; rows of 0 and 1; or numbers in rows (they are not stratified).
        share: of every class that is held out; of a class of two or more examples at least one.
        seed: of the order.
        groups: a group for every example; no group is on both sides.
        copies: a number for every example, the same for equal ones; they stay on one side where that leaves both
            sides an example.
        folds: number of folds instead of a share.
        fold: the one that is held out, from 0.

    Raises:
        ReszooError: an impossible number of folds or groups.
    """
    import numpy as np

    count, kinds = len(labels), strata(labels)
    _check_folds(folds, fold)
    if groups is not None:
        groups = _numbered(groups, count)
    distinct = count if groups is None else len(np.unique(groups))
    if folds is not None and folds > distinct:
        raise ReszooError("folds", got=f"{folds}, and {distinct} examples or groups", expected=f"2 to {distinct}")
    units, note = _joined(groups, copies), ""
    held = _held(kinds, units, share=share, seed=seed, folds=folds, fold=fold)
    if copies is not None and share and not 0 < len(held) < count:
        held = _held(kinds, groups, share=share, seed=seed, folds=folds, fold=fold)
        note = "copies of one picture are in training and in validation: there are no others"
    if groups is not None and share and not len(held):
        got = f"{distinct} groups, of which none can be held out"
        raise ReszooError("groups", got=got, expected="at least two groups that share the classes")
    return Division(np.setdiff1d(np.arange(count), held), held, (note,) if note and len(held) else ())


def _held(kinds: Array, units: Array | None, *, share: float, seed: int, folds: int | None, fold: int | None) -> Array:
    import numpy as np

    if folds is not None and fold is not None:
        return np.flatnonzero(_folds(kinds, units, folds, seed) == fold)
    return split(kinds, share, seed, units=units)[1]


def strata(labels: Array) -> Array:
    """Returns a stratum for every example: its class, its rarest class of several, or 0 for numbers."""
    import numpy as np

    if labels.ndim == 1:
        return labels
    if labels.dtype.kind == "f":
        return np.zeros(len(labels), "int64")
    frequency = labels.sum(axis=0, dtype="int64")
    rarest = np.where(labels > 0, frequency, len(labels) + 1).argmin(axis=1)
    return np.where(labels.any(axis=1), rarest, labels.shape[1]).astype("int64")


def split(labels: Sequence[int] | Array, share: float, seed: int, *, units: Array | None = None) -> tuple[Array, Array]:
    """Returns the indices of the remaining and of the held-out examples, stratified by class.

    Of every class with two or more examples at least one is held out, and never all.

    Args:
        labels: class indices.
        share: of every class.
        seed: of the order.
        units: a number for every example; examples with the same number stay on one side.
    """
    import numpy as np

    labels, random = np.asarray(labels), np.random.default_rng([seed, 7])
    total = np.bincount(labels)
    quotas = np.array([min(max(round(share * n), 1), n - 1) if share and n > 1 else 0 for n in total.tolist()])
    members = [random.permutation(np.flatnonzero(labels == index)) for index in np.unique(labels)]
    if units is None:
        held = np.concatenate([rows[: quotas[labels[rows[0]]]] for rows in members])
    else:
        held = _held_units(labels, units, members, quotas)
    held = np.sort(held).astype("int64")
    return np.setdiff1d(np.arange(len(labels)), held), held


def _held_units(labels: Array, units: Array, members: list[Array], quotas: Array) -> Array:
    """Whole units, class by class: in random order as far as the quotas go, else the smallest unit that can go."""
    import numpy as np

    rows_of, total = _rows_of(units), np.bincount(labels)
    held, selected = np.zeros_like(total), dict[int, None]()

    def counts(unit: int) -> Array:
        return np.bincount(labels[rows_of[unit]], minlength=len(total))

    for rows in members:
        index = labels[rows[0]]
        order = [unit for unit in dict.fromkeys(units[rows].tolist()) if unit not in selected]
        for unit in order:
            if held[index] >= quotas[index]:
                break
            if (held + counts(unit) <= quotas).all():
                selected[unit], held = None, held + counts(unit)
        if quotas[index] and not held[index]:
            fits = [u for u in order if ((held + counts(u) < total) | (counts(u) == 0)).all()]
            if fits:
                unit = min(fits, key=lambda u: len(rows_of[u]))
                selected[unit], held = None, held + counts(unit)
    return np.concatenate([rows_of[unit] for unit in selected]) if selected else np.zeros(0, "int64")


def _folds(labels: Array, units: Array | None, folds: int, seed: int) -> Array:
    """The fold of every example: units are dealt to the fold with the fewest examples of their class."""
    import numpy as np

    units = np.arange(len(labels)) if units is None else units
    random, rows_of = np.random.default_rng([seed, 7]), _rows_of(units)
    result, tally = np.full(len(labels), -1), np.zeros((folds, int(labels.max()) + 1), "int64")
    for index in np.unique(labels):
        rows = random.permutation(np.flatnonzero(labels == index))
        # Large units first: the small ones even out what they leave.
        for unit in sorted(dict.fromkeys(units[rows].tolist()), key=lambda unit: -len(rows_of[unit])):
            own = rows_of[unit]
            if result[own[0]] < 0:
                fold = int(np.lexsort((tally.sum(axis=1), tally[:, index]))[0])
                result[own] = fold
                tally[fold] += np.bincount(labels[own], minlength=tally.shape[1])
    return result


def _rows_of(units: Array) -> dict[int, Array]:
    import numpy as np

    order = np.argsort(units, kind="stable")
    values, starts = np.unique(units[order], return_index=True)
    return dict(zip(values.tolist(), np.split(order, starts[1:]), strict=True))


def _numbered(groups: Any, count: int) -> Array:
    import numpy as np

    values = list(groups) if isinstance(groups, Iterable) else []
    if len(values) != count:
        raise ReszooError("groups", got=f"{len(values)} groups", expected=f"one for each of {count} examples")
    values = [value.item() if hasattr(value, "item") else value for value in values]
    missing = next((row for row, value in enumerate(values) if value is None or value != value), None)
    if missing is not None:
        raise ReszooError(
            "groups", got=f"{values[missing]} for example {missing}", expected="a group for every example"
        )
    numbers: dict[Any, int] = {}
    try:
        return np.array([numbers.setdefault(value, len(numbers)) for value in values])
    except TypeError:
        raise ReszooError("groups", got=f"{values[0]!r}", expected="a word or a number for every example") from None


def _joined(groups: Array | None, copies: Array | None) -> Array | None:
    """One number for all examples that are linked by a group or by being equal."""
    import numpy as np

    if groups is None or copies is None:
        return groups if copies is None else copies
    links: dict[tuple[str, int], tuple[str, int]] = {}

    def root(node: tuple[str, int]) -> tuple[str, int]:
        while links.setdefault(node, node) != node:
            links[node] = links[links[node]]
            node = links[node]
        return node

    for group, copy in zip(groups.tolist(), copies.tolist(), strict=True):
        links[root(("copy", copy))] = root(("group", group))
    numbers: dict[tuple[str, int], int] = {}
    return np.array([numbers.setdefault(root(("group", group)), len(numbers)) for group in groups.tolist()])


def _check_folds(folds: int | None, fold: int | None) -> None:
    if folds is None and fold is None:
        return
    if folds is None or not isinstance(folds, Integral) or folds < 2:
        raise ReszooError("folds", got=folds, expected="a number of folds, at least 2")
    if fold is None or not isinstance(fold, Integral) or not 0 <= fold < folds:
        raise ReszooError("fold", got=fold, expected=f"the fold to hold out, 0 to {folds - 1}")


def refuse_own_validation(name: str, *, own: bool, groups: Any = None, folds: int | None = None, **_: Any) -> None:
    """Raises a ReszooError if a source with a validation part is to be split into groups or folds."""
    if own and (groups is not None or folds is not None):
        got = f"{'folds' if folds else 'groups'}, and a source with a validation part"
        raise ReszooError(name, got=got, expected="a source without a validation part")
