"""Results of a comparison: runs, gaps and measurements of every network, as a page and as plain data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from reszoo.diagnosis.measures.result import TONES, Result, control_text, plain
from reszoo.experiments.contestants import Contestant, TrainingBudget
from reszoo.experiments.degradation_gap import Gap, best
from reszoo.experiments.findings import SCORES
from reszoo.experiments.trainer import Run
from reszoo.notebook import html_table
from reszoo.report.lines import Line, draw_lines
from reszoo.report.page import Cell, Gallery, Page, Section, Table
from reszoo.report.pictures import Picture
from reszoo.report.write import Presentable, versions


@dataclass(frozen=True)
class Measured:
    """Measurements of one network."""

    family: str
    kind: str
    when: str
    """`initialisation` or `after training`."""
    results: tuple[Result, ...]
    left_out: Mapping[str, str]
    """Measurements that this network does not allow, with the reason."""

    def __repr__(self) -> str:
        return (
            f"Measured({self.family[:40]!r}, {self.when}: {len(self.results)} results, {len(self.left_out)} left out)"
        )


@dataclass(frozen=True)
class Comparison(Presentable):
    """A network compared with its plain twin and controls at two depths."""

    name: str
    data: str
    budget: TrainingBudget
    contestants: tuple[Contestant, ...]
    """The deep networks; the residual one first."""
    shallow: tuple[Contestant, ...]
    """The same families with fewer blocks."""
    runs: tuple[tuple[str, Run], ...]
    """Family and run: every depth, rate and seed."""
    gaps: tuple[Gap, ...]
    measured: tuple[Measured, ...]
    seconds: float

    def __repr__(self) -> str:
        gaps = f"{len(self.runs)} runs, {len(self.gaps)} gaps, {len(self.measured)} sets of measurements"
        return f"Comparison({self.name[:40]!r} on {self.data[:40]!r}: {gaps}, {self.seconds:.0f} s)"

    def _repr_html_(self) -> str:
        """Medians over seeds of every network and depth, with the gaps below."""
        columns, rows = self.run_table()
        cells = [[round(cell, 4) if isinstance(cell, float) else cell for cell in row] for row in rows]
        note = "; ".join(f"{gap.family}: {gap.description}" for gap in self.gaps)
        return html_table(columns, cells, title=repr(self), note=note)

    def of(self, family: str, depth: int) -> list[Run]:
        """Returns the runs of a family at a depth, at the best learning rate."""
        return best([run for name, run in self.runs if name == family and run.depth == depth])

    def to_dict(self) -> dict[str, object]:
        """Returns everything as plain data for JSON."""
        measured = [
            {"family": one.family, "when": one.when, "results": [r.to_dict() for r in one.results]}
            for one in self.measured
        ]
        return {
            "name": self.name,
            "data": self.data,
            "budget": self.budget.model_dump(mode="json"),
            "contestants": [
                {"family": one.family, "description": one.description, "depth": one.depth, "params": one.params}
                for one in (*self.contestants, *self.shallow)
            ],
            "runs": [{"family": family, **plain(run)} for family, run in self.runs],
            "gaps": plain(self.gaps),
            "measured": measured,
            "seconds": self.seconds,
        }

    def page(self) -> Page:
        """Returns the comparison as a page: networks, curves, gaps and measurements."""
        curves = [self._curves(one.family) for one in self.contestants]
        first = self.contestants[0]
        networks = Table(
            ("network", "kind", "difference", "layers", "parameters", "additional parameters"),
            [(c.family, c.kind, c.description, c.depth, c.params, c.params - first.params) for c in self.contestants],
        )
        budget = f"Budget: {self.budget.description}. All see the same examples in the same order."
        return Page(
            title=f"{self.name} beside its plain twin",
            lead="; ".join(f"{gap.family}: {gap.description}" for gap in self.gaps) + ".",
            sections=[
                Section("Networks", [networks, budget]),
                Section("Training", [Gallery(curves, size="large"), Table(*self.run_table())]),
                Section("The degradation gap", [self._gap_table()]),
                Section("Measurements at initialization", [*self._tables("initialisation")]),
                Section("Measurements after training", [*self._tables("after training")]),
            ],
            facts={"data": self.data, "seeds": str(len(self.budget.seeds)), "time": f"{self.seconds:.0f} s"},
            foot=versions(),
            numbers=self.to_dict(),
            numbers_file="comparison.json",
        )

    def run_table(self) -> tuple[tuple[str, ...], list[tuple[str | float, ...]]]:
        """Returns columns and rows: medians over seeds of every network and depth at its best rate."""
        rows: list[tuple[str | float, ...]] = []
        for one in (*self.shallow, *self.contestants):
            same = self.of(one.family, one.depth)
            medians = [float(np.median([getattr(run, field) for run in same])) for field in SCORES]
            rows.append((one.family, one.depth, one.params, same[0].rate, *medians))
        return ("network", "layers", "parameters", "best rate", *SCORES.values()), rows

    def _gap_table(self) -> Table:
        """The gap of every family with its interval, in both modes of batch norms."""
        columns = ("network", "gap, batch mode (nats)", "from", "to", "gap, inference", "reading")
        return Table(columns, [(g.family, g.gap, g.low, g.high, g.moving_gap, g.description) for g in self.gaps])

    def _curves(self, family: str) -> Picture:
        lines = []
        gap = next(gap for gap in self.gaps if gap.family == family)
        kind = next(one.kind for one in self.contestants if one.family == family)
        for depth in (gap.shallow, gap.deep):
            first = self.of(family, depth)[0]
            label = f"{depth} layers, rate {first.rate:g}"
            lines.append(Line(label, first.losses, kind=kind, weight="bold" if depth == gap.deep else "normal"))
        return draw_lines(
            lines,
            name=f"curves_{[one.family for one in self.contestants].index(family) + 1}",
            title=family,
            caption=f"{family}: training loss of every step, the deep network in bold; gap {gap.description}.",
            xlabel="step",
            ylabel="training loss (nats)",
            yscale="log",
        )

    def _tables(self, when: str) -> Iterator[Table]:
        """A table for every measurement, with a row for every network."""
        here = [one for one in self.measured if one.when == when]
        for title in dict.fromkeys(result.title for one in here for result in one.results):
            rows: list[tuple[Cell | str, ...]] = []
            threshold = ""
            for one in here:
                for result in one.results:
                    if result.title == title:
                        verdict = Cell(result.level, tone=TONES[result.level])
                        rows.append((one.family, verdict, result.verdict, control_text(result)))
                        threshold = result.thresholds
            columns = ("network", "verdict", "numbers", "control")
            yield Table(columns, rows, caption=f"{title} ({threshold})", phone="stack")
