"""The page of a search."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import combinations

from reszoo.report.effects import Sample, draw_effect, draw_interaction, format_value, shares
from reszoo.report.lines import Line, draw_lines
from reszoo.report.page import Code, Content, Gallery, Page, Section
from reszoo.report.pictures import Picture
from reszoo.report.scatter import Point, draw_front
from reszoo.report.tables import short
from reszoo.report.trials import ENDED, Row, describe, samples_of, scores_at_common_epoch, table

MAX_CURVES = 60
"""More lines in a plot hide one another."""
MAX_EFFECTS = 12

COSTS = {
    "params": ("parameters", "Parameters", ""),
    "macs": ("MACs", "Multiply-accumulates", ""),
    "latency": ("latency", "Latency", "s"),
}
"""Field of a row -> name, title, unit."""


def search_page(
    *,
    rows: Sequence[Row],
    fronts: Mapping[str, Collection[int]] | None = None,
    title: str = "Search for depth and width",
    score: str = "validation accuracy",
    direction: str = "maximize",
    facts: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
    pair: tuple[str, str] | None = None,
    foot: str = "",
) -> Page:
    """Returns the page of a search.

    Args:
        rows: the trials, in any state; the page also covers a study without trials.
        fronts: cost (params, macs, latency) -> numbers of the trials on its Pareto front.
        title: of the page.
        score: name of the objective.
        direction: maximize or minimize.
        facts: further key figures at the top: feasible fraction, time, device.
        notes: paragraphs below the introduction.
        pair: two dimensions for the heat map; by default the two that explain most of the variance.
        foot: a line at the end, such as versions and machine.
    """
    sign = -1 if direction == "minimize" else 1
    scored = sorted(
        (row for row in rows if row.scored), key=lambda row: (-sign * (row.score or 0), row.macs, row.number)
    )
    # Of those that were ended early, the score after more epochs is not known.
    best = next((row for row in scored if row.state in ENDED), None)
    points = {cost: _points(scored, cost=cost, score=score) for cost in COSTS}
    fronts = {cost: (fronts or {}).get(cost, ()) for cost in COSTS}
    optimal = {number for numbers in fronts.values() for number in numbers}
    sections = [
        Section("The study", [*notes] if scored or not rows else [*notes, "No trial has a score."]),
        Section(f"{score.capitalize()} and cost", _fronts(points, fronts, score=score)),
        Section("Effects of depth, width and other settings", _effects(scored, score=score, pair=pair)),
        Section("Learning curves", _curves(scored, score=score)),
        Section("The best network", _specs(best, [row for row in scored if row.number in optimal and row is not best])),
        Section(
            "All trials", [table(rows, score=score, best=best, optimal=optimal)] if rows else ["No trial has been run."]
        ),
    ]
    return Page(
        title=title,
        lead=_lead(rows, best=best, score=score),
        sections=sections,
        facts={**_facts(rows, best=best, score=score), **(facts or {})},
        foot=foot,
        file="report.html",
    )


def _lead(rows: Sequence[Row], *, best: Row | None, score: str) -> str:
    counts = ", ".join(f"{count} {state}" for state, count in Counter(row.state for row in rows).most_common())
    summary = f"{len(rows)} trials{f': {counts}' if counts else ''}."
    if best is None:
        return f"{summary} None has a score yet."
    values = ", ".join(f"{name} {format_value(value)}" for name, value in best.values.items())
    return f"{summary} The best is trial {best.number}, a {best.kind} network ({values}): {score} {best.score:.4g}."


def _facts(rows: Sequence[Row], *, best: Row | None, score: str) -> dict[str, str]:
    if best is None:
        return {"Trials": str(len(rows))}
    return {
        f"Best {score}": f"{best.score:.4g}",
        "Its parameters": short(best.params),
        "Its MACs": short(best.macs),
        "Trials": str(len(rows)),
    }


def _points(rows: Iterable[Row], *, cost: str, score: str) -> list[Point]:
    """One point for every row that has this cost and a score."""
    return [
        Point(row.number, float(value), row.score, row.kind, describe(row, score=score), complete=row.state in ENDED)
        for row in rows
        if (value := getattr(row, cost)) is not None and row.score is not None
    ]


def _fronts(
    points: Mapping[str, Sequence[Point]], fronts: Mapping[str, Collection[int]], *, score: str
) -> list[Content]:
    pictures: list[Picture] = []
    for cost, (xlabel, title, unit) in COSTS.items():
        kinds = Counter(point.kind for point in points[cost] if point.number in fronts[cost])
        counts = ", ".join(f"{count} {kind}" for kind, count in kinds.items()) or "no trial"
        if points[cost]:
            picture = draw_front(
                points[cost],
                front=fronts[cost],
                name=f"pareto_{cost}",
                title=title,
                caption=f"{title}: all trials with a score; on the Pareto front: {counts}.",
                xlabel=xlabel,
                ylabel=score,
                unit=unit,
            )
            pictures.append(picture)
    if not pictures:
        return []
    return [
        "The line is the Pareto front: the finished trials that no other one beats in both score and cost. Trials that "
        "halving stopped early are drawn hollow, at their best epoch, and are on no front.",
        Gallery(pictures),
    ]


def _effects(rows: Sequence[Row], *, score: str, pair: tuple[str, str] | None) -> list[Content]:
    rows, text = scores_at_common_epoch(rows)
    names = dict.fromkeys(name for row in rows for name in row.values)
    samples = {name: samples_of(rows, name) for name in names}
    explained = {name: shares(samples[name]) for name in names}
    varied = [name for name in names if len({sample.at for sample in samples[name]}) > 1]
    varied.sort(key=lambda name: -max(explained[name].values()))
    if not varied:
        return []
    largest, others = varied[:MAX_EFFECTS], varied[MAX_EFFECTS:]
    constant = [name for name in names if name not in varied]
    text += (
        " A line connects mean scores. Other settings vary too, and an adaptive sampler draws good values more often."
        " The explained variance is epsilon squared: about 0 % where the value does not matter."
    )
    text += f" Not drawn, because they explain less: {', '.join(others)}." if others else ""
    text += f" The same in every trial: {', '.join(constant)}." if constant else ""
    pictures = [
        draw_effect(samples[name], dimension=name, name=f"effect_{number}_{_slug(name)}", ylabel=score)
        for number, name in enumerate(largest, 1)
    ]
    contents: list[Content] = [text, Gallery(pictures)]
    dimensions = pair or next(iter(combinations(varied, 2)), None)
    if dimensions:
        contents += _interaction(samples_of(rows, *dimensions), dimensions=dimensions, score=score)
    return contents


def _interaction(samples: Sequence[Sample], *, dimensions: tuple[str, str], score: str) -> list[Content]:
    """One heat map per family that has two values of each dimension."""
    kinds = dict.fromkeys(sample.kind for sample in samples)
    if not kinds:
        return [f"No trial has both {' and '.join(dimensions)}."]
    maps = [
        draw_interaction(
            [sample for sample in samples if sample.kind == kind],
            dimensions=dimensions,
            name=f"interaction_{_slug(kind)}",
            title=f"{kind}: {dimensions[0]} and {dimensions[1]}",
            score=score,
        )
        for kind in kinds
    ]
    pictures = [picture for picture in maps if picture is not None]
    return [Gallery(pictures, "large")] if pictures else []


def _slug(name: str) -> str:
    """The name of a dimension as part of a file name."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")[:40] or "dimension"


