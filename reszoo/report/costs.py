"""Pictures of score and cost of the trials of a search: Pareto fronts, and the best score so far."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from reszoo.report.intervals import interval
from reszoo.report.page import Content, Gallery
from reszoo.report.pictures import Picture
from reszoo.report.progress import Step, draw_progress
from reszoo.report.scatter import Point, draw_front
from reszoo.report.trials import Row, describe

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
        f"nobody knows what they would have reached. Scores are of validation examples{_spans(examples)}.",
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
