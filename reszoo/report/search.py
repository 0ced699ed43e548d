"""The report of a search: a page, and its pictures beside it."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from reszoo.report.effects import Sample, Value, draw_effect, draw_interaction, groups, share, written
from reszoo.report.lines import Line, draw_lines
from reszoo.report.page import Cell, Code, Gallery, Part, Section, Table, write_page
from reszoo.report.pictures import Picture
from reszoo.report.scatter import Point, draw_front, front
from reszoo.report.tables import short

WHOLE = "complete"
CURVES = 60  # more lines than this hide one another
EFFECTS = 12


@dataclass(frozen=True)
class Row:
    """One trial of a search."""

    number: int
    state: str
    """complete, pruned, failed, infeasible, running ...: only complete ones are on a front."""
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
    seconds: float | None = field(default=None)
    """How long it trained."""

    @property
    def scored(self) -> bool:
        """Returns whether it has a score that can be compared."""
        return self.score is not None and math.isfinite(self.score)


COSTS: Mapping[str, tuple[str, str]] = {
    "params": ("parameters", "Parameters"),
    "macs": ("MACs", "Multiply-accumulates"),
    "latency": ("latency (s)", "Latency"),
}


@dataclass(frozen=True)
class SearchPage:
    """What was written."""

    page: Path
    pictures: tuple[Path, ...]


def search_page(
    folder: Path,
    *,
    rows: Sequence[Row],
    title: str = "A search for depth and width",
    score: str = "validation accuracy",
    direction: str = "maximise",
    facts: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
    pair: tuple[str, str] | None = None,
    foot: str = "",
) -> SearchPage:
    """Writes `report.html` and PNG pictures into a folder and returns their paths.

    Args:
        folder: where to write; made if it is not there.
        rows: the trials, in any state; none at all gives a page that says so.
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
    best = next((row for row in scored if row.state == WHOLE), None)
    fronts = {cost: _points(scored, cost=cost, score=score) for cost in COSTS}
    kept = {row.number for points in fronts.values() for row in _on_front(points, direction=direction)}
    sections = [
        Section("What was found", [*notes] if scored or not rows else [*notes, "No trial has a score."]),
        Section(f"{score.capitalize()} against cost", _fronts(fronts, score=score, direction=direction)),
        Section("What depth, width and the rest do", _effects(scored, score=score, pair=pair)),
        Section("Learning curves", _curves(scored, score=score)),
        Section("The best network", _specs(best, [row for row in scored if row.number in kept and row is not best])),
        Section(
            "All trials", [_table(rows, score=score, best=best, kept=kept)] if rows else ["No trial has been run."]
        ),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    drawn = [picture for section in sections for picture in _pictures(section.parts)]
    files = tuple(folder / f"{picture.name}.png" for picture in drawn)
    for picture, file in zip(drawn, files, strict=True):
        picture.save(file)
    found = {**_facts(rows, best=best, score=score), **(facts or {})}
    lead = _lead(rows, best=best, score=score)
    return SearchPage(
        write_page(folder / "report.html", title=title, lead=lead, sections=sections, facts=found, foot=foot), files
    )


def _lead(rows: Sequence[Row], *, best: Row | None, score: str) -> str:
    counts = ", ".join(f"{count} {state}" for state, count in Counter(row.state for row in rows).most_common())
    said = f"{len(rows)} trials{f': {counts}' if counts else ''}."
    if best is None:
        return f"{said} None is complete with a score yet."
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


def _points(rows: Iterable[Row], *, cost: str, score: str) -> list[tuple[Row, Point]]:
    """The rows whose cost is known, each with its mark."""
    made = []
    for row in rows:
        spent = getattr(row, cost)
        if spent is not None and row.score is not None:
            made.append((row, Point(float(spent), row.score, row.kind, _hover(row, score), whole=row.state == WHOLE)))
    return made


def _hover(row: Row, score: str) -> str:
    latency = "" if row.latency is None else f", {_latency(row.latency)}"
    values = ", ".join(f"{name} {written(value)}" for name, value in row.values.items())
    cost = f"{short(row.params)} parameters, {short(row.macs)} MACs{latency}"
    return f"trial {row.number}: {row.kind}, {row.state}\n{score} {row.score:.4g} after {row.epochs} epochs\n{cost}\n{values}"


def _latency(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms"


def _on_front(points: Sequence[tuple[Row, Point]], *, direction: str) -> list[Row]:
    rows = {id(point): row for row, point in points}
    return [rows[id(point)] for point in front((point for _, point in points), direction=direction)]


def _fronts(fronts: Mapping[str, Sequence[tuple[Row, Point]]], *, score: str, direction: str) -> list[Part]:
    pictures: list[Picture] = []
    for cost, points in fronts.items():
        best = Counter(row.kind for row in _on_front(points, direction=direction))
        if points:
            said = ", ".join(f"{count} {kind}" for kind, count in best.items()) or "no complete trial"
            caption = f"Every trial with a score; on the front: {said}."
            xlabel, title = COSTS[cost]
            drawn = draw_front(
                [point for _, point in points],
                name=f"pareto_{cost}",
                title=title,
                caption=caption,
                xlabel=xlabel,
                ylabel=score,
                direction=direction,
            )
            pictures.append(drawn)
    if not pictures:
        return []
    return [
        "The line joins the networks that no other complete one beats: cheaper, or as cheap and better.",
        Gallery(pictures),
    ]


def _effects(rows: Sequence[Row], *, score: str, pair: tuple[str, str] | None) -> list[Part]:
    names = dict.fromkeys(name for row in rows for name in row.values)
    samples = {name: _samples(rows, name) for name in names}
    parts = {name: groups(found) for name, found in samples.items()}
    varied = sorted((name for name in names if len(parts[name]) > 1), key=lambda name: -share(parts[name]))
    if not varied:
        return []
    fixed = [name for name in names if name not in varied]
    said = (
        "Each line joins mean scores; nothing else is held still, and a sampler that learns draws good values more often. "
        "The share of variance is epsilon squared, 0 % for what chance alone would give."
    )
    left = varied[EFFECTS:]
    more = [
        f"Not drawn, with less of the variance: {', '.join(left)}." if left else "",
        f"The same in every trial: {', '.join(fixed)}." if fixed else "",
    ]
    pictures = [
        draw_effect(samples[name], dimension=name, name=f"effect_{place}_{_plain(name)}", ylabel=score)
        for place, name in enumerate(varied[:EFFECTS], 1)
    ]
    chosen = pair or next(iter(combinations(varied, 2)), None)
    both = _samples(rows, *chosen) if chosen else []
    if chosen and both:
        pictures.append(draw_interaction(both, dimensions=chosen, name="interaction", score=score))
    return [" ".join([said, *filter(None, more)]), Gallery(pictures)]


def _samples(rows: Iterable[Row], *names: str) -> list[Sample]:
    return [
        Sample(tuple(row.values[name] for name in names), row.kind, row.score)
        for row in rows
        if row.score is not None and all(name in row.values for name in names)
    ]


def _plain(name: str) -> str:
    """A dimension's name as part of a file name."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")[:40] or "dimension"


def _curves(rows: Sequence[Row], *, score: str) -> list[Part]:
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


def _specs(best: Row | None, others: Sequence[Row]) -> list[Part]:
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


def _table(rows: Sequence[Row], *, score: str, best: Row | None, kept: set[int]) -> Table:
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


def _pictures(parts: Iterable[Part]) -> list[Picture]:
    found: list[Picture] = []
    for part in parts:
        shown = part.pictures if isinstance(part, Gallery) else [part]
        found += [picture for picture in shown if isinstance(picture, Picture)]
    return found
