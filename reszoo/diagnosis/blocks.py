"""The blocks of a graph: by the plan of a reszoo network, at the additions of any other, or by weighted layers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import keras

from reszoo.arch.ops import Plan
from reszoo.arch.plan import plan
from reszoo.arch.recover import spec_of
from reszoo.diagnosis.graph import Graph, Slot, Step
from reszoo.errors import ReszooError

_ACTIVATIONS = (keras.layers.Activation, keras.layers.ReLU, keras.layers.LeakyReLU, keras.layers.ELU)
_START = Slot(-1)
"""Stands before all inputs."""


@dataclass(frozen=True, slots=True)
class Block:
    """Where one block stands in the graph."""

    name: str
    part: str
    """stage1, stage2, ...: blocks of a part follow each other and put out tensors of one shape."""
    input: Slot
    output: Slot
    """What the next block reads: after the activation that follows the addition, where there is one."""
    merge: Slot | None = None
    """Of a residual block: the sum."""
    branch: Slot | None = None
    """F(x), as it is added."""
    shortcut: Slot | None = None
    """What it is added to."""

    @property
    def residual(self) -> bool:
        """Whether the block has a shortcut."""
        return self.merge is not None


def blocks_of(graph: Graph) -> tuple[tuple[Block, ...], str]:
    """Returns the blocks in execution order, and in words how they were found.

    Raises:
        ReszooError: the network has no two weighted layers in a row between its first and its last.
    """
    network = _plan(graph)
    if network is not None:
        return tuple(_planned(graph, network)), f"{len(network.blocks)} blocks by the plan of {network.spec.name}"
    tree = _Dominators(graph)
    found = _numbered(graph, list(_merged(graph, tree)))
    if found:
        return found, f"{len(found)} residual blocks, found at the additions"
    found = _numbered(graph, list(_weighted(graph, tree)))
    if found:
        return found, f"{len(found)} plain blocks, one for every weighted layer between the first and the last"
    raise ReszooError(
        f"{graph.model.name}: cannot be taken apart",
        got=f"{len(graph.steps)} layers without a block",
        expected="additions of a branch to a shortcut, or at least three weighted layers in a row",
    )


def _plan(graph: Graph) -> Plan | None:
    if not any(re.match(r"stage\d+_block\d+_", step.name) for step in graph.steps):
        return None
    try:
        return plan(spec_of(graph.model))
    except ReszooError:
        return None


def _planned(graph: Graph, network: Plan) -> Iterator[Block]:
    slots = {step.name: step.makes[0] for step in graph.steps}
    before = network.segments[0]
    for block in network.blocks:
        here, output = slots[before.prefix + before.output.name], slots[block.prefix + block.output.name]
        add = next((op for op in block.ops if op.kind == "add"), None)
        if add is None:
            yield Block(block.name, block.part, here, output)
        else:
            shortcut = here if add.inputs[1] == "input" else slots[block.prefix + add.inputs[1]]
            merge, branch = slots[block.prefix + add.name], slots[block.prefix + block.branch]
            yield Block(block.name, block.part, here, output, merge, branch, shortcut)
        before = block


class _Dominators:
    """For every tensor, the last one before it through which everything that reaches it has passed."""

    def __init__(self, graph: Graph):
        self._graph = graph
        self._before: dict[Slot, Slot] = dict.fromkeys(graph.inputs, _START)
        self._depth = {_START: 0} | dict.fromkeys(graph.inputs, 1)
        for step in graph.steps:
            gate = step.reads[0] if step.reads else _START
            for slot in step.reads[1:]:
                gate = self._common(gate, slot)
            for slot in step.makes:
                self._before[slot], self._depth[slot] = gate, self._depth[gate] + 1

    def before(self, slot: Slot) -> Slot:
        return self._before[slot]

    def chain(self, slot: Slot) -> list[Slot]:
        """All of them, the network's input first."""
        found = [slot]
        while self._before[found[-1]] != _START:
            found.append(self._before[found[-1]])
        return found[::-1]

    def _common(self, a: Slot, b: Slot) -> Slot:
        while a != b:
            if self._depth[a] < self._depth[b]:
                a, b = b, a
            a = self._before[a]
        return a


def _merged(graph: Graph, tree: _Dominators) -> Iterator[Block]:
    """A block for every sum of two tensors, one of which has passed more weighted layers than the other."""
    for step in graph.steps:
        if type(step.layer).__name__ != "Add" or len(step.reads) != 2 or step.reads[0] == step.reads[1]:
            continue
        merge, start = step.makes[0], tree.before(step.makes[0])
        if start == _START or {graph.shapes[slot] for slot in step.reads} != {graph.shapes[merge]}:
            continue
        loads = [_load(graph, start, slot) for slot in step.reads]
        if loads[0][0] == loads[1][0]:
            continue
        shortcut, branch = step.reads if loads[0] < loads[1] else step.reads[::-1]
        yield Block(step.name, "", start, _activated(graph, merge), merge, branch, shortcut)


def _load(graph: Graph, start: Slot, end: Slot) -> tuple[int, int]:
    """Kernels and steps between two tensors."""
    steps = graph.needed([end], [start, *graph.inputs])
    return sum(step.weighted for step in steps), len(steps)


def _activated(graph: Graph, slot: Slot) -> Slot:
    readers = graph.readers.get(slot, [])
    return readers[0].makes[0] if len(readers) == 1 and _is_activation(readers[0]) else slot


def _is_activation(step: Step) -> bool:
    return isinstance(step.layer, _ACTIVATIONS) or type(step.layer).__name__ in ("Relu", "Gelu", "Silu")


def _weighted(graph: Graph, tree: _Dominators) -> Iterator[Block]:
    """A block from every weighted layer to the next, in the chain of tensors through which everything passes."""
    chain, cuts = tree.chain(graph.logits), []
    for start, end in pairwise(chain):
        heavy = [step for step in graph.needed([end], [start, *graph.inputs]) if step.weighted]
        if heavy:
            cuts.append((start, heavy[0].name))
    # The first weighted layer is the stem, the last one the head.
    for (start, name), (end, _) in pairwise(cuts[1:]):
        yield Block(name, "", start, end)


def _numbered(graph: Graph, found: Sequence[Block]) -> tuple[Block, ...]:
    """The blocks with their parts: a new one begins where the shape of the output changes."""
    number, before, made = 0, None, []
    for block in found:
        shape: Any = graph.shapes[block.output]
        number += shape != before
        before = shape
        made.append(Block(block.name, f"stage{number}", *(getattr(block, field) for field in _PLACES)))
    return tuple(made)


_PLACES = ("input", "output", "merge", "branch", "shortcut")