def _curves(rows: Sequence[Row], *, score: str) -> list[Content]:
    with_curves = [row for row in rows if row.curve]
    best = with_curves[:MAX_CURVES]
    pictures = []
    for kind in dict.fromkeys(row.kind for row in best):
        members = [row for row in best if row.kind == kind]
        lines = [
            Line(
                f"trial {row.number}, {row.score:.4g}",
                row.curve,
                kind=kind,
                weight="bold" if row is members[0] else "faint",
            )
            for row in reversed(members)
        ]
        caption = (
            f"{len(members)} {kind} networks, the best in bold; lines that end early are trials that were stopped."
        )
        picture = draw_lines(
            lines, name=f"curves_{_slug(kind)}", title=kind, caption=caption, xlabel="epoch", ylabel=score
        )
        pictures.append(picture)
    if not pictures:
        return []
    omitted = len(with_curves) - len(best)
    return [
        *([f"Only the best {len(best)} trials are drawn; {omitted} are not."] if omitted else []),
        Gallery(pictures),
    ]


def _specs(best: Row | None, others: Sequence[Row]) -> list[Content]:
    if best is None or not best.yaml:
        return []
    caption = f"Trial {best.number}, to paste into a zoo file:"
    collapsed = [
        Code(
            row.yaml,
            f"On a Pareto front: trial {row.number}, {row.kind}, {row.score:.4g}, {short(row.params)} parameters",
            "closed",
        )
        for row in others
        if row.yaml
    ]
    return [Code(best.yaml, caption), *collapsed]
