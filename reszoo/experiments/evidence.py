"""Five claims about residual networks, measured on one data set, each with controls and caveat."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import log
from time import perf_counter
from typing import Any

import keras
import numpy as np

from reszoo.arch.build import build
from reszoo.data.sources import Data, DataSource, open_data
from reszoo.diagnosis.anatomy import Anatomy, take_apart
from reszoo.diagnosis.measures.gradient_profile import gradient_profile
from reszoo.diagnosis.measures.information import information
from reszoo.diagnosis.measures.lesion import LesionStudy, lesion_study
from reszoo.diagnosis.measures.loss_surface import predictiveness
from reszoo.diagnosis.measures.result import plain
from reszoo.diagnosis.measures.signal import signal_propagation
from reszoo.experiments import findings
from reszoo.experiments.compare import EXAMPLES, Watch, training_runs
from reszoo.experiments.contestants import (
    Claim,
    Contestant,
    budget,
    check_evidence,
    claims as known_claims,
    contestants,
    families,
    network,
    shallower,
)
from reszoo.experiments.degradation_gap import gap
from reszoo.experiments.findings import Finding
from reszoo.experiments.trainer import Run, Trainer, rows
from reszoo.notebook import html_table
from reszoo.report.lines import draw_lines
from reszoo.report.page import Cell, Gallery, Page, Section, Table
from reszoo.report.write import Presentable, versions

KINDS = ("residual", "plain", "control")
"""Kinds of networks, in the order of the tables."""
PROBED = 100
"""Networks up to this depth are measured at initialization; deeper ones are trained only."""
DEPTHS = (10, 50, 100)
IMAGE_BLOCKS = 9
"""Blocks in every stage of the deep convolutional network: 56 layers."""


@dataclass(frozen=True)
class Evidence(Presentable):
    """The findings about every claim."""

    data: str
    findings: tuple[Finding, ...]
    seconds: float

    def __repr__(self) -> str:
        names = ", ".join(finding.name for finding in self.findings)
        return f"Evidence(on {self.data[:40]!r}: {names}, {self.seconds:.0f} s)"

    def _repr_html_(self) -> str:
        """The reading of every claim."""
        rows = [(finding.name, finding.claim.measure, finding.reading) for finding in self.findings]
        return html_table(("claim", "measured", "result"), rows, title=repr(self))

    def __getitem__(self, claim: str) -> Finding:
        """Returns the finding about a claim, by its name."""
        return next(finding for finding in self.findings if finding.name == claim)

    def to_dict(self) -> dict[str, object]:
        """Returns everything as plain data for JSON."""
        names = ("name", "where", "numbers", "reading", "columns", "rows")
        return {
            "data": self.data,
            "findings": [
                {
                    "claim": finding.claim.model_dump(by_alias=True),
                    **{name: plain(getattr(finding, name)) for name in names},
                }
                for finding in self.findings
            ],
            "seconds": self.seconds,
        }

    def page(self) -> Page:
        """Returns the findings as a page: a summary table, then each claim with its pictures and numbers."""
        sections = [Section("Summary", [self.case_table()])]
        for finding in self.findings:
            claim = finding.claim
            texts = [
                f"Claim: {claim.statement}",
                f"Measured: {claim.measure}; {finding.where}.",
                f"Result: {finding.reading}.",
            ]
            gallery = Gallery([draw_lines(chart.lines, **chart.settings) for chart in finding.charts], size="large")
            table = Table(finding.columns, finding.rows, dash="undefined: a quotient of zeros, or not measured")
            published = [f"Published: {claim.published}", f"Caveat: {claim.caveat}"]
            sections.append(Section(finding.name.capitalize(), [*texts, gallery, table, *published]))
        return Page(
            title="What residual connections do",
            lead="Each claim about residual networks as a measurement on plain, residual and control networks, with "
            "published figures and caveats. Small networks on small images: demonstrations, not benchmarks.",
            sections=sections,
            facts={"data": self.data, "time": f"{self.seconds:.0f} s"},
            foot=versions(),
            numbers=self.to_dict(),
            numbers_file="evidence.json",
        )

    def case_table(self) -> Table:
        """Returns a table with a row for every claim: the numbers of every kind of network."""
        rows: list[list[Cell | str]] = []
        for finding in self.findings:
            cells = ["; ".join(f"{n.family}: {n.text}" for n in finding.numbers if n.kind == kind) for kind in KINDS]
            rows.append([finding.name, finding.claim.measure, *cells, finding.claim.caveat])
        return Table(("claim", "measured", *KINDS, "caveat"), rows, phone="stack")


def evidence(
    data: Data | DataSource = "digits",
    /,
    *,
    depths: Sequence[int] = DEPTHS,
    seeds: Sequence[int] | None = None,
    steps: int | None = None,
    claims: Sequence[str] | None = None,
    watch: Watch = lambda what, done, total: None,
) -> Evidence:
    """Returns measurements for five claims about residual networks, on residual, plain and control networks.

    Dense networks serve the claims about gradients, information, optimization and depth; narrow convolutional networks
    of 20 and 56 layers the claim about degradation.

    Example:
        >>> import reszoo
        >>> reszoo.evidence(depths=(4,), claims=["gradient flow"])["gradient flow"].name
        'gradient flow'

    Args:
        data: a source as for training (`open_data`), of images.
        depths: numbers of weighted layers in the blocks of the dense networks: even, from 4 to 1,000.
        seeds: of weights and order.
        steps: of a training; by default 150 for dense networks, 100 for convolutional ones.
        claims: `gradient flow`, `degradation`, `information flow`, `optimisation`, `depth limit`; by default all.
        watch: progress callback: (stage, done, total).

    Raises:
        ReszooError: invalid depths, or an unknown claim.
    """
    start = perf_counter()
    check_evidence(depths, claims)
    images = data if isinstance(data, Data) else open_data(data)
    images.check_classes("evidence")
    case = _Case(images, sorted({*depths}), {"seeds": seeds, "steps": steps})
    selection = [name for name in _FINDINGS if claims is None or name in claims]
    results = []
    for index, name in enumerate(selection):
        watch(name, index, len(selection))
        results.append(_FINDINGS[name](case))
    watch("done", len(selection), len(selection))
    return Evidence(images.name, tuple(results), perf_counter() - start)


class _Case:
    """The measurements, with networks and runs that several findings share."""

    def __init__(self, images: Data, depths: Sequence[int], changes: Mapping[str, Any]):
        self._images, self._rows = images, rows(images)
        self._depths, self._changes = depths, changes
        self._probed = [depth for depth in depths if depth <= PROBED] or [PROBED]
        self._claims = known_claims()
        self._dense_budget = budget("evidence_dense", **changes)
        self._anatomies: dict[Contestant, Anatomy] = {}
        self._trainers: dict[Contestant, Trainer] = {}
        self._first_runs: dict[Contestant, Run] = {}
        x, y = self._rows.arrays("train")
        self._x, self._y = x[:EXAMPLES], y[:EXAMPLES]

    def gradient_flow(self) -> Finding:
        claim = self._claims["gradient flow"]
        profiles = {
            depth: {one: gradient_profile(self._anatomy(one), self._x, self._y) for one in self._dense(depth, claim)}
            for depth in self._probed
        }
        return findings.gradient_flow(claim, profiles)

    def degradation(self) -> Finding:
        claim = self._claims["degradation"]
        deep = network("image", self._images, depths=IMAGE_BLOCKS)
        limits, table = budget("evidence_image", **self._changes), families(claim.families)
        runs: list[tuple[str, Run]] = []
        gaps = []
        for one, other in zip(contestants(deep, table), contestants(shallower(deep), table), strict=True):
            pair = [[*training_runs(Trainer(c.spec, self._images, limits), limits)] for c in (other, one)]
            gaps.append(gap(one.family, *pair, chance=log(len(self._images.classes))))
            runs += [(one.family, run) for group in pair for run in group]
        kinds = {name: family.kind for name, family in table.items()}
        return findings.degradation(claim, gaps, runs, kinds)

    def information_flow(self) -> Finding:
        claim = self._claims["information flow"]
        middle = self._probed[len(self._probed) // 2]
        families_by_depth = {middle: ("residual",), self._probed[0]: ("residual", "plain twin")}
        lesions = [
            (one.family, depth, self._lesions(one))
            for depth, names in families_by_depth.items()
            for one in self._dense(depth, claim)
            if one.family in names
        ]
        deepest = self._probed[-1]
        results = {
            one: information(self._anatomy(one), self._x, self._y, places=7) for one in self._dense(deepest, claim)
        }
        return findings.information_flow(claim, deepest, results, lesions)

    def optimization(self) -> Finding:
        claim = self._claims["optimisation"]
        results = {}
        for one in self._dense(self._probed[-1], claim):
            anatomy = self._anatomy(one)
            results[one] = predictiveness(anatomy, self._x, self._y), signal_propagation(anatomy, self._x)
        return findings.optimization(claim, self._probed[-1], results)

    def depth_limit(self) -> Finding:
        claim = self._claims["depth limit"]
        runs: dict[Contestant, dict[int, list[Run]]] = {}
        for depth in self._depths:
            for one in self._dense(depth, claim):
                first = next((contestant for contestant in runs if contestant.family == one.family), one)
                runs.setdefault(first, {})[depth] = self._runs(one)
        labels: Any = self._rows.train.labels
        chance = float(np.bincount(labels).max() / len(labels))
        return findings.depth_limit(claim, self._dense_budget.description, runs, chance)

    def _dense(self, depth: int, claim: Claim) -> tuple[Contestant, ...]:
        return contestants(network("dense", self._rows, depths=depth // 2), families(claim.families))

    def _anatomy(self, one: Contestant) -> Anatomy:
        """The network at initialization, shared by several findings."""
        if one not in self._anatomies:
            keras.utils.set_random_seed(0)
            self._anatomies[one] = take_apart(build(one.spec))
        return self._anatomies[one]

    def _trainer(self, one: Contestant) -> Trainer:
        """The trainer of a network, traced once for all findings."""
        if one not in self._trainers:
            self._trainers[one] = Trainer(one.spec, self._rows, self._dense_budget)
        return self._trainers[one]

    def _runs(self, one: Contestant) -> list[Run]:
        """A run with every seed; the first one is shared with the lesion study."""
        rate, (_, *others) = self._dense_budget.rates[0], self._dense_budget.seeds
        return [self._first_run(one), *(self._trainer(one).run(rate=rate, seed=seed) for seed in others)]

    def _first_run(self, one: Contestant) -> Run:
        """The run with the first seed."""
        if one not in self._first_runs:
            rate, seed = self._dense_budget.rates[0], self._dense_budget.seeds[0]
            self._first_runs[one] = self._trainer(one).run(rate=rate, seed=seed)
        return self._first_runs[one]

    def _lesions(self, one: Contestant) -> LesionStudy:
        """The lesion study of a network after its first run, before it is trained with other seeds."""
        self._first_run(one)
        return lesion_study(self._trainer(one).model(), self._x, self._y, draws=0)


_FINDINGS: dict[str, Callable[[_Case], Finding]] = {
    "gradient flow": _Case.gradient_flow,
    "degradation": _Case.degradation,
    "information flow": _Case.information_flow,
    "optimisation": _Case.optimization,
    "depth limit": _Case.depth_limit,
}
