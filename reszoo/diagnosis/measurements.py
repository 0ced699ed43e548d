"""The measurements of a diagnosis: which are possible for a network and its data, and their results."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from keras import tree

from reszoo.diagnosis.advice import norms_of
from reszoo.diagnosis.anatomy import Anatomy
from reszoo.diagnosis.blocks import blocks_of
from reszoo.diagnosis.graph import Graph
from reszoo.diagnosis.measures.census import census
from reszoo.diagnosis.measures.gradient_profile import gradient_profile
from reszoo.diagnosis.measures.information import LEAST, information
from reszoo.diagnosis.measures.lesion import accuracy_without, lesion_study, removable
from reszoo.diagnosis.measures.result import Result
from reszoo.diagnosis.measures.signal import correlation, signal_propagation
from reszoo.errors import ReszooError
from reszoo.types import Tensor

Skipped = tuple[str, str]
"""A measurement, and why it was not possible."""
FEW_BLOCKS = 16
"""Blocks up to which a lesion study is made although the accuracy is no better than chance; its time grows with their
square."""
PROBED = 256
"""Most examples of `information`, whose time grows with their cube."""
BLOCKS = ("gradient profile", "signal propagation", "correlation", "information", "lesion study")


def anatomy_of(graph: Graph) -> tuple[Anatomy, str]:
    """Returns the anatomy of a graph, without blocks where it has none, and why it has none."""
    try:
        return Anatomy(graph, *blocks_of(graph)), ""
    except ReszooError as error:
        return Anatomy(graph, (), "no blocks"), f"{error.got}: needs {error.expected}"


def measured(
    network: Anatomy, x: Tensor, y: Tensor, *, loss: Any, seed: int, no_blocks: str = ""
) -> tuple[list[Result], list[Skipped]]:
    """Returns the results of all measurements that are possible, and the others with the reason.

    Args:
        network: the network; without blocks only the census is taken.
        x: a batch of inputs.
        y: the true values.
        loss: a loss instead of the compiled one.
        seed: random seed of controls and splits.
        no_blocks: why there are no blocks.
    """
    results: list[Result] = []
    skipped = [(title, no_blocks) for title in BLOCKS] if no_blocks else []
    labels = _labels(network, y, loss)
    if not no_blocks:
        results.append(gradient_profile(network, x, y, loss=loss, seed=seed))
        results.append(signal_propagation(network, x, seed=seed))
        results.append(correlation(network, x, labels, seed=seed))
    results.append(census(network, x, y, loss=loss))
    if no_blocks:
        return results, skipped
    skipped += _impossible(network, x, labels, count=len(y))
    titles = {title for title, _ in skipped}
    if labels is not None and "information" not in titles:
        few = tree.map_structure(lambda part: part[:PROBED], x)
        results.append(information(network, few, labels[:PROBED], places=3, seed=seed))
    if labels is not None and "lesion study" not in titles:
        results.append(lesion_study(network, x, labels, draws=0, seed=seed))
    return results, skipped


def _labels(network: Anatomy, y: Tensor, loss: Any) -> Tensor | None:
    """Returns class indices, if the true values are such."""
    # With a function as the loss, 0 and 1 may be anything.
    if loss is not None and not isinstance(loss, str):
        return None
    try:
        return network.labels(y)[:, 0]
    except ReszooError:
        if loss is None and network.compiled is None:
            raise
        return None


def _impossible(network: Anatomy, x: Tensor, labels: Tensor | None, *, count: int) -> Iterator[Skipped]:
    """Yields the measurements that are not possible here, or say nothing for their time, and why."""
    if labels is None:
        yield from ((title, "there are no classes") for title in ("information", "lesion study"))
        return
    if count < LEAST:
        yield "information", f"{count} examples: needs at least {LEAST}, half of them held out"
    if len(np.unique(labels)) > count // 4:
        yield "lesion study", f"{len(np.unique(labels))} classes in {count} examples"
        return
    try:
        if len(removable(network)) > FEW_BLOCKS:
            accuracy = accuracy_without(network, x, labels, ())
            chance = float(np.bincount(labels).max() / len(labels))
            if accuracy <= chance + 2 * (chance * (1 - chance) / len(labels)) ** 0.5:
                yield "lesion study", f"accuracy {accuracy:.1%}, of the largest class {chance:.1%}: nothing to lose"
    except ReszooError as error:
        yield "lesion study", error.got if isinstance(error.got, str) else str(error.got)


def description(network: Anatomy) -> str:
    """Returns the blocks, initializers and norms of a network in a line."""
    initializers = [getattr(step.layer, "kernel_initializer", None) for step in network.graph.steps]
    names = sorted({type(initializer).__name__ for initializer in initializers if initializer is not None})
    norms = sorted({type(layer).__name__ for layer in norms_of(network)})
    blocks = network.description or "no blocks"
    return f"{blocks}; initializer {', '.join(names) or 'unknown'}; {', '.join(norms) or 'no norm'}"
