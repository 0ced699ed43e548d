"""What single blocks are worth: blocks taken out of a network, and its head put after every block."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from keras import ops

from reszoo.diagnosis.anatomy import Anatomy, take_apart, untouched
from reszoo.diagnosis.autodiff import without_gradient
from reszoo.diagnosis.blocks import Block
from reszoo.diagnosis.graph import Change, Slot, Statistics
from reszoo.diagnosis.measures.result import Level, Result
from reszoo.errors import ReszooError
from reszoo.report.profiles import Panel


@dataclass(frozen=True, kw_only=True)
class LesionStudy(Result):
    """Accuracy with blocks taken out: of a residual block the shortcut stays, of a plain one nothing."""

    title: ClassVar[str] = "lesion study"
    thresholds: ClassVar[str] = (
        "share of the intact accuracy that is left after a block is taken out, mean over blocks: from 0.9 healthy (no "
        "block matters alone), from 0.5 strained, below a chain; unknown where the intact network is no better than "
        "the greatest class"
    )

    blocks: tuple[str, ...]
    """Those that can be taken out: a plain block only where it keeps the shape."""
    accuracy: float
    """Of the intact network."""
    without: tuple[float, ...]
    """Accuracy without each block."""
    mean: float
    """Of those."""
    worst: str
    """The block that is missed most."""
    idle: tuple[str, ...]
    """Blocks without which no more than half a point is lost."""
    without_many: tuple[tuple[int, float], ...]
    """How many blocks were taken out at random, and the mean accuracy then."""

    def panels(self) -> list[Panel]:
        """Returns accuracy without each block, and without many."""
        count = len(self.blocks)
        curves = {
            "without this block": (range(1, count + 1), self.without),
            "intact": ((1, count), (self.accuracy,) * 2),
            "greatest class": ((1, count), (self.control["greatest class"],) * 2),
        }
        several = {"mean of draws": tuple(zip(*self.without_many, strict=True)) or ((), ())}
        return [
            Panel("one block taken out", "block", "accuracy", curves),
            Panel("several at random", "blocks taken out", "accuracy", several),  # type: ignore[arg-type]
        ]


def lesion_study(
    model: Any, x: Any, y: Any, *, statistics: Statistics = "moving", draws: int = 10, seed: int = 0
) -> LesionStudy:
    """Returns the accuracy without each block, and without a quarter and a half of them (Veit 2016, section 4).

    Controls: the share of the greatest class, and the accuracy with the labels shuffled.

    Args:
        model: a Keras model, or one taken apart; trained, or there is nothing to lose.
        x: a batch of inputs.
        y: their class numbers.
        statistics: of batch norms: `moving` as in use, or those of the batch.
        draws: random sets of blocks for each number of them.
        seed: of the sets.

    Raises:
        ReszooError: the model cannot be taken apart, or no block can be taken out.
    """
    network = take_apart(model)
    labels = network.labels(y)[:, 0]
    blocks = removable(network)
    with untouched(network.graph.model):
        intact, accuracies = _one_by_one(network, blocks, x, labels, statistics)
        random = np.random.default_rng(seed)
        many = []
        for count in sorted({round(len(blocks) / 4), round(len(blocks) / 2)} - {0, 1} if draws else ()):
            sets = [random.choice(len(blocks), count, replace=False) for _ in range(draws)]
            found = [accuracy_without(network, x, labels, (blocks[i] for i in chosen), statistics) for chosen in sets]
            many.append((count, float(np.mean(found))))
        shuffled = accuracy_without(network, x, random.permutation(labels), (), statistics)
    mean = float(np.mean(accuracies))
    chance = float(np.bincount(labels).max() / len(labels))
    level: Level = "unknown" if intact <= chance else "healthy" if mean >= 0.9 * intact else "strained"
    level = "broken" if level == "strained" and mean < 0.5 * intact else level
    word = {
        "healthy": "no block matters alone",
        "strained": "single blocks matter",
        "broken": "the blocks are a chain: without one, little is left",
        "unknown": "the network has learnt nothing that could be lost",
    }[level]
    return LesionStudy(
        model=network.name,
        level=level,
        verdict=f"accuracy {intact:.1%}, and {mean:.1%} with one block of {len(blocks)} taken out (mean): {word}",
        control={"greatest class": chance, "labels shuffled": shuffled},
        blocks=tuple(block.name for block in blocks),
        accuracy=intact,
        without=tuple(accuracies),
        mean=mean,
        worst=blocks[int(np.argmin(accuracies))].name,
        idle=tuple(b.name for b, a in zip(blocks, accuracies, strict=True) if a >= intact - 0.005),
        without_many=tuple(many),
    )


def removable(network: Anatomy) -> list[Block]:
    """Returns the blocks that can be taken out.

    Raises:
        ReszooError: there are none.
    """
    shapes = network.graph.shapes
    found = [b for b in network.blocks if b.residual or shapes[b.input] == shapes[b.output]]
    if not found:
        expected = "residual blocks, or plain ones that keep the shape"
        raise ReszooError(f"{network.name}: lesion", got="no block that can be taken out", expected=expected)
    return found


def lesion(block: Block) -> tuple[Slot, Change]:
    """Returns the tensor that is another without a block, and what it then is."""
    if block.merge is None:
        return block.output, lambda value, values: values[block.input]
    shortcut = block.shortcut
    return block.merge, lambda value, values: values[shortcut]


def _one_by_one(
    network: Anatomy, blocks: list[Block], x: Any, labels: Any, statistics: Statistics
) -> tuple[float, list[float]]:
    """Accuracy intact, and without each block: of every block only what comes after it is computed again."""
    graph = network.graph
    stays = [block.shortcut if block.shortcut is not None else block.input for block in blocks]
    with without_gradient():
        values = graph.run(x, wanted=[graph.logits, *stays], statistics=statistics)
    found = []
    for block, stay in zip(blocks, stays, strict=True):
        place = block.output if block.merge is None else block.merge
        found.append(_right(network, x, labels, got={place: values[stay]}, statistics=statistics))
    return float((_classes(values[graph.logits]) == labels).mean()), found


def accuracy_without(
    network: Anatomy, x: Any, labels: Any, without: Iterable[Block], statistics: Statistics = "moving"
) -> float:
    """Returns the accuracy with some blocks taken out."""
    return _right(network, x, labels, change=dict(map(lesion, without)), statistics=statistics)


def _right(network: Anatomy, x: Any, labels: Any, **settings: Any) -> float:
    logits = network.graph.logits
    return float((_classes(network.graph.read(x, wanted=[logits], **settings)[logits]) == labels).mean())


def _classes(logits: Any) -> Any:
    rows = ops.convert_to_numpy(logits)
    return rows.argmax(axis=1) if rows.shape[1] > 1 else (rows[:, 0] > 0).astype(int)


@dataclass(frozen=True, kw_only=True)
class EarlyExit(Result):
    """The trained head after every block of the last stage."""

    title: ClassVar[str] = "early exit"
    thresholds: ClassVar[str] = (
        "share of the rise in accuracy, over the last stage, that its last block makes: to 0.5 healthy (blocks refine "
        "in turn), to 0.8 strained, above a jump at the end; unknown where accuracy rises by less than 5 points"
    )

    places: tuple[int, ...]
    """Which of h_0, ..., h_N."""
    accuracy: tuple[float, ...]
    losses: tuple[float, ...]
    """Cross-entropy, nats."""

    def panels(self) -> list[Panel]:
        """Returns accuracy and loss over depth."""
        curves = {self.model: (self.places, self.accuracy)}
        curves["greatest class"] = (self.places, (self.control["greatest class"],) * len(self.places))
        return [
            Panel("head after every block", "block", "accuracy", curves),
            Panel("", "block", "cross-entropy (nats)", {self.model: (self.places, self.losses)}),
        ]


def early_exit(model: Any, x: Any, y: Any, *, statistics: Statistics = "moving") -> EarlyExit:
    """Returns what the network's own head makes of every block of the last stage (Greff 2017: iterative refinement).

    Controls: the share of the greatest class.

    Args:
        model: a Keras model, or one taken apart; trained.
        x: a batch of inputs.
        y: their class numbers.
        statistics: of batch norms: `moving` as in use, or those of the batch.

    Raises:
        ReszooError: the model cannot be taken apart, or its last stage has one block only.
    """
    network = take_apart(model)
    labels = network.labels(y)
    graph, trunk = network.graph, network.trunk
    shape = graph.shapes[trunk[-1]]
    places = [i for i in range(len(trunk)) if all(graph.shapes[slot] == shape for slot in trunk[i:])]
    if len(places) < 2:
        raise ReszooError(f"{network.name}: early exit", got="a last stage of one block", expected="at least two")
    accuracy, losses = [], []
    with untouched(graph.model), without_gradient():
        values = graph.run(x, wanted=[trunk[i] for i in places], statistics=statistics)
        for place in places:
            got = {trunk[-1]: values[trunk[place]]}
            logits = graph.run(x, wanted=[graph.logits], got=got, statistics=statistics)[graph.logits]
            accuracy.append(float((_classes(logits) == labels[:, 0]).mean()))
            losses.append(float(network.loss(logits, labels)))
    rise = accuracy[-1] - accuracy[0]
    share = (accuracy[-1] - accuracy[-2]) / rise if rise >= 0.05 else float("nan")
    level: Level = "unknown" if rise < 0.05 else "healthy" if share <= 0.5 else "strained" if share <= 0.8 else "broken"
    told = f"over the last stage accuracy goes from {accuracy[0]:.1%} to {accuracy[-1]:.1%}"
    return EarlyExit(
        model=network.name,
        level=level,
        verdict=told if level == "unknown" else f"{told}; the last block makes {share:.0%} of that",
        control={"greatest class": float(np.bincount(labels[:, 0]).max() / len(labels))},
        places=tuple(places),
        accuracy=tuple(accuracy),
        losses=tuple(losses),
    )
