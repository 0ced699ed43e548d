"""Through how many branches the gradient goes on its way from the loss to the first block."""

from __future__ import annotations

from dataclasses import dataclass
from math import lgamma
from typing import Any, ClassVar

import numpy as np
from keras import ops

from reszoo.diagnosis.anatomy import Loss, take_apart, untouched
from reszoo.diagnosis.graph import Change, Slot, Statistics, Values
from reszoo.diagnosis.measures.result import Result
from reszoo.report.profiles import Panel


@dataclass(frozen=True, kw_only=True)
class PathLength(Result):
    """How the gradient is shared among paths through few and through many branches."""

    title: ClassVar[str] = "effective path length"
    thresholds: ClassVar[str] = "none: it is a length. A plain network has one path, through all blocks"

    blocks: int
    """Residual blocks: a path goes through the branch of some and around that of the others."""
    lengths: tuple[int, ...]
    """Numbers of branches that were tried."""
    norms: tuple[float, ...]
    """Mean norm of the gradient at the first block, through that many branches and no other path."""
    share: tuple[float, ...]
    """Of the whole gradient: the norm times the number of such paths, one in all."""
    mean: float
    """Branches on the way of the gradient, on average."""
    low: float
    """Below which 5 % of it lies."""
    high: float
    """Below which 95 % of it lies."""

    def panels(self) -> list[Panel]:
        """Returns norm and share over length."""
        return [
            Panel("one path", "branches", "gradient norm", {self.model: (self.lengths, self.norms)}, "log"),
            Panel("all paths of a length", "branches", "share", {self.model: (self.lengths, self.share)}),
        ]


def path_length(
    model: Any,
    x: Any,
    y: Any,
    *,
    loss: Loss | None = None,
    statistics: Statistics = "moving",
    draws: int = 5,
    lengths: int = 13,
    seed: int = 0,
) -> PathLength:
    """Returns through how many branches the gradient goes (Veit 2016, section 4.3).

    For a random set of blocks only their branches, and of the others only the shortcuts, let the gradient through; the
    values stay those of the whole network. Control: half of the blocks, what it would be if branches were no weaker
    than shortcuts.

    Args:
        model: a Keras model, or one taken apart.
        x: a batch of inputs.
        y: their classes, or what `loss` takes.
        loss: a function of true values and outputs, other than cross-entropy.
        statistics: of batch norms.
        draws: random sets of blocks for each length.
        lengths: how many lengths are tried, evenly spread; those between are interpolated.
        seed: of the sets.

    Raises:
        ReszooError: the model cannot be taken apart.
    """
    network = take_apart(model)
    labels = network.labels(y, loss)
    blocks = [block for block in network.blocks if block.residual]
    count = len(blocks)
    if not count:
        told = f"a plain network has one path, through all {len(network.blocks)} blocks"
        only = len(network.blocks)
        return PathLength(
            model=network.name, level="unknown", verdict=told, control={"branches as strong as shortcuts": float(only)},
            blocks=0, lengths=(only,), norms=(float("nan"),), share=(1.0,), mean=only, low=only, high=only,
        )  # fmt: skip
    random = np.random.default_rng(seed)
    tried = np.unique(np.linspace(0, count, min(lengths, count + 1)).round().astype(int))
    norms = []
    with untouched(network.graph.model):
        for length in tried:
            found = []
            for _ in range(1 if length in (0, count) else draws):
                chosen = {*random.choice(count, length, replace=False)}
                change = dict(_only(block, number in chosen) for number, block in enumerate(blocks))
                settings: dict[str, Any] = {"loss": loss, "statistics": statistics}
                _, (slope,) = network.slopes(x, labels, at=[network.trunk[0]], change=change, **settings)
                found.append(float(np.sqrt((slope.astype("float64") ** 2).sum())))
            norms.append(float(np.mean(found)))
    every = np.arange(count + 1)
    logs = np.interp(every, tried, np.log(np.maximum(norms, 1e-300)))
    ways = np.array([lgamma(count + 1) - lgamma(k + 1) - lgamma(count - k + 1) for k in every])
    weights = np.exp(logs + ways - (logs + ways).max())
    shares = weights / weights.sum()
    mean, sums = float((every * shares).sum()), shares.cumsum()
    low, high = (float(np.searchsorted(sums, share)) for share in (0.05, 0.95))
    return PathLength(
        model=network.name,
        level="unknown",
        verdict=f"the gradient goes through {mean:.1f} of {count} branches on average, 90 % of it through {low:.0f} to "
        f"{high:.0f}; if branches were as strong as shortcuts it would be {count / 2:g}",
        control={"branches as strong as shortcuts": count / 2},
        blocks=count,
        lengths=tuple(map(int, tried)),
        norms=tuple(norms),
        share=tuple(float(shares[k]) for k in tried),
        mean=mean,
        low=low,
        high=high,
    )


def _only(block: Any, through_branch: bool) -> tuple[Slot, Change]:
    """The sum, in which only one of the two lets the gradient through."""

    def changed(value: Any, values: Values) -> Any:
        branch, shortcut = values[block.branch], values[block.shortcut]
        return branch + ops.stop_gradient(shortcut) if through_branch else ops.stop_gradient(branch) + shortcut

    return block.merge, changed
