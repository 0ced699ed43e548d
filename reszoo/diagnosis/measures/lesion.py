"""The contribution of single blocks: accuracy with blocks removed, and with the head applied after every block."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from keras import ops

from reszoo.diagnosis.anatomy import Anatomy, preserve_variables, take_apart
from reszoo.diagnosis.autodiff import without_gradient
from reszoo.diagnosis.blocks import Block
from reszoo.diagnosis.graph import Change, Slot, Statistics
from reszoo.diagnosis.measures.result import Level, Result, level_from_top
from reszoo.errors import ReszooError
from reszoo.report.lines import Panel
from reszoo.types import Array, KerasModel, Tensor


@dataclass(frozen=True, kw_only=True, repr=False)
class LesionStudy(Result):
    """Accuracy with blocks removed: of a residual block only the shortcut remains, of a plain one nothing."""

    title: ClassVar[str] = "lesion study"
    thresholds: ClassVar[str] = (
        "share of the intact accuracy that remains after a block is removed, mean over blocks: from 0.9 healthy (no "
        "single block matters); below, a description and no verdict: blocks that are all needed are no disease, and a "
        "chain of plain blocks cannot be otherwise"
    )

    blocks: tuple[str, ...]
    """Names of the removable blocks: a plain block only if it keeps the shape."""
    accuracy: float
    """Accuracy of the intact network."""
    without: tuple[float, ...]
    """Accuracy without each block."""
    mean: float
    """Mean of `without`."""
    worst: str
    """The block whose removal costs most."""
    idle: tuple[str, ...]
    """Blocks whose removal costs at most half a point."""
    without_many: tuple[tuple[int, float], ...]
    """Number of randomly removed blocks, and the mean accuracy without them."""

    def panels(self) -> list[Panel]:
        """Returns the accuracy without each block, and without several."""
        curves = {"without the block": (range(1, len(self.blocks) + 1), self.without)}
        controls = {"intact": self.accuracy, "largest class": self.control["largest class"]}
        several = {"mean of draws": tuple(zip(*self.without_many, strict=True)) or ((), ())}
        return [
            Panel("one block removed", "block", "accuracy", curves, controls=controls),
            Panel("several blocks removed at random", "blocks removed", "accuracy", several),  # type: ignore[arg-type]
        ]


def lesion_study(
    model: KerasModel | Anatomy,
    x: Tensor,
    y: Tensor,
    *,
    statistics: Statistics = "moving",
    draws: int = 10,
    seed: int = 0,
) -> LesionStudy:
    """Returns the accuracy without each block, and without a quarter and a half of them (Veit 2016, section 4).

    Controls: the share of the largest class, and the accuracy for shuffled labels.

    Example:
        >>> import numpy as np, reszoo
        >>> model = reszoo.create("residual_mlp18", input_shape=(8,), width_multiplier=1 / 32, classes=2)
        >>> x = np.random.default_rng(0).normal(size=(16, 8)).astype("float32")
        >>> len(reszoo.diagnosis.lesion_study(model, x, np.arange(16) % 2, draws=2).without)
        8

    Args:
        model: a trained Keras model or its `Anatomy`.
        x: a batch of inputs.
        y: class indices.
        statistics: which statistics batch norms use: `moving` as in inference, or `batch`.
        draws: number of random sets of blocks of each size.
        seed: random seed of the sets.

    Raises:
        ReszooError: the model cannot be analyzed, or no block can be removed.
    """
    network = take_apart(model)
    labels = network.labels(y)[:, 0]
    blocks = removable(network)
    with preserve_variables(network.graph.model):
        intact, accuracies = _one_by_one(network, blocks, x, labels, statistics)
        random = np.random.default_rng(seed)
        many = []
        for count in sorted({round(len(blocks) / 4), round(len(blocks) / 2)} - {0, 1} if draws else ()):
            sets = [random.choice(len(blocks), count, replace=False) for _ in range(draws)]
            scores = [accuracy_without(network, x, labels, (blocks[i] for i in subset), statistics) for subset in sets]
            many.append((count, float(np.mean(scores))))
        shuffled = accuracy_without(network, x, random.permutation(labels), (), statistics)
    mean = float(np.mean(accuracies))
    chance = float(np.bincount(labels).max() / len(labels))
    better = intact > chance
    level: Level = "healthy" if better and mean >= 0.9 * intact else "unknown"
    return LesionStudy(
        model=network.name,
        level=level,
        verdict=f"accuracy {intact:.1%}, and {mean:.1%} with one block of {len(blocks)} removed (mean): "
        + _outcome(better, mean / intact if intact else 0.0, any(block.residual for block in blocks)),
        control={"largest class": chance, "labels shuffled": shuffled},
        blocks=tuple(block.name for block in blocks),
        accuracy=intact,
        without=tuple(accuracies),
        mean=mean,
        worst=blocks[int(np.argmin(accuracies))].name,
        idle=tuple(b.name for b, a in zip(blocks, accuracies, strict=True) if a >= intact - 0.005),
        without_many=tuple(many),
    )


def _outcome(better: bool, share: float, residual: bool) -> str:
    if not better:
        return "the network is no better than always predicting the largest class"
    if share >= 0.9:
        return "no single block matters"
    if share >= 0.5:
        return "single blocks matter"
    return "single blocks matter much" if residual else "the blocks are a chain, as plain blocks are"


def removable(network: Anatomy) -> list[Block]:
    """Returns the blocks that can be removed.

    Raises:
        ReszooError: there are none.
    """
    shapes = network.graph.shapes
    blocks = [block for block in network.blocks if block.residual or shapes[block.input] == shapes[block.output]]
    if not blocks:
        expected = "residual blocks, or plain ones that keep the shape"
        raise ReszooError(f"{network.name}: lesion", got="no removable block", expected=expected)
    return blocks


def lesion(block: Block) -> tuple[Slot, Change]:
    """Returns the tensor that the removal of a block changes, and the change."""
    if block.merge is None:
        return block.output, lambda value, values: values[block.input]
    shortcut = block.shortcut
    return block.merge, lambda value, values: values[shortcut]


def _one_by_one(
    network: Anatomy, blocks: list[Block], x: Tensor, labels: Array, statistics: Statistics
) -> tuple[float, list[float]]:
    """Returns the accuracy intact and without each block, for which only the layers after the block run again."""
    graph = network.graph
    sources = [block.shortcut if block.shortcut is not None else block.input for block in blocks]
    with without_gradient():
        values = graph.run(x, outputs=[graph.logits, *sources], statistics=statistics)
    accuracies = []
    for block, source in zip(blocks, sources, strict=True):
        target = block.output if block.merge is None else block.merge
        accuracies.append(_accuracy(network, x, labels, overrides={target: values[source]}, statistics=statistics))
    return float((_classes(values[graph.logits]) == labels).mean()), accuracies


def accuracy_without(
    network: Anatomy, x: Tensor, labels: Array, without: Iterable[Block], statistics: Statistics = "moving"
) -> float:
    """Returns the accuracy with some blocks removed."""
    return _accuracy(network, x, labels, change=dict(map(lesion, without)), statistics=statistics)


def _accuracy(network: Anatomy, x: Tensor, labels: Array, **settings: Any) -> float:
    logits = network.graph.logits
    return float((_classes(network.graph.read(x, outputs=[logits], **settings)[logits]) == labels).mean())


def _classes(logits: Tensor) -> Array:
    rows = ops.convert_to_numpy(logits)
    return rows.argmax(axis=1) if rows.shape[1] > 1 else (rows[:, 0] > 0).astype(int)


@dataclass(frozen=True, kw_only=True, repr=False)
class EarlyExit(Result):
    """Accuracy of the trained head, applied after every block of the last stage."""

    title: ClassVar[str] = "early exit"
    thresholds: ClassVar[str] = (
        "share of the rise in accuracy over the last stage that is due to its last block: to 0.5 healthy (blocks "
        "refine gradually), to 0.8 strained, above a jump at the end; unknown where accuracy rises by less than 5 "
        "points"
    )

    places: tuple[int, ...]
    """Indices i of the measured h_i."""
    accuracy: tuple[float, ...]
    losses: tuple[float, ...]
    """Cross-entropy, nats."""

    def panels(self) -> list[Panel]:
        """Returns the accuracy and the loss over depth."""
        curves = {"network": (self.places, self.accuracy)}
        controls = {"largest class": self.control["largest class"]}
        return [
            Panel("accuracy of the head after every block", "block", "accuracy", curves, controls=controls),
            Panel("loss after every block", "block", "cross-entropy (nats)", {"network": (self.places, self.losses)}),
        ]


def early_exit(model: KerasModel | Anatomy, x: Tensor, y: Tensor, *, statistics: Statistics = "moving") -> EarlyExit:
    """Returns the accuracy of the network's own head after every block of the last stage (Greff 2017).

    It rises gradually where blocks refine iteratively. Control: the share of the largest class.

    Example:
        >>> import numpy as np, reszoo
        >>> model = reszoo.create("residual_mlp18", input_shape=(8,), width_multiplier=1 / 32, classes=2)
        >>> x = np.random.default_rng(0).normal(size=(16, 8)).astype("float32")
        >>> reszoo.diagnosis.early_exit(model, x, np.arange(16) % 2).places
        (0, 1, 2, 3, 4, 5, 6, 7, 8)

    Args:
        model: a trained Keras model or its `Anatomy`.
        x: a batch of inputs.
        y: class indices.
        statistics: which statistics batch norms use: `moving` as in inference, or `batch`.

    Raises:
        ReszooError: the model cannot be analyzed, or its last stage has only one block.
    """
    network = take_apart(model)
    labels = network.labels(y)
    graph, trunk = network.graph, network.trunk
    shape = graph.shapes[trunk[-1]]
    places = [i for i in range(len(trunk)) if all(graph.shapes[slot] == shape for slot in trunk[i:])]
    if len(places) < 2:
        raise ReszooError(f"{network.name}: early exit", got="a last stage of one block", expected="at least two")
    accuracy, losses = [], []
    with preserve_variables(graph.model), without_gradient():
        values = graph.run(x, outputs=[trunk[i] for i in places], statistics=statistics)
        for place in places:
            overrides = {trunk[-1]: values[trunk[place]]}
            outputs = graph.run(x, outputs=[graph.logits], overrides=overrides, statistics=statistics)
            logits = outputs[graph.logits]
            accuracy.append(float((_classes(logits) == labels[:, 0]).mean()))
            losses.append(float(network.cross_entropy(logits, labels)))
    rise = accuracy[-1] - accuracy[0]
    level: Level = "unknown"
    verdict = f"over the last stage accuracy goes from {accuracy[0]:.1%} to {accuracy[-1]:.1%}"
    if rise >= 0.05:
        share = (accuracy[-1] - accuracy[-2]) / rise
        level = level_from_top(-share, healthy=-0.5, strained=-0.8)
        verdict += f"; {share:.0%} of the rise is due to the last block"
    return EarlyExit(
        model=network.name,
        level=level,
        verdict=verdict,
        control={"largest class": float(np.bincount(labels[:, 0]).max() / len(labels))},
        places=tuple(places),
        accuracy=tuple(accuracy),
        losses=tuple(losses),
    )
