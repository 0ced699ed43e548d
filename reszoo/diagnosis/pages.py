"""Diagnosis, comparison and evidence as pages: tables, pictures, and the numbers as JSON beside them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from reszoo.diagnosis.findings import SCORES
from reszoo.report.lines import Line, draw_lines
from reszoo.report.page import Cell, Gallery, Image, Section, Table, write_page
from reszoo.report.pictures import Picture
from reszoo.writing import renamed_when_whole

if TYPE_CHECKING:
    from reszoo.diagnosis.compare import Comparison
    from reszoo.diagnosis.doctor import Diagnosis
    from reszoo.diagnosis.evidence import Evidence
    from reszoo.diagnosis.result import Result

KINDS = ("residual", "plain", "control")
TONES = {"healthy": "good", "strained": "fair", "broken": "bad", "unknown": "muted"}


def write_evidence(found: Evidence, folder: Path) -> Path:
    """Writes index.html, evidence.json and a PNG of every picture, and returns the page."""
    folder.mkdir(parents=True, exist_ok=True)
    sections = [Section("The case in one table", [case_table(found)])]
    for finding in found.findings:
        pictures = [draw_lines(chart.lines, **chart.settings) for chart in finding.charts]
        for picture in pictures:
            picture.save(folder / f"{picture.name}.png")
        claim = finding.claim
        said = [
            f"The claim: {claim.said}",
            f"Measured: {claim.measure}; {finding.where}.",
            f"Found: {finding.reading}.",
        ]
        table = Table(finding.columns, finding.rows)
        published = [f"Published: {claim.published}", f"Caveat: {claim.caveat}"]
        gallery = Gallery(pictures, size="large")
        sections.append(Section(finding.name.capitalize(), [*said, gallery, table, *published]))
    write_json(folder / "evidence.json", found.to_dict())
    return write_page(
        folder / "index.html",
        title="What residual connections do",
        lead="Each claim about residual networks as a measurement: plain beside residual beside control, with what was "
        "published and what the numbers do not show. Small networks on small images: mechanisms, not benchmarks.",
        sections=sections,
        facts={"data": found.data, "time": f"{found.seconds:.0f} s"},
        foot=versions(),
    )


def case_table(found: Evidence) -> Table:
    """Returns a row for every claim: the numbers of every kind of network."""
    rows: list[list[Cell | str]] = []
    for finding in found.findings:
        cells = ["; ".join(f"{n.family}: {n.text}" for n in finding.numbers if n.kind == kind) for kind in KINDS]
        rows.append([finding.name, finding.claim.measure, *cells, finding.claim.caveat])
    return Table(("claim", "measured", *KINDS, "caveat"), rows, phone="stack")


def write_diagnosis(found: Diagnosis, folder: Path) -> Path:
    """Writes index.html, diagnosis.json and a PNG of every measurement, and returns the page."""
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[tuple[Cell | str, ...]] = [
        (one.title, Cell(one.level, tone=TONES[one.level]), one.verdict, control_text(one)) for one in found.results
    ]
    advice = [(one.what, one.because) for one in found.advice]
    sections = [
        Section("Findings", [Table(("measurement", "verdict", "numbers", "control"), rows, phone="stack")]),
        Section("What to change", [Table(("change", "because"), advice)] if advice else []),
    ]
    for one in found.results:
        file = folder / f"{one.title.replace(' ', '_')}.png"
        one.plot(file)
        sections.append(Section(one.title.capitalize(), [Image(file, one.verdict), one.thresholds]))
    sections.append(Section("Left out", [f"{title}: {why}." for title, why in found.skipped]))
    write_json(folder / "diagnosis.json", found.to_dict())
    state = "nothing strained or broken" if found.healthy else "not healthy"
    return write_page(
        folder / "index.html",
        title=f"Diagnosis of {found.model}",
        lead=f"{found.network}. Found: {state}. No single number says that a network trains: each stands beside its "
        "control, and the thresholds are told.",
        sections=sections,
        facts={"examples": str(found.examples), "time": f"{found.seconds:.0f} s"},
        foot=versions(),
    )


def control_text(result: Result) -> str:
    """Returns what a result is to be compared with, in words."""
    return ", ".join(f"{name} {value:.3g}" for name, value in result.control.items())


def write_comparison(found: Comparison, folder: Path) -> Path:
    """Writes index.html, comparison.json and a PNG of the curves, and returns the page."""
    folder.mkdir(parents=True, exist_ok=True)
    curves = [_curves(found, one.family) for one in found.contestants]
    for picture in curves:
        picture.save(folder / f"{picture.name}.png")
    first = found.contestants[0]
    who = Table(
        ("network", "kind", "what differs", "layers", "parameters", "more than the network's"),
        [(c.family, c.kind, c.told, c.depth, c.params, c.params - first.params) for c in found.contestants],
    )
    sections = [
        Section("Who is compared", [who, f"Budget: {found.budget.told}. All see the same examples in the same order."]),
        Section("Training", [Gallery(curves, size="large"), Table(*run_table(found))]),
        Section("The degradation gap", [gap_table(found)]),
        *(Section(f"Measured at {when}" if when == "initialisation" else f"Measured {when}", [*_measured(found, when)])
          for when in ("initialisation", "after training")),
    ]  # fmt: skip
    write_json(folder / "comparison.json", found.to_dict())
    return write_page(
        folder / "index.html",
        title=f"{found.name} beside its plain twin",
        lead="; ".join(f"{gap.family}: {gap.told}" for gap in found.gaps) + ".",
        sections=sections,
        facts={"data": found.data, "seeds": str(len(found.budget.seeds)), "time": f"{found.seconds:.0f} s"},
        foot=versions(),
    )


def run_table(found: Comparison) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Returns columns and rows: medians over seeds of every network and depth at its best rate."""
    rows = []
    for one in (*found.shallow, *found.contestants):
        same = found.of(one.family, one.depth)
        medians = [float(np.median([getattr(run, field) for run in same])) for field in SCORES]
        rows.append((one.family, one.depth, one.params, same[0].rate, *medians))
    return ("network", "layers", "parameters", "best rate", *SCORES.values()), rows


