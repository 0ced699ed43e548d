"""A score against a cost: every net a mark, the front a line."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from reszoo.report.pictures import INK, Picture, hover, legend, literal, panel, style


@dataclass(frozen=True)
class Point:
    """One net: what it costs and what it reaches."""

    number: int
    cost: float
    score: float
    kind: str
    """residual, plain or another family: its colour and mark."""
    text: str
    """Shown under the pointer."""
    whole: bool = True
    """Trained to the end: drawn filled."""


def draw_front(
    points: Sequence[Point],
    *,
    front: Collection[int],
    name: str,
    title: str,
    caption: str,
    xlabel: str,
    ylabel: str,
    unit: str = "",
) -> Picture:
    """Returns a picture of scores against costs with the Pareto front as a line of steps.

    Args:
        points: the nets, at least one, with finite numbers.
        front: numbers of those on the Pareto front.
        name: file name of the picture without a suffix.
        title: above the panel.
        caption: what is to be seen, in a sentence.
        xlabel: the cost.
        ylabel: the score.
        unit: of the cost; k, M, G or m, µ stand before it.
    """
    axis = panel(title, xlabel=xlabel, ylabel=ylabel)
    best = sorted((point for point in points if point.number in front), key=lambda point: point.cost)
    if best:
        costs, scores = [point.cost for point in best], [point.score for point in best]
        costs.append(max(point.cost for point in points))
        scores.append(scores[-1])
        axis.plot(costs, scores, drawstyle="steps-post", color=INK, alpha=0.55, linewidth=1.3, label="Pareto front")
    kinds = list(dict.fromkeys(point.kind for point in points))
    for point in points:
        color, mark = style(point.kind, kinds.index(point.kind))
        face = color if point.whole else "none"
        size = 8.5 if point in best else 6
        alpha = 1 if point in best else 0.65
        drawn = axis.plot(
            [point.cost], [point.score], mark, markersize=size, color=color, markerfacecolor=face, alpha=alpha
        )
        hover(drawn[0], point.text)
    for place, kind in enumerate(kinds):
        color, mark = style(kind, place)
        axis.plot([], [], mark, color=color, label=literal(kind))
    if not all(point.whole for point in points):
        axis.plot([], [], "o", color=INK, markerfacecolor="none", alpha=0.6, label="stopped early")
    _scale(axis, [point.cost for point in points], unit)
    legend(axis)
    return Picture(name, caption, axis.figure)


def _scale(axis: Any, costs: Sequence[float], unit: str) -> None:
    """Makes the horizontal axis logarithmic where costs differ much, and writes k, M, G on it."""
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    if min(costs) > 0 and max(costs) / min(costs) >= 5:
        axis.set_xscale("log")
        decades = math.log10(max(costs) / min(costs))
        axis.xaxis.set_major_locator(
            LogLocator(subs=(1,) if decades > 2 else (1, 2, 5) if decades > 1 else (1, 2, 3, 5, 7))
        )
        axis.xaxis.set_minor_formatter(NullFormatter())
    axis.xaxis.set_major_formatter(EngFormatter(unit))
