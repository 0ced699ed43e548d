"""Scatter plot of score and cost, with the Pareto front."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from reszoo.report.panels import legend, panel, scale
from reszoo.report.pictures import INK, Picture, hover, literal, style


@dataclass(frozen=True)
class Point:
    """One network: its cost and its score."""

    number: int
    cost: float
    score: float
    kind: str
    """residual, plain or another family: its color and marker."""
    text: str
    """Hover text."""
    complete: bool = True
    """Trained to the last epoch: drawn filled."""
    span: tuple[float, float] | None = None
    """An interval of the score, drawn where the network is on the front."""


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
    yscale: str = "linear",
) -> Picture:
    """Returns a scatter plot of scores and costs, with the Pareto front as a step line.

    Args:
        points: at least one, with finite numbers.
        front: numbers of the points on the Pareto front.
        name: file name of the picture without a suffix.
        title: shown above the panel.
        caption: one sentence that says what the plot shows.
        xlabel: name of the cost.
        ylabel: name of the score.
        unit: of the cost; prefixes such as k, M, G or m, µ are added.
        yscale: linear or log.
    """
    axis = panel(title, xlabel=xlabel, ylabel=ylabel)
    optimal = sorted((point for point in points if point.number in front), key=lambda point: point.cost)
    if optimal:
        costs, scores = [point.cost for point in optimal], [point.score for point in optimal]
        costs.append(max(point.cost for point in points))
        scores.append(scores[-1])
        axis.plot(costs, scores, drawstyle="steps-post", color=INK, alpha=0.55, linewidth=1.3, label="Pareto front")
    kinds = list(dict.fromkeys(point.kind for point in points))
    for point in points:
        color, mark, _ = style(point.kind, kinds.index(point.kind))
        fill = color if point.complete else "none"
        size, alpha = (8.5, 1) if point in optimal else (6, 0.65)
        artists = axis.plot(
            [point.cost], [point.score], mark, markersize=size, color=color, markerfacecolor=fill, alpha=alpha
        )
        hover(artists[0], point.text)
        if point.span is not None and point in optimal:
            axis.plot([point.cost] * 2, point.span, color=color, alpha=0.55, linewidth=1.2)
    for index, kind in enumerate(kinds):
        color, mark, _ = style(kind, index)
        axis.plot([], [], mark, color=color, label=literal(kind))
    if not all(point.complete for point in points):
        axis.plot([], [], "o", color=INK, markerfacecolor="none", alpha=0.6, label="stopped early")
    _scale(axis, [point.cost for point in points], unit)
    scale(axis, "y", [point.score for point in points], yscale)
    legend(axis)
    return Picture(name, caption, axis.figure)


def _scale(axis: Any, costs: Sequence[float], unit: str) -> None:
    """Sets a logarithmic horizontal axis where costs differ by a factor of 5, and its labels k, M, G."""
    from matplotlib.ticker import EngFormatter

    wide = min(costs) > 0 and max(costs) / min(costs) >= 5
    scale(axis, "x", costs, "log" if wide else "linear")
    axis.xaxis.set_major_formatter(EngFormatter(unit))
