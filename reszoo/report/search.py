"""The report of a search as a page."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import combinations

from reszoo.report.effects import Sample, draw_effect, draw_interaction, shares, written
from reszoo.report.lines import Line, draw_lines
from reszoo.report.page import Code, Content, Gallery, Page, Section
from reszoo.report.pictures import Picture
from reszoo.report.scatter import Point, draw_front
from reszoo.report.tables import short
from reszoo.report.trials import WHOLE, Row, at_one_epoch, describe, samples_of, table

CURVES = 60  # more lines than this hide one another
EFFECTS = 12


# field -> name, title, unit
COSTS = {
    "params": ("parameters", "Parameters", ""),
    "macs": ("MACs", "Multiply-accumulates", ""),
    "latency": ("latency", "Latency", "s"),
}


def search_page(
    *,
    rows: Sequence[Row],
    fronts: Mapping[str, Collection[int]] | None = None,
    title: str = "A search for depth and width",
    score: str = "validation accuracy",
    direction: str = "maximise",
    facts: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
    pair: tuple[str, str] | None = None,
    foot: str = "",
) -> Page:
    """Returns the report of a search as a page.

    Args:
        rows: the trials, in any state; none at all gives a page that says so.
        fronts: cost (params, macs, latency) -> numbers of the trials on its Pareto front.
        title: of the page.
        score: the quantity that was sought, as it is read.
        direction: maximise or minimise it.
        facts: words and numbers of the study to be seen first: feasible fraction, time, device.
        notes: paragraphs of the study's own, under the lead.
        pair: two dimensions for the heat map; otherwise the two that go with most of the score.
        foot: a line at the end, as versions and machine.
    """
    sign = -1 if direction == "minimise" else 1
    scored = sorted(
        (row for row in rows if row.scored), key=lambda row: (-sign * (row.score or 0), row.macs, row.number)
    )
    best = next(iter(scored), None)
    points = {cost: _points(scored, cost=cost, score=score) for cost in COSTS}
    fronts = {cost: (fronts or {}).get(cost, ()) for cost in COSTS}
    kept = {number for numbers in fronts.values() for number in numbers}
    sections = [
        Section("The study", [*notes] if scored or not rows else [*notes, "No trial has a score."]),
        Section(f"{score.capitalize()} against cost", _fronts(points, fronts, score=score)),
        Section("What depth, width and the rest do", _effects(scored, score=score, pair=pair)),
        Section("Learning curves", _curves(scored, score=score)),
        Section("The best network", _specs(best, [row for row in scored if row.number in kept and row is not best])),
        Section("All trials", [table(rows, score=score, best=best, kept=kept)] if rows else ["No trial has been run."]),
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
    said = f"{len(rows)} trials{f': {counts}' if counts else ''}."
    if best is None:
        return f"{said} None has a score yet."
    values = ", ".join(f"{name} {written(value)}" for name, value in best.values.items())
    return f"{said} The best is trial {best.number}, a {best.kind} network ({values}): {score} {best.score:.4g}."


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
    """The rows whose cost is known."""
    return [
        Point(row.number, float(spent), row.score, row.kind, describe(row, score=score), whole=row.state == WHOLE)
        for row in rows
        if (spent := getattr(row, cost)) is not None and row.score is not None
    ]


def _fronts(
    points: Mapping[str, Sequence[Point]], fronts: Mapping[str, Collection[int]], *, score: str
) -> list[Content]:
    pictures: list[Picture] = []
    for cost, (xlabel, title, unit) in COSTS.items():
        best = Counter(point.kind for point in points[cost] if point.number in fronts[cost])
        said = ", ".join(f"{count} {kind}" for kind, count in best.items()) or "no trial"
        if points[cost]:
            drawn = draw_front(
                points[cost],
                front=fronts[cost],
                name=f"pareto_{cost}",
                title=title,
                caption=f"{title}: every trial with a score; on the front {said}.",
                xlabel=xlabel,
                ylabel=score,
                unit=unit,
            )
            pictures.append(drawn)
    if not pictures:
        return []
    return [
        "The line joins the Pareto front: the finished trials that no other one beats in both score and cost. A trial "
        "that was stopped early, drawn hollow, counts with the score of its best epoch, whose weights are kept.",
        Gallery(pictures),
    ]


def _effects(rows: Sequence[Row], *, score: str, pair: tuple[str, str] | None) -> list[Content]:
    rows, said = at_one_epoch(rows)
    names = dict.fromkeys(name for row in rows for name in row.values)
    samples = {name: samples_of(rows, name) for name in names}
    found = {name: shares(samples[name]) for name in names}
    varied = [name for name in names if len({sample.at for sample in samples[name]}) > 1]
    varied.sort(key=lambda name: -max(found[name].values()))
    if not varied:
        return []
    drawn, left = varied[:EFFECTS], varied[EFFECTS:]
    fixed = [name for name in names if name not in varied]
    said += (
        " A line joins mean scores; nothing else is held still, and a sampler that learns draws good values more often."
        " The share of the variance is epsilon squared: about 0 % where the value does not matter."
    )
    said += f" Not drawn, with less of the variance: {', '.join(left)}." if left else ""
    said += f" The same in every trial: {', '.join(fixed)}." if fixed else ""
    pictures = [
        draw_effect(samples[name], dimension=name, name=f"effect_{place}_{_plain(name)}", ylabel=score)
        for place, name in enumerate(drawn, 1)
    ]
    shown: list[Content] = [said, Gallery(pictures)]
    chosen = pair or next(iter(combinations(varied, 2)), None)
    return [*shown, *_interaction(samples_of(rows, *chosen), dimensions=chosen, score=score)] if chosen else shown


def _interaction(samples: Sequence[Sample], *, dimensions: tuple[str, str], score: str) -> list[Content]:
    """A heat map for each family."""
    kinds = dict.fromkeys(sample.kind for sample in samples)
    pictures = [
        draw_interaction(
            [sample for sample in samples if sample.kind == kind],
            dimensions=dimensions,
            name=f"interaction_{_plain(kind)}",
            title=f"{kind}: {dimensions[0]} and {dimensions[1]}",
            score=score,
        )
        for kind in kinds
    ]
    return [Gallery(pictures, "large") if pictures else f"No trial has both {' and '.join(dimensions)}."]


def _plain(name: str) -> str:
    """A dimension's name as part of a file name."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")[:40] or "dimension"


