"""The degradation gap: what more depth does to the training loss, with its confidence interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reszoo.experiments.trainer import Run

DRAWS = 2000
SHARE = 0.95
"""Of the bootstrap draws that lie in the interval."""
LEARNT = 0.8
"""Share of the loss at chance below which a network has learnt something."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Training loss of the deep network less that of the shallow one, each at its best learning rate, in nats."""

    family: str
    shallow: int
    """Weighted layers."""
    deep: int
    shallow_rate: float
    """Its best learning rate."""
    deep_rate: float
    gap: float
    """Of the medians over seeds; batch norms use the batch's own statistics."""
    low: float
    """Lower end of the 95 % bootstrap interval over seeds."""
    high: float
    moving_gap: float
    """The same runs, batch norms using their moving statistics (inference mode)."""
    seeds: int
    shallow_loss: float
    """Training loss of the shallow network, median over seeds."""
    chance: float
    """Loss of a network that says the same of every example."""

    @property
    def trains(self) -> bool:
        """Whether the shallow network learns anything under this budget; otherwise the gap says nothing."""
        return self.shallow_loss < LEARNT * self.chance

    @property
    def degrades(self) -> bool:
        """Whether the whole interval lies above zero: deeper is worse in training."""
        return self.trains and self.low > 0

    @property
    def summary(self) -> str:
        """The gap in words."""
        word = "deeper is worse in training" if self.degrades else "deeper is not shown to be worse in training"
        if not self.trains:
            word = "not even the shallow one trains on this budget, so the gap says nothing"
        interval = f"[{self.low:+.3f}, {self.high:+.3f}]" if self.seeds > 1 else "no interval, one seed"
        return f"{self.gap:+.3f} {interval} from {self.shallow} to {self.deep} layers: {word}"


def gap(family: str, shallow: Sequence[Run], deep: Sequence[Run], *, chance: float) -> Gap:
    """Returns the gap between the runs of two depths, the seeds drawn anew in each for the interval.

    With three seeds the interval is about their range: it says whether the seeds agree, and little more. With one, it
    has no width and nothing is said to degrade unless the gap itself is positive.

    Args:
        family: name of both.
        shallow: all runs of the shallow network: every rate with the first seed, the best rate with every seed.
        deep: those of the deep one.
        chance: loss of a network that says the same of every example, ln(classes).
    """
    few, many = best(shallow), best(deep)
    random = np.random.default_rng(0)

    def medians(runs: Sequence[Run]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        losses = np.array([run.loss for run in runs])
        return np.median(losses[random.integers(len(losses), size=(DRAWS, len(losses)))], axis=1)

    with np.errstate(invalid="ignore"):
        draws = np.nan_to_num(medians(many) - medians(few), nan=np.inf, posinf=np.inf)
    low, high = np.quantile(draws, [(1 - SHARE) / 2, (1 + SHARE) / 2], method="nearest")
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
    """Returns the runs at the learning rate that was best with the first seed: others are tried with that alone."""
    tried = [run for run in runs if run.seed == runs[0].seed]
    rate = min(tried, key=lambda run: run.loss).rate
    return [run for run in runs if run.rate == rate]
