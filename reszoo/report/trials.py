"""Trials of a search as plain data, as text and as a table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from reszoo.report.effects import Sample, Value, format_value
from reszoo.report.page import MISSING, Cell, Table
from reszoo.report.tables import short

Z = 1.96
"""Standard errors on either side of 95 %."""


def interval(share: float, examples: int) -> tuple[float, float]:
    """Returns the 95 % interval of a share of independent examples (Wilson 1927).

    Example:
        >>> [round(edge, 3) for edge in interval(0.973, 1297)]
        [0.963, 0.981]

    Args:
        share: such as an accuracy, from 0 to 1.
        examples: on which it was measured.
    """
    if examples < 1:
        return 0.0, 1.0
    square = Z * Z / examples
    center = (share + square / 2) / (1 + square)
    half = Z / (1 + square) * math.sqrt(share * (1 - share) / examples + square / (4 * examples))
    return max(center - half, 0.0), min(center + half, 1.0)


ENDED = ("complete", "timed_out")
"""States of trials that were trained to their end, or to that of their budget of seconds."""


@dataclass(frozen=True)
class Row:
    """One trial of a search."""

    number: int
    state: str
    """complete, timed_out, pruned, failed, infeasible, running, ...; the first two can be on a Pareto front."""
    kind: str
    """residual or plain."""
    values: Mapping[str, Value]
    """Dimension -> value; dimensions that do not apply are left out."""
    params: int
    macs: int
    latency: float | None = None
    """Inference seconds for one example."""
    score: float | None = None
    """None without one; not finite where the training diverged."""
    epochs: int = 0
    curve: Sequence[float] = field(default=(), repr=False)
    """The score after each epoch, in order."""
    yaml: str = field(default="", repr=False)
    """Its spec, to paste into a zoo file."""
    note: str = ""
    """The error message, one line."""
    seconds: float | None = None
    """Training time in seconds."""
    recipe: str = field(default="", repr=False)
    """Its recipe, to paste into a recipe file."""
    weights: str = ""
    """The file of its best weights, where they are kept."""
    test: float | None = None
    """The score on test examples, measured once."""

    @property
    def ended(self) -> bool:
        """Whether it was trained to its end."""
        return self.state in ENDED

    @property
    def scored(self) -> bool:
        """Whether it has a finite score."""
        return self.score is not None and math.isfinite(self.score)


def describe(row: Row, *, score: str) -> str:
    """Returns a description of a trial in four lines."""
    latency = "" if row.latency is None else f", {_latency(row.latency)}"
    values = ", ".join(f"{name} {format_value(value)}" for name, value in row.values.items())
    cost = f"{short(row.params)} parameters, {short(row.macs)} MACs{latency}"
    result = f"{score} {row.score:.4g} after {row.epochs} epochs"
    return f"trial {row.number}: {row.kind}, {row.state}\n{result}\n{cost}\n{values}"


def _latency(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms"


def table(
    rows: Sequence[Row], *, score: str, best: Row | None, optimal: set[int], examples: int | None = None
) -> Table:
    """Returns a table of all trials; columns without any value are left out.

    Args:
        rows: the trials.
        examples: validation examples, where the score is an accuracy: it then has a 95 % interval.
        score: name of the score.
        best: the trial that is labeled as the best.
        optimal: numbers of the trials on a Pareto front, which are highlighted.
    """
    names = list(dict.fromkeys(name for row in rows for name in row.values))
    has_seconds = any(row.seconds is not None for row in rows)
    has_notes = any(row.note for row in rows)
    has_latency = any(row.latency is not None for row in rows)
    has_tests = any(row.test is not None for row in rows)
    columns = ["trial", "kind", "state", score, *(["95 %"] if examples else []), *(["test"] if has_tests else [])]
    columns += ["parameters", "MACs", *(["latency"] if has_latency else []), "epochs"]
    columns += [*(["seconds"] if has_seconds else []), *names, *(["note"] if has_notes else [])]
    lines = [
        [
            Cell(f"{row.number}{' (best)' if row is best else ''}", row.number),
            row.kind,
            Cell(row.state, tone="" if row.ended else "muted"),
            None
            if row.score is None
            else Cell(f"{row.score:.4g}", row.score)
            if row.scored
            else Cell(MISSING, tone="bad"),
            *([_interval(row, examples)] if examples else []),
            *([row.test] if has_tests else []),
            Cell(short(row.params), row.params),
            Cell(short(row.macs), row.macs),
            *([None if row.latency is None else Cell(_latency(row.latency), row.latency)] if has_latency else []),
            row.epochs,
            *([row.seconds] if has_seconds else []),
            *(_value(row.values.get(name)) for name in names),
            *([row.note] if has_notes else []),
        ]
        for row in rows
    ]
    marked = frozenset(index for index, row in enumerate(rows) if row.number in optimal)
    caption = "Click a heading to sort; highlighted: on a Pareto front."
    return Table(columns, lines, caption, marked, dash="failed, diverged (a loss that is not finite), or not measured")


def _interval(row: Row, examples: int) -> str | None:
    if row.score is None or not row.scored:
        return None
    low, high = interval(row.score, examples)
    return f"{low:.3f} to {high:.3f}"


def _value(value: Value | None) -> Cell | None:
    if value is None:
        return None
    return Cell(value) if isinstance(value, str) else Cell(format_value(value), value)


def common_epoch(rows: Sequence[Row], *, share: float = 0.5) -> int:
    """Returns the last epoch that at least a share of the trials reached; 0 without curves."""
    lengths = sorted((len(row.curve) for row in rows), reverse=True)
    return lengths[math.ceil(len(lengths) * share) - 1] if rows else 0


def scores_at_common_epoch(rows: Sequence[Row], *, share: float = 0.5) -> tuple[list[Row], str]:
    """Returns the rows with their score at the last epoch that a share of them reached, and a sentence on it.

    A trial that was stopped early has a lower score than it would have reached, so final scores do not compare.
    """
    epoch = common_epoch(rows, share=share)
    if not epoch:
        return list(rows), "Trials are compared by their recorded score."
    compared = [replace(row, score=row.curve[epoch - 1]) for row in rows if len(row.curve) >= epoch]
    compared = [row for row in compared if row.scored]
    return compared, f"Compared at epoch {epoch}, which {len(compared)} of {len(rows)} trials with a score reached."


def samples_of(rows: Iterable[Row], *names: str) -> list[Sample]:
    """Returns samples of the trials that have a score and all of these dimensions."""
    return [
        Sample(tuple(row.values[name] for name in names), row.kind, row.score)
        for row in rows
        if row.score is not None and all(name in row.values for name in names)
    ]