def _curves(rows: Sequence[Row], *, score: str) -> list[Content]:
    with_curves = [row for row in rows if row.curve]
    shown = with_curves[:CURVES]
    pictures = []
    for kind in dict.fromkeys(row.kind for row in shown):
        mine = [row for row in shown if row.kind == kind]
        lines = [
            Line(
                f"trial {row.number}, {row.score:.4g}",
                row.curve,
                kind=kind,
                weight="bold" if row is mine[0] else "faint",
            )
            for row in reversed(mine)
        ]
        caption = f"{len(mine)} {kind} networks, the best in bold; a line that ends early was stopped."
        drawn = draw_lines(
            lines, name=f"curves_{_plain(kind)}", title=kind, caption=caption, xlabel="epoch", ylabel=score
        )
        pictures.append(drawn)
    if not pictures:
        return []
    left = len(with_curves) - len(shown)
    return [*([f"The best {len(shown)} are drawn, {left} are not."] if left else []), Gallery(pictures)]


def _specs(best: Row | None, others: Sequence[Row]) -> list[Content]:
    if best is None or not best.yaml:
        return []
    said = f"Trial {best.number}, to paste into a zoo file:"
    folded = [
        Code(
            row.yaml,
            f"On a front: trial {row.number}, {row.kind}, {row.score:.4g}, {short(row.params)} parameters",
            "closed",
        )
        for row in others
        if row.yaml
    ]
    return [Code(best.yaml, said), *folded]
