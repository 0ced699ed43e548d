"""Pictures of score and cost of the trials of a search: the Pareto front, and the best score against compute."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reszoo.report.page import Content, Gallery
from reszoo.report.panels import legend, panel, scale
from reszoo.report.pictures import INK, Picture, hover, literal, style
from reszoo.report.trials import Row, describe, interval

COSTS = {
    "params": ("parameters", "Parameters", ""),
    "macs": ("MACs", "Multiply-accumulates", ""),
    "latency": ("latency", "Latency", "s"),
}
"""Field of a row -> name, title, unit."""


def _height(score: float, examples: int | None) -> float:
    """What is drawn of a score: an accuracy as its error, at least half an example, so that it has a logarithm."""
    return score if examples is None else max(1 - score, 0.5 / examples)


def cost_points(rows: Iterable[Row], *, cost: str, score: str, examples: int | None) -> list[Point]:
    """Returns one point for every row that has this cost and a score."""
    return [
        Point(
            row.number,
            float(value),
            _height(row.score, examples),
            row.kind,
            describe(row, score=score),
            complete=row.ended,
            span=_span(row.score, examples),
        )
        for row in rows
        if (value := getattr(row, cost)) is not None and row.score is not None
    ]


def _span(score: float, examples: int | None) -> tuple[float, float] | None:
    if examples is None:
        return None
    low, high = interval(score, examples)
    return _height(high, examples), _height(low, examples)


def _axis(score: str, examples: int | None) -> tuple[str, str]:
    """Label and scale of the axis of scores."""
    return (score, "linear") if examples is None else (score.replace("accuracy", "error"), "log")


def front_pictures(
    points: Mapping[str, Sequence[Point]],
    fronts: Mapping[str, Collection[int]],
    *,
    score: str,
    examples: int | None,
) -> list[Content]:
    """Returns a sentence and one picture of score and cost for every cost, with its Pareto front."""
    pictures: list[Picture] = []
    label, scale = _axis(score, examples)
    same = _is_same_picture(points, fronts)
    for cost, (xlabel, title, unit) in COSTS.items():
        kinds = Counter(point.kind for point in points[cost] if point.number in fronts[cost])
        counts = ", ".join(f"{count} {kind}" for kind, count in kinds.items()) or "no trial"
        if points[cost] and not (cost == "params" and same):
            note = " Parameters order the trials in nearly the same way." if cost == "macs" and same else ""
            picture = draw_front(
                points[cost],
                front=fronts[cost],
                name=f"pareto_{cost}",
                title=title,
                caption=f"{title}: all trials with a score; on the Pareto front: {counts}.{note}",
                xlabel=xlabel,
                ylabel=label,
                unit=unit,
                yscale=scale,
            )
            pictures.append(picture)
    if not pictures:
        return []
    return [
        "The line is the Pareto front: the finished trials that no other one beats in both score and cost. "
        "Pruned trials fell behind the others and were ended early; they are drawn hollow and on no front, because "
        f"their final scores are unknown. Scores are of validation examples{_spans(examples)}.",
        Gallery(pictures),
    ]


def _spans(examples: int | None) -> str:
    if examples is None:
        return ""
    return f"; vertical lines are 95 % intervals for {examples:,} of them. An error of 0 is drawn as half an example"


def _is_same_picture(points: Mapping[str, Sequence[Point]], fronts: Mapping[str, Collection[int]]) -> bool:
    """Whether parameters and MACs put the trials into the same order, with the same front."""
    orders = [
        [point.number for point in sorted(points[cost], key=lambda point: (point.cost, point.number))]
        for cost in ("params", "macs")
    ]
    return orders[0] == orders[1] and {*fronts["params"]} == {*fronts["macs"]} and len(points["macs"]) > 1


def progress_picture(rows: Sequence[Row], *, passes: int, score: str, examples: int | None, sign: int) -> list[Content]:
    """Returns the best score so far against the compute of training, where two trials have a score."""
    label, scale = _axis(score, examples)
    steps = [
        Step(
            row.number,
            # Backward passes cost about twice as much as the forward pass.
            3.0 * row.macs * row.epochs * passes,
            _height(row.score, examples),
            row.ended,
            row.kind,
            describe(row, score=score),
        )
        for row in sorted(rows, key=lambda row: row.number)
        if row.scored and row.score is not None
    ]
    if not any(step.counts for step in steps) or len(steps) < 2:
        return []
    lower = (sign < 0) != (examples is not None)
    return [draw_progress(steps, name="best_so_far", ylabel=label, yscale=scale, lower=lower)]


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


@dataclass(frozen=True)
class Step:
    """One trial, in the order of the search."""

    number: int
    compute: float
    """Multiply-accumulates of its training."""
    score: float
    """What is drawn: the score, or the error."""
    counts: bool
    """Whether it was trained to its end, so that it can be the best one."""
    kind: str
    text: str


def best_so_far(steps: Sequence[Step], *, lower: bool) -> list[tuple[float, float]]:
    """Returns the corners of the curve: compute so far, and the best score after it.

    Example:
        >>> steps = [Step(0, 2.0, 0.5, True, "plain", ""), Step(1, 3.0, 0.9, False, "plain", "")]
        >>> best_so_far([*steps, Step(2, 1.0, 0.7, True, "plain", "")], lower=False)
        [(2.0, 0.5), (6.0, 0.7)]
    """
    corners: list[tuple[float, float]] = []
    total = 0.0
    for step in steps:
        total += step.compute
        if step.counts and (not corners or ((step.score < corners[-1][1]) == lower and step.score != corners[-1][1])):
            corners.append((total, step.score))
    return corners


def draw_progress(steps: Sequence[Step], *, name: str, ylabel: str, yscale: str, lower: bool) -> Picture:
    """Returns a plot of all trials by the compute so far, and the best of them so far as a line.

    Args:
        steps: at least one.
        name: file name of the picture without a suffix.
        ylabel: what is drawn.
        yscale: linear or log.
        lower: whether less is better.
    """
    from matplotlib.ticker import EngFormatter

    axis: Any = panel("Best so far", xlabel="multiply-accumulates of training so far", ylabel=ylabel)
    total = 0.0
    for step in steps:
        total += step.compute
        color, mark = style(step.kind)[:2]
        fill = color if step.counts else "none"
        (dot,) = axis.plot([total], [step.score], mark, color=color, markerfacecolor=fill, markersize=5, alpha=0.6)
        hover(dot, step.text)
    corners = best_so_far(steps, lower=lower)
    if corners:
        across, up = [corner[0] for corner in corners], [corner[1] for corner in corners]
        label = literal("best so far")
        axis.plot([*across, total], [*up, up[-1]], drawstyle="steps-post", color=INK, linewidth=1.6, label=label)
    scale(axis, "y", [step.score for step in steps], yscale)
    axis.xaxis.set_major_formatter(EngFormatter())
    legend(axis)
    last = corners[-1][0] / total if corners and total else 0.0
    caption = (
        f"The best trial so far by the compute of all trials until then, in the order of their proposals; the last "
        f"gain came after {last:.0%} of it. Hollow: ended early by pruning."
    )
    return Picture(name, caption, axis.figure)
