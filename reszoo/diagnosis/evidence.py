"""The whole case about residual networks, measured on one data set: five claims, each beside controls and caveat."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from reszoo.arch.build import build
from reszoo.diagnosis import findings
from reszoo.diagnosis.anatomy import Anatomy, take_apart
from reszoo.diagnosis.compare import EXAMPLES, Watch, shallower, trained
from reszoo.diagnosis.families import Contestant, budget, claims, contestants, families, network
from reszoo.diagnosis.findings import Finding
from reszoo.diagnosis.flow import gradient_profile
from reszoo.diagnosis.gap import gap
from reszoo.diagnosis.lesion import LesionStudy, lesion_study
from reszoo.diagnosis.readable import information
from reszoo.diagnosis.result import plain
from reszoo.diagnosis.signal import signal_propagation
from reszoo.diagnosis.smooth import predictiveness
from reszoo.errors import ReszooError
from reszoo.training.budget import Run, Trainer, rows
from reszoo.training.data import Data, open_data

PROBED = 100
"""Networks up to so many layers are measured at initialisation; deeper ones are trained only."""
DEPTHS = (10, 50, 100)
DEEPEST = 1000
IMAGE_BLOCKS = (9,)
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

    def write(self, folder: str | Path) -> Path:
        """Writes the page with its pictures and the numbers as JSON into a folder, and returns the page."""
        from reszoo.diagnosis.pages import write_evidence

        return write_evidence(self, Path(folder))


def evidence(
    data: Any = "digits",
    /,
    *,
    depths: Sequence[int] = DEPTHS,
    seeds: Sequence[int] | None = None,
    steps: int | None = None,
    watch: Watch = lambda what, done, total: None,
) -> Evidence:
    """Returns what can be measured of five claims about residual networks: plain beside residual beside control.

    Dense networks carry the claims about gradients, information, optimisation and depth; narrow convolutional ones of
    20 and 56 layers that about degradation.

    Args:
        data: a source as for training (`open_data`), of images.
        depths: weighted layers in the blocks of the dense networks: even, from 4 to 1,000.
        seeds: of weights and order.
        steps: of a training; by default 150 for dense networks, 120 for convolutional ones.
        watch: is told of progress.

    Raises:
        ReszooError: depths that cannot be built.
    """
    begun = perf_counter()
    wrong = [depth for depth in depths if depth % 2 or not 4 <= depth <= DEEPEST]
    if wrong or not depths:
        raise ReszooError("depths", given=wrong or "none", allowed=f"even numbers of layers from 4 to {DEEPEST:,}")
    images = data if isinstance(data, Data) else open_data(data)
    case = _Case(images, sorted({*depths}), {"seeds": seeds, "steps": steps}, watch)
    made = tuple(case.findings())
    watch("done", len(made), len(made))
    return Evidence(images.name, made, perf_counter() - begun)


class _Case:
    """The measurements, and what several findings share."""

    def __init__(self, images: Data, depths: Sequence[int], asked: Mapping[str, Any], watch: Watch):
        self._images, self._flat = images, rows(images)
        self._depths, self._asked, self._watch = depths, asked, watch
        self._claims = claims()
        x, y = self._flat.arrays("train")
        self._x, self._y = x[:EXAMPLES], y[:EXAMPLES]
        self._lesions: list[tuple[str, int, LesionStudy]] = []

    def findings(self) -> Iterator[Finding]:
        self._watch("training dense networks", 0, 5)
        limit = self._depth_limit()
        self._watch("gradients", 1, 5)
        yield self._gradient_flow()
        self._watch("training convolutional networks", 2, 5)
        yield self._degradation()
        self._watch("information and optimisation", 3, 5)
        yield from self._at_start()
        yield limit

    def _dense(self, depth: int, *tables: str) -> tuple[Contestant, ...]:
        spec = network("dense", self._flat, depths=depth // 2)
        return contestants(spec, families(*tables))

    @property
    def _probed(self) -> list[int]:
        return [depth for depth in self._depths if depth <= PROBED] or [PROBED]

    def _gradient_flow(self) -> Finding:
        tables = ("families", "trained_families", "dense_families")
        profiles = {
            depth: {one: gradient_profile(self._new(one), self._x, self._y) for one in self._dense(depth, *tables)}
            for depth in self._probed
        }
        return findings.gradient_flow(self._claims["gradient flow"], profiles)

    def _new(self, one: Contestant) -> Anatomy:
        """The network at initialisation, the same at every call."""
        import keras

        keras.utils.set_random_seed(0)
        return take_apart(build(one.spec))

    def _degradation(self) -> Finding:
        deep = network("image", self._images, depths=IMAGE_BLOCKS[0])
        allowed = budget(deep, **self._asked)
        table = families("families")
        runs: list[tuple[str, Run]] = []
        gaps = []
        for one, other in zip(contestants(deep, table), contestants(shallower(deep), table), strict=True):
            found = [[*trained(Trainer(c.spec, self._images, allowed), allowed)] for c in (other, one)]
            gaps.append(gap(one.family, *found))
            runs += [(one.family, run) for same in found for run in same]
        kinds = {name: family.kind for name, family in table.items()}
        return findings.degradation(self._claims["degradation"], gaps, runs, kinds)

    def _at_start(self) -> Iterator[Finding]:
        deepest = max(self._probed)
        known, steps = {}, {}
        for one in self._dense(deepest, "families", "trained_families"):
            new = self._new(one)
            known[one] = information(new, self._x, self._y, places=7)
            steps[one] = predictiveness(new, self._x, self._y), signal_propagation(new, self._x)
        yield findings.information_flow(self._claims["information flow"], deepest, known, self._lesions)
        yield findings.optimisation(self._claims["optimisation"], deepest, steps)

    def _depth_limit(self) -> Finding:
        runs: dict[Contestant, dict[int, list[Run]]] = {}
        for depth in self._depths:
            for one in self._dense(depth, "families", "trained_families"):
                allowed = budget(one.spec, **self._asked)
                trainer = Trainer(one.spec, self._flat, allowed)
                first = next((known for known in runs if known.family == one.family), one)
                runs.setdefault(first, {})[depth] = [*trained(trainer, allowed)]
                if one.family in ("residual", "plain twin") and depth in (self._depths[0], max(self._probed)):
                    self._look_inside(one, depth, trainer)
        told = allowed.told
        return findings.depth_limit(self._claims["depth limit"], told, runs, self._chance)

    def _look_inside(self, one: Contestant, depth: int, trainer: Trainer) -> None:
        self._lesions.append((one.family, depth, lesion_study(trainer.model(), self._x, self._y, draws=0)))

    @property
    def _chance(self) -> float:
        """Accuracy of naming the greatest class."""
        labels: Any = self._flat.train.labels
        return float(np.bincount(labels).max() / len(labels))
