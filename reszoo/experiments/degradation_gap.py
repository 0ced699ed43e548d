"""The degradation gap: the change of the training loss with depth, with its confidence interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reszoo.experiments.trainer import Run

DRAWS = 2000
"""Bootstrap samples."""
CONFIDENCE = 0.95
"""Fraction of the bootstrap samples inside the interval."""
LEARNING = 0.8
"""Fraction of the chance-level loss below which a network counts as learning."""
NEGLIGIBLE = 0.01
"""Fraction of the chance-level loss below which a gap is called negligible: seeds may agree on thousandths of a nat."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Training loss of the deep network minus that of the shallow one, each at its best learning rate, in nats."""

    family: str
    shallow: int
    """Weighted layers."""
    deep: int
    shallow_rate: float
    """Its best learning rate."""
    deep_rate: float
    gap: float
    """Difference of the medians over seeds; batch norms use batch statistics."""
    low: float
    """Lower end of the 95 % bootstrap interval over seeds."""
    high: float
    moving_gap: float
    """The same with moving statistics in batch norms (inference mode)."""
    seeds: int
    shallow_loss: float
    """Training loss of the shallow network, median over seeds."""
    chance: float
    """Chance-level loss: of a constant uniform prediction."""

    def __repr__(self) -> str:
        return f"Gap({self.family[:40]!r}: {self.gap:+.3f} nats from {self.shallow} to {self.deep} layers)"

    @property
    def trains(self) -> bool:
        """Whether the shallow network learns at all under this budget; otherwise the gap is meaningless."""
        return self.shallow_loss < LEARNING * self.chance

    @property
    def degrades(self) -> bool:
        """Whether the whole interval is above zero: the deeper network has the higher training loss."""
        return self.trains and self.low > 0

    @property
    def description(self) -> str:
        """The gap with its interval and its meaning, in words."""
        if not self.trains:
            verdict = "even the shallow network does not train on this budget, so the gap is meaningless"
        elif self.degrades and self.gap < NEGLIGIBLE * self.chance:
            verdict = f"deeper is worse in training by less than {NEGLIGIBLE:.0%} of the loss of guessing"
        elif self.degrades:
            verdict = "deeper is worse in training"
        else:
            verdict = "deeper is not shown to be worse in training"
        interval = f"[{self.low:+.3f}, {self.high:+.3f}]" if self.seeds > 1 else "no interval, one seed"
        return f"{self.gap:+.3f} {interval} from {self.shallow} to {self.deep} layers: {verdict}"


def gap(family: str, shallow: Sequence[Run], deep: Sequence[Run], *, chance: float) -> Gap:
    """Returns the gap between the runs of two depths; the interval is a bootstrap over the seeds of each depth.

    With three seeds the interval is about their range: it shows whether the seeds agree, and little more. With one seed
    it has no width, and the verdict depends on the sign of the gap.

    Args:
        family: name of both networks.
        shallow: all runs of the shallow network: every rate with the first seed, the best rate with every seed.
        deep: those of the deep one.
        chance: chance-level loss, ln(classes).
    """
    few, many = best(shallow), best(deep)
    random = np.random.default_rng(0)

    def medians(runs: Sequence[Run]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        losses = np.array([run.loss for run in runs])
        return np.median(losses[random.integers(len(losses), size=(DRAWS, len(losses)))], axis=1)

    with np.errstate(invalid="ignore"):
        draws = np.nan_to_num(medians(many) - medians(few), nan=np.inf, posinf=np.inf)
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], method="nearest")
    return Gap(
        family=family,
        shallow=few[0].depth,
        deep=many[0].depth,
        shallow_rate=few[0].rate,
        deep_rate=many[0].rate,
        gap=float(np.median([run.loss for run in many]) - np.median([run.loss for run in few])),
        low=float(low),
        high=float(high),
        moving_gap=float(np.median([run.moving_loss for run in many]) - np.median([run.moving_loss for run in few])),
        seeds=len(many),
        shallow_loss=float(np.median([run.loss for run in few])),
        chance=chance,
    )


def best(runs: Sequence[Run]) -> list[Run]:
    """Returns the runs at the best learning rate of the first seed; further rates have runs with that seed only."""
    candidates = [run for run in runs if run.seed == runs[0].seed]
    rate = min(candidates, key=lambda run: run.loss).rate
    return [run for run in runs if run.rate == rate]
