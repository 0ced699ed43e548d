"""The number of branches that the gradient passes between the loss and the first block."""

from __future__ import annotations

from dataclasses import dataclass
from math import lgamma
from typing import ClassVar

import numpy as np
from keras import ops

from reszoo.diagnosis.anatomy import Anatomy, preserve_variables, take_apart
from reszoo.diagnosis.blocks import Block
from reszoo.diagnosis.graph import Change, Slot, Statistics, Values
from reszoo.diagnosis.measures.result import Result
from reszoo.diagnosis.objective import Loss
from reszoo.report.lines import Panel
from reszoo.types import KerasModel, Tensor


@dataclass(frozen=True, kw_only=True, repr=False)
class PathLength(Result):
    """How the gradient is distributed over paths through few and through many branches."""

    title: ClassVar[str] = "effective path length"
    thresholds: ClassVar[str] = "none, it is a length. A plain network has one path, through all blocks"

    blocks: int
    """Number of residual blocks: a path goes through the branches of some and the shortcuts of the others."""
    lengths: tuple[int, ...]
    """Measured path lengths, in branches."""
    norms: tuple[float, ...]
    """Mean norm of the gradient at the first block along one path of each length."""
    share: tuple[float, ...]
    """Share of the gradient along all paths of each length: norm times number of paths, normalized over all lengths."""
    mean: float
    """Mean path length, weighted by share."""
    low: float
    """5 % quantile of the path length."""
    high: float
    """95 % quantile of the path length."""

    def panels(self) -> list[Panel]:
        """Returns the norm and the share over the length."""
        return [
            Panel("one path", "branches", "gradient norm", {"network": (self.lengths, self.norms)}, "log"),
            Panel(
                "all paths of a length", "branches", "share of the gradient", {"network": (self.lengths, self.share)}
            ),
        ]


def path_length(
    model: KerasModel | Anatomy,
    x: Tensor,
    y: Tensor,
    *,
    loss: Loss | str | None = None,
    statistics: Statistics = "moving",
    draws: int = 5,
    lengths: int = 13,
    seed: int = 0,
) -> PathLength:
    """Returns the distribution of the gradient over path lengths (Veit 2016, section 4.3).

    In a random set of blocks only the branches pass the gradient, in the others only the shortcuts; the values stay
    those of the whole network. Control: half of the blocks, the mean if branches were as strong as shortcuts.

    Example:
        >>> import numpy as np, reszoo
        >>> model = reszoo.create("residual_mlp18", input_shape=(8,), width_multiplier=1 / 32, classes=2)
        >>> x = np.random.default_rng(0).normal(size=(16, 8)).astype("float32")
        >>> reszoo.diagnosis.path_length(model, x, np.arange(16) % 2, draws=1, lengths=3).lengths
        (0, 4, 8)

    Args:
        model: a Keras model or its `Anatomy`.
        x: a batch of inputs.
        y: what the compiled loss takes; class indices for a model without one.
        loss: a function of true values and outputs, instead of the compiled loss (without one, cross-entropy).
        statistics: which statistics batch norms use.
        draws: number of random sets of blocks for each length.
        lengths: number of measured lengths, evenly spread; those between are interpolated.
        seed: random seed of the sets.

    Raises:
        ReszooError: the model cannot be analyzed.
    """
    network = take_apart(model)
    labels = network.targets(y, loss)
    blocks = [block for block in network.blocks if block.residual]
    count = len(blocks)
    if not count:
        return _of_plain(network)
    random = np.random.default_rng(seed)
    measured = np.unique(np.linspace(0, count, min(lengths, count + 1)).round().astype(int))
    norms = []
    with preserve_variables(network.graph.model):
        for length in measured:
            sizes = []
            for _ in range(1 if length in (0, count) else draws):
                chosen = {*random.choice(count, length, replace=False)}
                change = dict(_only(block, number in chosen) for number, block in enumerate(blocks))
                _, (slope,) = network.gradients(
                    x, labels, at=[network.trunk[0]], change=change, loss=loss, statistics=statistics
                )
                sizes.append(float(np.sqrt((slope.astype("float64") ** 2).sum())))
            norms.append(float(np.mean(sizes)))
    every = np.arange(count + 1)
    log_norms = np.interp(every, measured, np.log(np.maximum(norms, 1e-300)))
    # Logarithms of the binomial coefficients: how many paths have each length.
    log_counts = np.array([lgamma(count + 1) - lgamma(k + 1) - lgamma(count - k + 1) for k in every])
    weights = np.exp(log_norms + log_counts - (log_norms + log_counts).max())
    shares = weights / weights.sum()
    mean = float((every * shares).sum())
    low, high = (float(np.searchsorted(shares.cumsum(), share)) for share in (0.05, 0.95))
    return PathLength(
        model=network.name,
        level="unknown",
        verdict=f"the gradient passes {mean:.1f} of {count} branches on average, 90 % of it {low:.0f} to {high:.0f}; "
        f"if branches were as strong as shortcuts it would be {count / 2:g}",
        control={"branches as strong as shortcuts": count / 2},
        blocks=count,
        lengths=tuple(map(int, measured)),
        norms=tuple(norms),
        share=tuple(float(shares[k]) for k in measured),
        mean=mean,
        low=low,
        high=high,
    )


def _of_plain(network: Anatomy) -> PathLength:
    count = len(network.blocks)
    return PathLength(
        model=network.name,
        level="unknown",
        verdict=f"a plain network has one path, through all {count} blocks",
        control={"branches as strong as shortcuts": float(count)},
        blocks=0,
        lengths=(count,),
        norms=(float("nan"),),
        share=(1.0,),
        mean=count,
        low=count,
        high=count,
    )


def _only(block: Block, through_branch: bool) -> tuple[Slot, Change]:
    """Returns the sum of a block, and a change that lets only one of its terms pass the gradient."""
    assert block.merge is not None and block.branch is not None and block.shortcut is not None
    sources = block.branch, block.shortcut

    def changed(value: Tensor, values: Values) -> Tensor:
        branch, shortcut = (values[slot] for slot in sources)
        return branch + ops.stop_gradient(shortcut) if through_branch else ops.stop_gradient(branch) + shortcut

    return block.merge, changed
