"""The effect of one dimension of a search on the score, and of two together."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from random import Random
from statistics import fmean, median
from typing import Any

from reszoo.report.panels import draw_cell, legend, name_cells, panel, scale
from reszoo.report.pictures import COLORS, Picture, hover, literal, style
from reszoo.report.tables import short

MAX_GROUPS = 8
"""A numeric dimension with more values is split into bins."""
BINS = 6
FEW = 3
"""Networks from which on a mean is drawn with an interval, or as a cell."""
RESAMPLES = 200
"""Of a bootstrap."""

Value = float | str


@dataclass(frozen=True)
class Sample:
    """One trained network: its value of each dimension, its family and its score."""

    at: tuple[Value, ...]
    kind: str
    score: float


@dataclass(frozen=True)
class Group:
    """Samples with the same value, or with values in the same bin."""

    label: str
    center: Value
    samples: tuple[Sample, ...] = field(repr=False)

    def of(self, kind: str) -> list[float]:
        """Returns the scores of one family."""
        return [sample.score for sample in self.samples if sample.kind == kind]


def groups(samples: Sequence[Sample], *, axis: int = 0) -> tuple[Group, ...]:
    """Returns the samples grouped by one dimension, in order: one group per value, or bins of equal count."""
    values = sorted({sample.at[axis] for sample in samples}, key=_rank)
    parts = [[value] for value in values]
    if len(values) > MAX_GROUPS and not any(isinstance(value, str) for value in values):
        ordered = sorted(float(sample.at[axis]) for sample in samples)
        edges = sorted({ordered[len(ordered) * cut // BINS] for cut in range(1, BINS)})
        parts = [list(part) for _, part in groupby(values, key=lambda value: bisect_right(edges, float(value)))]
    return tuple(_group(part, samples, axis) for part in parts)


def _rank(value: Value) -> tuple[float, str]:
    """Sort key: numbers by size, then words alphabetically."""
    return (math.inf, value) if isinstance(value, str) else (float(value), "")


def _group(part: Sequence[Value], samples: Sequence[Sample], axis: int) -> Group:
    inside = tuple(sample for sample in samples if sample.at[axis] in part)
    if len(part) == 1:
        return Group(format_value(part[0]), part[0], inside)
    return Group(f"{part[0]:.2g} to {part[-1]:.2g}", median(float(sample.at[axis]) for sample in inside), inside)


def format_value(value: Value) -> str:
    """Returns a value of a dimension as text: 0.00316, 64, basic."""
    if isinstance(value, str | bool):
        return str(value)
    if abs(value) >= 1e4:
        return short(value)
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def shares(samples: Sequence[Sample]) -> dict[str, float]:
    """Returns family -> share of the variance of its scores that the first dimension explains, 0 to 1.

    Epsilon squared: eta squared corrected for degrees of freedom (Kelley 1935), so that many small groups explain
    nothing by their number alone. Families are separate because a dimension may affect them in opposite ways.
    """
    kinds = dict.fromkeys(sample.kind for sample in samples)
    return {kind: _share(groups([sample for sample in samples if sample.kind == kind])) for kind in kinds}


def mean_interval(scores: Sequence[float]) -> tuple[float, float]:
    """Returns the 95 % interval of a mean, by bootstrap."""
    random = Random(0)
    means = sorted(fmean(random.choices(scores, k=len(scores))) for _ in range(RESAMPLES))
    return means[round(0.025 * (RESAMPLES - 1))], means[round(0.975 * (RESAMPLES - 1))]


def _share(parts: Sequence[Group]) -> float:
    scores = [sample.score for part in parts for sample in part.samples]
    free = len(scores) - len(parts)
    total = _squares(scores)
    if free < 1 or len(parts) < 2 or not total:
        return 0.0
    within = sum(_squares([sample.score for sample in part.samples]) for part in parts)
    return max(0.0, 1 - (within / free) / (total / (len(scores) - 1)))


def _squares(scores: Sequence[float]) -> float:
    mean = fmean(scores)
    return math.fsum((score - mean) ** 2 for score in scores)


def draw_effect(samples: Sequence[Sample], *, dimension: str, name: str, ylabel: str) -> Picture:
    """Returns a plot of the score by one dimension: networks as faint marks, the means of each family as a line.

    Args:
        samples: at least one; the first dimension of `at` is drawn.
        dimension: its name.
        name: file name of the picture without a suffix.
        ylabel: name of the score.
    """
    parts = groups(samples)
    position = _positions(parts)
    axis = panel(dimension, ylabel=ylabel)
    for index, kind in enumerate(dict.fromkeys(sample.kind for sample in samples)):
        color, mark, dashes = style(kind, index)
        members = [sample for sample in samples if sample.kind == kind]
        axis.plot(
            [position(s.at[0]) for s in members],
            [s.score for s in members],
            mark,
            color=color,
            alpha=0.25,
            markersize=4,
        )
        means = [
            (position(group.center), group.label, fmean(scores), scores)
            for group in parts
            if (scores := group.of(kind))
        ]
        at, heights = [mean[0] for mean in means], [mean[2] for mean in means]
        axis.plot(at, heights, color=color, linewidth=1.8, linestyle=dashes, marker=mark, label=literal(kind))
        for x, label, mean, scores in means:
            dot = axis.plot([x], [mean], mark, color=color, markersize=7)[0]
            hover(dot, f"{kind}, {dimension} {label}\n{_spread(scores)}")
            if len(scores) >= FEW:
                axis.plot([x, x], mean_interval(scores), color=color, linewidth=1.2, alpha=0.8)
    _scale(axis, parts)
    legend(axis)
    return Picture(name, _explained(samples, dimension), axis.figure)


def _explained(samples: Sequence[Sample], dimension: str) -> str:
    """What a dimension explains, in a sentence."""
    kinds = dict.fromkeys(sample.kind for sample in samples)
    varied = [kind for kind in kinds if len({sample.at[0] for sample in samples if sample.kind == kind}) > 1]
    texts = [
        f"{share:.0%} of the variance of {kind} networks" for kind, share in shares(samples).items() if kind in varied
    ]
    if not varied:
        # A dimension that separates the families has one value in each.
        texts = [f"{_share(groups(samples)):.0%} of the variance of all networks, between {' and '.join(kinds)} ones"]
    return f"{dimension} explains {', '.join(texts)}; {len(samples)} networks."


def _spread(scores: Sequence[float]) -> str:
    return f"mean {fmean(scores):.4g} of {len(scores)}\nfrom {min(scores):.4g} to {max(scores):.4g}"


def _categorical(parts: Sequence[Group]) -> bool:
    """Whether the values are drawn side by side as categories, rather than on a numeric axis."""
    return len(parts) <= MAX_GROUPS and all(group.label == format_value(group.center) for group in parts)


def _positions(parts: Sequence[Group]) -> Callable[[Value], float]:
    if _categorical(parts):
        order = {group.center: float(number) for number, group in enumerate(parts)}
        return order.__getitem__
    return float


def _scale(axis: Any, parts: Sequence[Group]) -> None:
    if _categorical(parts):
        labels = [literal(group.label[:24]) for group in parts]
        rotation, align = (30, "right") if sum(map(len, labels)) > 30 else (0, "center")
        axis.set_xticks(range(len(parts)), labels, rotation=rotation, ha=align)
        axis.set_xlim(-0.5, len(parts) - 0.5)
        return
    values = [float(sample.at[0]) for group in parts for sample in group.samples]
    wide = min(values) > 0 and max(values) / min(values) >= 20
    scale(axis, "x", values, "log" if wide else "linear")


def draw_interaction(
    samples: Sequence[Sample],
    *,
    dimensions: tuple[str, str],
    name: str,
    title: str,
    score: str,
    limits: tuple[float, float] | None = None,
) -> Picture | None:
    """Returns a heat map of the mean score by two dimensions, or None where either has one value only.

    Cells of one or two networks are points.

    Args:
        samples: at least one; both dimensions of `at` are drawn.
        dimensions: their names, that of the horizontal axis first.
        name: file name of the picture without a suffix.
        title: shown above the panel.
        score: name of the score.
        limits: of the color scale, the same for pictures side by side; by default the scores of these networks.
    """
    across, up = groups(samples, axis=0), groups(samples, axis=1)
    if min(len(across), len(up)) < 2:
        return None
    cells = {}
    for column, horizontal in enumerate(across):
        for row, vertical in enumerate(up):
            scores = [sample.score for sample in horizontal.samples if sample in vertical.samples]
            if scores:
                cells[column, row] = scores
    means = {cell: fmean(scores) for cell, scores in cells.items()}
    low, high = limits or (min(means.values()), max(means.values()))
    axis = panel(title, xlabel=dimensions[0], ylabel=dimensions[1], width=5.5, height=4)
    name_cells(axis, [group.label for group in across], [group.label for group in up])
    for (column, row), mean in means.items():
        scores = cells[column, row]
        values = f"{dimensions[0]} {across[column].label}, {dimensions[1]} {up[row].label}"
        note = f"{values}\n{_spread(scores)}"
        if len(scores) < FEW:
            for index, each in enumerate(scores):
                strength = 0.25 + 0.75 * ((each - low) / (high - low) if high > low else 0.5)
                at = column + 0.2 * (index - (len(scores) - 1) / 2)
                (dot,) = axis.plot([at], [row], "o", color=COLORS["blue"], alpha=strength, markersize=7)
                hover(dot, note)
            continue
        count = f"\nn={len(scores)}" if len(up) <= 6 else ""
        share = (mean - low) / (high - low) if high > low else 0.5
        draw_cell(axis, column, row, share=share, color=COLORS["blue"], text=f"{mean:.3g}{count}", note=note)
    caption = (
        f"{title}: mean {score} by {dimensions[0]} and {dimensions[1]} of n networks; the stronger the color, "
        "the higher. One or two networks are points; cells without networks are empty."
    )
    return Picture(name, caption, axis.figure)
