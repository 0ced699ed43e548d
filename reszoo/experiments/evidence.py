"""The whole case about residual networks, measured on one data set: five claims, each beside controls and caveat."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path
from time import perf_counter
from typing import Any

import keras
import numpy as np

from reszoo.arch.build import build
from reszoo.data.sources import Data, open_data
from reszoo.diagnosis.anatomy import Anatomy, take_apart
from reszoo.diagnosis.measures.gradient_profile import gradient_profile
from reszoo.diagnosis.measures.information import information
from reszoo.diagnosis.measures.lesion import LesionStudy, lesion_study
from reszoo.diagnosis.measures.loss_surface import predictiveness
from reszoo.diagnosis.measures.result import plain
from reszoo.diagnosis.measures.signal import signal_propagation
from reszoo.errors import ReszooError, UnknownNameError
from reszoo.experiments import findings
from reszoo.experiments.compare import EXAMPLES, Watch, shallower, trained
from reszoo.experiments.contestants import (
    Claim,
    Contestant,
    budget,
    claims as known_claims,
    contestants,
    families,
    network,
)
from reszoo.experiments.degradation_gap import gap
from reszoo.experiments.findings import Finding
from reszoo.experiments.trainer import Run, Trainer, rows
from reszoo.report.lines import draw_lines
from reszoo.report.page import Cell, Gallery, Page, Section, Table
from reszoo.report.write import versions, write

KINDS = ("residual", "plain", "control")
"""Of networks, in the order of the tables."""
PROBED = 100
"""Networks up to so many layers are measured at initialisation; deeper ones are trained only."""
DEPTHS = (10, 50, 100)
DEEPEST = 1000
IMAGE_BLOCKS = 9
"""Of every stage of the deep convolutional network: 56 layers."""


@dataclass(frozen=True)
class Evidence:
    """What was found of every claim."""

    data: str
    findings: tuple[Finding, ...]
    seconds: float

    def __getitem__(self, claim: str) -> Finding:
        """The finding of a claim, by its name."""
        return next(finding for finding in self.findings if finding.name == claim)

    def to_dict(self) -> dict[str, Any]:
        """Returns everything as plain data for JSON."""
        told = ("name", "where", "numbers", "reading", "columns", "rows")
        return {
            "data": self.data,
            "findings": [
                {"claim": finding.claim.model_dump(), **{name: plain(getattr(finding, name)) for name in told}}
                for finding in self.findings
            ],
            "seconds": self.seconds,
        }

    def page(self) -> Page:
        """Returns the findings as a page: the case in one table, then each claim with its pictures and numbers."""
        sections = [Section("The case in one table", [self.case_table()])]
        for finding in self.findings:
            claim = finding.claim
            said = [
                f"The claim: {claim.said}",
                f"Measured: {claim.measure}; {finding.where}.",
                f"Found: {finding.reading}.",
            ]
            gallery = Gallery([draw_lines(chart.lines, **chart.settings) for chart in finding.charts], size="large")
            table = Table(finding.columns, finding.rows)
            published = [f"Published: {claim.published}", f"Caveat: {claim.caveat}"]
            sections.append(Section(finding.name.capitalize(), [*said, gallery, table, *published]))
        return Page(
            title="What residual connections do",
            lead="Each claim about residual networks as a measurement: plain beside residual beside control, with what "
            "was published and what the numbers do not show. Small networks on small images: mechanisms, not "
            "benchmarks.",
            sections=sections,
            facts={"data": self.data, "time": f"{self.seconds:.0f} s"},
            foot=versions(),
            numbers=self.to_dict(),
            numbers_file="evidence.json",
        )

    def case_table(self) -> Table:
        """Returns a row for every claim: the numbers of every kind of network."""
        rows: list[list[Cell | str]] = []
        for finding in self.findings:
            cells = ["; ".join(f"{n.family}: {n.text}" for n in finding.numbers if n.kind == kind) for kind in KINDS]
            rows.append([finding.name, finding.claim.measure, *cells, finding.claim.caveat])
        return Table(("claim", "measured", *KINDS, "caveat"), rows, phone="stack")

    def write(self, folder: str | Path) -> Path:
        """Writes the page with its pictures and the numbers as JSON into a folder, and returns the page."""
        return write(self.page(), folder)


def evidence(
    data: Any = "digits",
    /,
    *,
    depths: Sequence[int] = DEPTHS,
    seeds: Sequence[int] | None = None,
    steps: int | None = None,
    claims: Sequence[str] | None = None,
    watch: Watch = lambda what, done, total: None,
) -> Evidence:
    """Returns what can be measured of five claims about residual networks: plain beside residual beside control.

    Dense networks carry the claims about gradients, information, optimisation and depth; narrow convolutional ones of
    20 and 56 layers that about degradation.

    Args:
        data: a source as for training (`open_data`), of images.
        depths: weighted layers in the blocks of the dense networks: even, from 4 to 1,000.
        seeds: of weights and order.
        steps: of a training; by default 150 for dense networks, 100 for convolutional ones.
        claims: which: gradient flow, degradation, information flow, optimisation, depth limit; by default all.
        watch: is told of progress.

    Raises:
        ReszooError: depths that cannot be built, or a claim that is none.
    """
    begun = perf_counter()
    wrong = [depth for depth in depths if depth % 2 or not 4 <= depth <= DEEPEST]
    if wrong or not depths:
        raise ReszooError("depths", got=wrong or "none", expected=f"even numbers of layers from 4 to {DEEPEST:,}")
    unknown = [name for name in claims or () if name not in _FINDINGS]
    if unknown:
        raise UnknownNameError("evidence.claims", got=unknown[0], known=_FINDINGS)
    images = data if isinstance(data, Data) else open_data(data)
    case = _Case(images, sorted({*depths}), {"seeds": seeds, "steps": steps})
    wanted = [name for name in _FINDINGS if claims is None or name in claims]
    made: dict[str, Finding] = {}
    for name in wanted:
        watch(name, len(made), len(wanted))
        made[name] = _FINDINGS[name](case)
    watch("done", len(wanted), len(wanted))
    return Evidence(images.name, tuple(made.values()), perf_counter() - begun)


class _Case:
    """The measurements, and what several findings share."""

    def __init__(self, images: Data, depths: Sequence[int], asked: Mapping[str, Any]):
        self._images, self._flat = images, rows(images)
        self._depths, self._asked = depths, asked
        self._probed = [depth for depth in depths if depth <= PROBED] or [PROBED]
        self._claims = known_claims()
        self._dense_budget = budget("evidence_dense", **asked)
        self._built: dict[Contestant, Anatomy] = {}
        self._trainers: dict[Contestant, Trainer] = {}
        self._first: dict[Contestant, Run] = {}
        x, y = self._flat.arrays("train")
        self._x, self._y = x[:EXAMPLES], y[:EXAMPLES]

    def gradient_flow(self) -> Finding:
        claim = self._claims["gradient flow"]
        profiles = {
            depth: {one: gradient_profile(self._new(one), self._x, self._y) for one in self._dense(depth, claim)}
            for depth in self._probed
        }
        return findings.gradient_flow(claim, profiles)

    def degradation(self) -> Finding:
        claim = self._claims["degradation"]
        deep = network("image", self._images, depths=IMAGE_BLOCKS)
        expected, table = budget("evidence_image", **self._asked), families(claim.families)
        runs: list[tuple[str, Run]] = []
        gaps = []
        for one, other in zip(contestants(deep, table), contestants(shallower(deep), table), strict=True):
            found = [[*trained(Trainer(c.spec, self._images, expected), expected)] for c in (other, one)]
            gaps.append(gap(one.family, *found, chance=log(len(self._images.classes))))
            runs += [(one.family, run) for same in found for run in same]
        kinds = {name: family.kind for name, family in table.items()}
        return findings.degradation(claim, gaps, runs, kinds)

    def information_flow(self) -> Finding:
        claim = self._claims["information flow"]
        middle = self._probed[len(self._probed) // 2]
        looked_into = {middle: ("residual",), self._probed[0]: ("residual", "plain twin")}
        lesions = [
            (one.family, depth, self._lesions(one))
            for depth, some in looked_into.items()
            for one in self._dense(depth, claim)
            if one.family in some
        ]
        deepest = self._probed[-1]
        known = {one: information(self._new(one), self._x, self._y, places=7) for one in self._dense(deepest, claim)}
        return findings.information_flow(claim, deepest, known, lesions)

    def optimisation(self) -> Finding:
        claim, known = self._claims["optimisation"], {}
        for one in self._dense(self._probed[-1], claim):
            new = self._new(one)
            known[one] = predictiveness(new, self._x, self._y), signal_propagation(new, self._x)
        return findings.optimisation(claim, self._probed[-1], known)

    def depth_limit(self) -> Finding:
        claim, expected = self._claims["depth limit"], self._dense_budget
        runs: dict[Contestant, dict[int, list[Run]]] = {}
        for depth in self._depths:
            for one in self._dense(depth, claim):
                first = next((known for known in runs if known.family == one.family), one)
                runs.setdefault(first, {})[depth] = self._runs(one)
        labels: Any = self._flat.train.labels
        chance = float(np.bincount(labels).max() / len(labels))
        return findings.depth_limit(claim, expected.summary, runs, chance)

    def _dense(self, depth: int, claim: Claim) -> tuple[Contestant, ...]:
        return contestants(network("dense", self._flat, depths=depth // 2), families(claim.families))

    def _new(self, one: Contestant) -> Anatomy:
        """The network at initialisation; several findings look at it."""
        if one not in self._built:
            keras.utils.set_random_seed(0)
            self._built[one] = take_apart(build(one.spec))
        return self._built[one]

    def _trainer(self, one: Contestant) -> Trainer:
        """Traced once for all findings."""
        if one not in self._trainers:
            self._trainers[one] = Trainer(one.spec, self._flat, self._dense_budget)
        return self._trainers[one]

    def _runs(self, one: Contestant) -> list[Run]:
        """A run with every seed; the first may have been there already, for its lesions."""
        rate, (_, *others) = self._dense_budget.rates[0], self._dense_budget.seeds
        return [self._begun(one), *(self._trainer(one).run(rate=rate, seed=seed) for seed in others)]

    def _begun(self, one: Contestant) -> Run:
        """The run with the first seed."""
        if one not in self._first:
            rate, seed = self._dense_budget.rates[0], self._dense_budget.seeds[0]
            self._first[one] = self._trainer(one).run(rate=rate, seed=seed)
        return self._first[one]

    def _lesions(self, one: Contestant) -> LesionStudy:
        """What is left of a trained network without each block; before it is trained with other seeds."""
        self._begun(one)
        return lesion_study(self._trainer(one).model(), self._x, self._y, draws=0)


_FINDINGS: dict[str, Callable[[_Case], Finding]] = {
    "gradient flow": _Case.gradient_flow,
    "degradation": _Case.degradation,
    "information flow": _Case.information_flow,
    "optimisation": _Case.optimisation,
    "depth limit": _Case.depth_limit,
}
