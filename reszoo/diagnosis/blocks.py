"""The blocks of a graph: from the plan of a reszoo network, from the additions of any other, or by weighted layers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import keras

from reszoo.arch.ops import Plan
from reszoo.arch.plan import plan
from reszoo.arch.recover import spec_of
from reszoo.diagnosis.graph import Graph, Slot, Step
from reszoo.errors import ReszooError

_ACTIVATIONS = (keras.layers.Activation, keras.layers.ReLU, keras.layers.LeakyReLU, keras.layers.ELU)
_START = Slot(-1)
"""A virtual tensor before all inputs."""


@dataclass(frozen=True, slots=True)
class Block:
    """The position of one block in the graph."""

    name: str
    part: str
    """stage1, stage2, ...: the blocks of a stage are consecutive and their outputs have one shape."""
    input: Slot
    output: Slot
    """What the next block reads: the tensor after the activation that follows the addition, if there is one."""
    merge: Slot | None = None
    """The sum of a residual block."""
    branch: Slot | None = None
    """F(x), the term of the sum that the branch computes."""
    shortcut: Slot | None = None
    """The other term of the sum."""

    @property
    def residual(self) -> bool:
        """Whether the block has a shortcut."""
        return self.merge is not None


def blocks_of(graph: Graph) -> tuple[tuple[Block, ...], str]:
    """Returns the blocks in execution order, and a description of how they were identified.

    Raises:
        ReszooError: the network has neither additions nor at least three weighted layers in a row.
    """
    network = _plan(graph)
    if network is not None:
        return tuple(_planned(graph, network)), f"{len(network.blocks)} blocks by the plan of {network.spec.name}"
    dominators = _Dominators(graph)
    blocks = _staged(graph, list(_residual_blocks(graph, dominators)))
    if blocks:
        return blocks, f"{len(blocks)} residual blocks, found at the additions"
    blocks = _staged(graph, list(_plain_blocks(graph, dominators)))
    if blocks:
        return blocks, f"{len(blocks)} plain blocks, one for every weighted layer between the first and the last"
    raise ReszooError(
        f"{graph.model.name}: cannot be analyzed",
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
    slots = {step.name: step.outputs[0] for step in graph.steps}
    before = network.segments[0]
    for block in network.blocks:
        start, output = slots[before.prefix + before.output.name], slots[block.prefix + block.output.name]
        add = next((op for op in block.ops if op.kind == "add"), None)
        if add is None:
            yield Block(block.name, block.part, start, output)
        else:
            shortcut = start if add.inputs[1] == "input" else slots[block.prefix + add.inputs[1]]
            merge, branch = slots[block.prefix + add.name], slots[block.prefix + block.branch]
            yield Block(block.name, block.part, start, output, merge, branch, shortcut)
        before = block


class _Dominators:
    """The dominator tree of the graph: for every tensor, the last one before it that every path to it passes."""

    def __init__(self, graph: Graph):
        self._before: dict[Slot, Slot] = dict.fromkeys(graph.inputs, _START)
        self._depth = {_START: 0} | dict.fromkeys(graph.inputs, 1)
        for step in graph.steps:
            dominator = step.inputs[0] if step.inputs else _START
            for slot in step.inputs[1:]:
                dominator = self._common(dominator, slot)
            for slot in step.outputs:
                self._before[slot], self._depth[slot] = dominator, self._depth[dominator] + 1

    def before(self, slot: Slot) -> Slot:
        """Returns the immediate dominator of a tensor."""
        return self._before[slot]

    def chain(self, slot: Slot) -> list[Slot]:
        """Returns a tensor and all its dominators, the network's input first."""
        chain = [slot]
        while self._before[chain[-1]] != _START:
            chain.append(self._before[chain[-1]])
        return chain[::-1]

    def _common(self, a: Slot, b: Slot) -> Slot:
        while a != b:
            if self._depth[a] < self._depth[b]:
                a, b = b, a
            a = self._before[a]
        return a


def _residual_blocks(graph: Graph, dominators: _Dominators) -> Iterator[Block]:
    """Yields a block for every sum of two tensors, one of which has passed more weighted layers than the other."""
    for step in graph.steps:
        if type(step.layer).__name__ != "Add" or len(step.inputs) != 2 or step.inputs[0] == step.inputs[1]:
            continue
        merge, start = step.outputs[0], dominators.before(step.outputs[0])
        if start == _START or {graph.shapes[slot] for slot in step.inputs} != {graph.shapes[merge]}:
            continue
        lengths = [_length(graph, start, slot) for slot in step.inputs]
        if lengths[0][0] == lengths[1][0]:
            continue
        shortcut, branch = step.inputs if lengths[0] < lengths[1] else step.inputs[::-1]
        yield Block(step.name, "", start, _activated(graph, merge), merge, branch, shortcut)


def _length(graph: Graph, start: Slot, end: Slot) -> tuple[int, int]:
    """Returns the number of kernels and of steps between two tensors."""
    steps = graph.between([start, *graph.inputs], [end])
    return sum(step.kernels for step in steps), len(steps)


def _activated(graph: Graph, slot: Slot) -> Slot:
    readers = graph.readers.get(slot, [])
    return readers[0].outputs[0] if len(readers) == 1 and _is_activation(readers[0]) else slot


def _is_activation(step: Step) -> bool:
    return isinstance(step.layer, _ACTIVATIONS) or type(step.layer).__name__ in ("Relu", "Gelu", "Silu")


def _plain_blocks(graph: Graph, dominators: _Dominators) -> Iterator[Block]:
    """Yields a block from every weighted layer to the next, along the chain of tensors that every path passes."""
    cuts = []
    for start, end in pairwise(dominators.chain(graph.logits)):
        weighted = [step for step in graph.between([start, *graph.inputs], [end]) if step.kernels]
        if weighted:
            cuts.append((start, weighted[0].name))
    # The first weighted layer is the stem, the last one the head.
    for (start, name), (end, _) in pairwise(cuts[1:]):
        yield Block(name, "", start, end)


def _staged(graph: Graph, blocks: Sequence[Block]) -> tuple[Block, ...]:
    """Returns the blocks with their stages: a new one begins where the shape of the output changes."""
    stage = 0
    before: tuple[int | None, ...] | None = None
    staged = []
    for block in blocks:
        shape = graph.shapes[block.output]
        stage += shape != before
        before = shape
        staged.append(replace(block, part=f"stage{stage}"))
    return tuple(staged)
