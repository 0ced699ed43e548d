"""The page of a search."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations

from reszoo.report.costs import COSTS, cost_points, front_pictures, progress_picture
from reszoo.report.effects import Sample, draw_effect, draw_interaction, format_value, shares
from reszoo.report.lines import Line, draw_lines
from reszoo.report.page import Cell, Code, Content, Gallery, Page, Section, Table
from reszoo.report.tables import short
from reszoo.report.trials import Row, interval, samples_of, scores_at_common_epoch, table

MAX_CURVES = 60
"""More lines in a plot hide one another."""
MAX_EFFECTS = 12
MIN_TRIALS = 10
"""Trials below which effects are not drawn."""
COMPARED = 0.9
"""Share of the trials that reached the epoch at which effects are compared: with pruning, the first time it judges."""


def search_page(
    *,
    rows: Sequence[Row],
    fronts: Mapping[str, Collection[int]] | None = None,
    title: str = "Search for depth and width",
    score: str = "validation accuracy",
    direction: str = "maximize",
    facts: Mapping[str, str] | None = None,
    foot: str = "",
    examples: int | None = None,
    passes: int = 1,
    importances: Mapping[str, float] | None = None,
    commands: str = "",
) -> Page:
    """Returns the page of a search.

    Args:
        rows: the trials, in any state; the page also covers a study without trials.
        fronts: cost (params, macs, latency) -> numbers of the trials on its Pareto front.
        title: of the page.
        score: name of the objective.
        direction: maximize or minimize.
        facts: further key figures at the top: feasible fraction, time, device.
        foot: a line at the end, such as versions and machine.
        examples: for validation, where the score is an accuracy: it has 95 % intervals then, and is drawn as error.
        passes: examples that a network is trained on in an epoch, for the compute.
        importances: dimension -> share of the variance that it explains, with all others.
        commands: that write and train the best network again.
    """
    sign = -1 if direction == "minimize" else 1
    scored = sorted(
        (row for row in rows if row.scored), key=lambda row: (-sign * (row.score or 0), row.macs, row.number)
    )
    # Of those that were ended early, the score after more epochs is not known.
    best = next((row for row in scored if row.ended), None)
    points = {cost: cost_points(scored, cost=cost, score=score, examples=examples) for cost in COSTS}
    fronts = {cost: (fronts or {}).get(cost, ()) for cost in COSTS}
    optimal = {number for numbers in fronts.values() for number in numbers}
    sections = [
        Section("The study", [] if scored or not rows else ["No trial has a score."]),
        Section(f"{score.capitalize()} and cost", front_pictures(points, fronts, score=score, examples=examples)),
        Section("The best so far", progress_picture(rows, passes=passes, score=score, examples=examples, sign=sign)),
        Section("Effects of depth, width and other settings", _effects(scored, importances, score=score)),
        Section("Learning curves", _curves(scored, score=score)),
        Section(
            "The best network",
            _specs(best, [row for row in scored if row.number in optimal and row is not best], commands),
        ),
        Section(
            "All trials",
            [table(rows, score=score, best=best, optimal=optimal, examples=examples)]
            if rows
            else ["No trial has been run."],
        ),
    ]
    return Page(
        title=title,
        lead=_lead(rows, best=best, score=score, examples=examples),
        sections=sections,
        facts={**_facts(rows, best=best, score=score), **(facts or {})},
        foot=foot,
        file="report.html",
    )


def _lead(rows: Sequence[Row], *, best: Row | None, score: str, examples: int | None) -> str:
    counts = ", ".join(f"{count} {state}" for state, count in Counter(row.state for row in rows).most_common())
    summary = f"{len(rows)} trials{f': {counts}' if counts else ''}."
    if best is None:
        return f"{summary} None has been trained to its end yet."
    values = ", ".join(f"{name} {format_value(value)}" for name, value in best.values.items())
    text = f"{summary} The best is trial {best.number}, a {best.kind} network ({values}): {score} {best.score:.4g}"
    if examples is None or best.score is None:
        return f"{text}."
    low, high = interval(best.score, examples)
    looks = sum(row.epochs for row in rows)
    return (
        f"{text}, 95 % interval {low:.3f} to {high:.3f} ({examples:,} examples). It is the largest of {looks:,} "
        "evaluations on these examples, and therefore optimistic."
    )


def _facts(rows: Sequence[Row], *, best: Row | None, score: str) -> dict[str, str]:
    if best is None:
        return {"Trials": str(len(rows))}
    return {
        f"Best {score}": f"{best.score:.4g}",
        "Its parameters": short(best.params),
        "Its MACs": short(best.macs),
        "Trials": str(len(rows)),
    }


def _effects(rows: Sequence[Row], importances: Mapping[str, float] | None, *, score: str) -> list[Content]:
    rows, text = scores_at_common_epoch(rows, share=COMPARED)
    if len(rows) < MIN_TRIALS:
        return [f"Too few trials ({len(rows)}) to tell what matters; about {MIN_TRIALS} are needed."] if rows else []
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
        " A line connects mean scores; vertical lines are their 95 % intervals by bootstrap. Other "
        "settings vary too, and an adaptive sampler draws good values more often."
        " The explained variance is epsilon squared: about 0 % where the value does not matter."
    )
    text += f" Not drawn, because they explain less: {', '.join(others)}." if others else ""
    text += f" The same in every trial: {', '.join(constant)}." if constant else ""
    pictures = [
        draw_effect(samples[name], dimension=name, name=f"effect_{number}_{_slug(name)}", ylabel=score)
        for number, name in enumerate(largest, 1)
    ]
    contents: list[Content] = [text, *_importances(importances), Gallery(pictures)]
    dimensions = next(iter(combinations(varied, 2)), None)
    if dimensions:
        contents += _interaction(samples_of(rows, *dimensions), dimensions=dimensions, score=score)
    return contents


def _importances(importances: Mapping[str, float] | None) -> list[Content]:
    if not importances:
        return []
    rows: list[list[Cell | str]] = [[name, Cell(f"{share:.0%}", share)] for name, share in importances.items()]
    caption = (
        "Importance by fANOVA (Hutter et al. 2014), trials that were ended early included. The shares add up to 100 %, "
        "chance included: compare them with the intervals below."
    )
    return [Table(["dimension", "importance"], rows, caption)]


def _interaction(samples: Sequence[Sample], *, dimensions: tuple[str, str], score: str) -> list[Content]:
    """One heat map per family that has two values of each dimension."""
    kinds = dict.fromkeys(sample.kind for sample in samples)
    if not kinds:
        return [f"No trial has both {' and '.join(dimensions)}."]
    scores = [sample.score for sample in samples]
    limits = (min(scores), max(scores))
    maps = [
        draw_interaction(
            [sample for sample in samples if sample.kind == kind],
            dimensions=dimensions,
            name=f"interaction_{_slug(kind)}",
            title=f"{kind}: {dimensions[0]} and {dimensions[1]}",
            score=score,
            limits=limits,
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


def _specs(best: Row | None, others: Sequence[Row], commands: str) -> list[Content]:
    if best is None or not best.yaml:
        return []
    contents: list[Content] = [Code(best.yaml, f"Trial {best.number}, to paste into a zoo file:")]
    contents += [Code(best.recipe, "Its recipe, to paste into a recipe file:")] if best.recipe else []
    contents += [f"Its weights: {best.weights}"] if best.weights else []
    contents += [Code(commands, "Write its files, or train it again on all examples:")] if commands else []
    collapsed = [
        Code(
            row.yaml,
            f"On a Pareto front: trial {row.number}, {row.kind}, {row.score:.4g}, {short(row.params)} parameters",
            "closed",
        )
        for row in others
        if row.yaml
    ]
    return [*contents, *collapsed]