def gap_table(found: Comparison) -> Table:
    """Returns the gap of every family with its interval, in both modes."""
    columns = ("network", "gap, batch mode (nats)", "from", "to", "gap, inference", "reading")
    return Table(columns, [(g.family, g.gap, g.low, g.high, g.moving_gap, g.told) for g in found.gaps])


def _curves(found: Comparison, family: str) -> Picture:
    lines = []
    told = next(gap for gap in found.gaps if gap.family == family)
    kind = next(one.kind for one in found.contestants if one.family == family)
    for depth in (told.shallow, told.deep):
        first = found.of(family, depth)[0]
        deep = depth == told.deep
        label = f"{depth} layers, rate {first.rate:g}"
        lines.append(Line(label, first.losses, kind=kind if deep else "", weight="bold" if deep else "normal"))
    return draw_lines(
        lines,
        name=f"curves_{[one.family for one in found.contestants].index(family) + 1}",
        title=family,
        caption=f"{family}: training loss of every step; gap {told.told}.",
        xlabel="step",
        ylabel="training loss (nats)",
        yscale="log",
    )


def _measured(found: Comparison, when: str) -> Iterator[Table]:
    """A table for every measurement, a row for every network."""
    here = [one for one in found.measured if one.when == when]
    for title in dict.fromkeys(result.title for one in here for result in one.results):
        rows: list[tuple[Cell | str, ...]] = []
        threshold = ""
        for one in here:
            for result in one.results:
                if result.title == title:
                    verdict = Cell(result.level, tone=TONES[result.level])
                    rows.append((one.family, verdict, result.verdict, control_text(result)))
                    threshold = result.thresholds
        yield Table(("network", "verdict", "numbers", "control"), rows, caption=f"{title} ({threshold})", phone="stack")


def versions() -> str:
    """Returns the versions that figures depend on."""
    names = ("reszoo", "keras", keras.backend.backend())
    return ", ".join(f"{name} {version(name)}" for name in names)


def write_json(file: Path, data: Any) -> None:
    """Writes plain data."""
    with renamed_when_whole(file) as temporary:
        temporary.write_text(json.dumps(data, indent=2))
