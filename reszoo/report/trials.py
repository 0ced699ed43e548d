"""One trial of a search: its plain data, in words and in a table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from reszoo.report.effects import Sample, Value, written
from reszoo.report.page import Cell, Table
from reszoo.report.tables import short

WHOLE = "complete"


@dataclass(frozen=True)
class Row:
    """One trial of a search."""

    number: int
    state: str
    """complete, pruned, failed, infeasible, running ...: complete and pruned ones can be on a Pareto front."""
    kind: str
    """residual or plain."""
    values: Mapping[str, Value]
    """What was drawn for each dimension; one that did not apply is left out."""
    params: int
    macs: int
    latency: float | None = None
    """Seconds for one batch of one."""
    score: float | None = None
    """None without one; not finite when the training diverged."""
    epochs: int = 0
    curve: Sequence[float] = ()
    """The score after each epoch, the first first."""
    yaml: str = ""
    """Its spec, to be pasted into a zoo file."""
    note: str = ""
    """Why it failed, in a line."""
    seconds: float | None = None
    """How long it trained."""

    @property
    def scored(self) -> bool:
        """Returns whether it has a score that can be compared."""
        return self.score is not None and math.isfinite(self.score)


def describe(row: Row, *, score: str) -> str:
    """Returns a trial in four lines."""
    latency = "" if row.latency is None else f", {_latency(row.latency)}"
    values = ", ".join(f"{name} {written(value)}" for name, value in row.values.items())
    cost = f"{short(row.params)} parameters, {short(row.macs)} MACs{latency}"
    reached = f"{score} {row.score:.4g} after {row.epochs} epochs"
    return f"trial {row.number}: {row.kind}, {row.state}\n{reached}\n{cost}\n{values}"


def _latency(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms"


def table(rows: Sequence[Row], *, score: str, best: Row | None, kept: set[int]) -> Table:
    """Returns all that is known of the trials; columns that nothing is known for are left out.

    Args:
        rows: the trials.
        score: name of the score.
        best: named as such.
        kept: numbers of the trials on a front, marked.
    """
    names = list(dict.fromkeys(name for row in rows for name in row.values))
    timed, noted = any(row.seconds is not None for row in rows), any(row.note for row in rows)
    measured = any(row.latency is not None for row in rows)
    columns = ["trial", "kind", "state", score, "parameters", "MACs", *(["latency"] if measured else []), "epochs"]
    columns += [*(["seconds"] if timed else []), *names, *(["note"] if noted else [])]
    lines = [
        [
            Cell(f"{row.number}{' (best)' if row is best else ''}", row.number),
            row.kind,
            Cell(row.state, tone="" if row.state == WHOLE else "muted"),
            None if row.score is None else Cell(f"{row.score:.4g}", row.score, "" if row.scored else "bad"),
            Cell(short(row.params), row.params),
            Cell(short(row.macs), row.macs),
            *([None if row.latency is None else Cell(_latency(row.latency), row.latency)] if measured else []),
            row.epochs,
            *([row.seconds] if timed else []),
            *(_value(row.values.get(name)) for name in names),
            *([row.note] if noted else []),
        ]
        for row in rows
    ]
    marked = frozenset(place for place, row in enumerate(rows) if row.number in kept)
    return Table(columns, lines, "Click a heading to sort; marked: on a Pareto front.", marked)


def _value(value: Value | None) -> Cell | None:
    if value is None:
        return None
    return Cell(value) if isinstance(value, str) else Cell(written(value), value)


def at_one_epoch(rows: Sequence[Row]) -> tuple[list[Row], str]:
    """Returns the rows as they scored at one epoch, the last that at least half of them reached, and that in words.

    A trial that was stopped after one epoch scores less than it would have: its values would look bad.
    """
    lengths = sorted((len(row.curve) for row in rows), reverse=True)
    epoch = lengths[(len(lengths) - 1) // 2] if rows else 0
    if not epoch:
        return list(rows), "Each trial by its recorded score."
    same = [replace(row, score=row.curve[epoch - 1]) for row in rows if len(row.curve) >= epoch]
    same = [row for row in same if row.scored]
    return same, f"All compared at epoch {epoch}, which {len(same)} of {len(rows)} trials with a score reached."


def samples_of(rows: Iterable[Row], *names: str) -> list[Sample]:
    """Returns the trials that have a score and all of these dimensions, as an effect sees them."""
    return [
        Sample(tuple(row.values[name] for name in names), row.kind, row.score)
        for row in rows
        if row.score is not None and all(name in row.values for name in names)
    ]
