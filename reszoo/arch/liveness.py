"""Which channels of a trained network can be proven zero for every input, and the narrower network without them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import ceil
from typing import Any, NamedTuple

import numpy as np

from reszoo.arch.ops import Op, Plan
from reszoo.arch.plan import plan
from reszoo.arch.recover import shortest_ratio
from reszoo.arch.spec import NetSpec
from reszoo.errors import ReszooError

Weights = Mapping[str, Mapping[str, Any]]
"""Of every weighted operation, its arrays by name: kernel, bias, gamma, beta."""
Channels = dict[str, Any]
"""Of tensors by the operations that make them: an array with an entry for every channel."""


class Narrower(NamedTuple):
    """A network without some channels."""

    spec: NetSpec
    kept: Channels
    """For every operation of the wider network: the numbers of the channels that stay, in ascending order."""


def constants(network: Plan, weights: Weights) -> Channels:
    """Returns the value of every channel that is the same for every input and place, NaN for all others.

    In inference mode. A kernel column of zeros gives its bias; a norm scale of zero gives its shift; rectifying what is
    never positive gives zero; what reads nothing but zeros is zero. Nothing else is taken for constant.
    """
    found: Channels = {"input": np.full(network.spec.input_shape[-1] or 0, np.nan)}
    for op in network.ops:
        inputs = [found[name] for name in op.inputs]
        value = _VALUES.get(op.kind)
        found[op.name] = inputs[0] if value is None else value(op, inputs, weights.get(op.name, {}))
    return found


def _weighted(op: Op, inputs: list[Any], own: Mapping[str, Any]) -> Any:
    kernel = np.asarray(own["kernel"]).reshape(-1, op.width_in // op.groups, op.width).any(axis=0)
    read = (inputs[0] != 0).reshape(op.groups, -1)
    # Output o reads the inputs of its own group.
    group = np.repeat(read, op.width // op.groups, axis=0).T
    bias = np.asarray(own.get("bias", np.zeros(op.width)), "float64")
    return np.where((kernel & group).any(axis=0), np.nan, bias)


def _normalized(op: Op, inputs: list[Any], own: Mapping[str, Any]) -> Any:
    return np.where(np.asarray(own["gamma"]) == 0, np.asarray(own["beta"], "float64"), np.nan)


def _activated(op: Op, inputs: list[Any], own: Mapping[str, Any]) -> Any:
    # The sigmoid of a gate is never zero.
    return np.maximum(inputs[0], 0) if op.variant == "relu" else np.full(op.width, np.nan)


def _padded(op: Op, inputs: list[Any], own: Mapping[str, Any]) -> Any:
    before = (op.width - op.width_in) // 2
    return np.pad(inputs[0], (before, op.width - op.width_in - before))


def _pooled(op: Op, inputs: list[Any], own: Mapping[str, Any]) -> Any:
    # At a border a pool sees padding: only zero stays what it is.
    return np.where(inputs[0] == 0, 0.0, np.nan)


def _scaled(op: Op, inputs: list[Any], own: Mapping[str, Any]) -> Any:
    return np.where((inputs[0] == 0) | (inputs[1] == 0), 0.0, np.nan)


_VALUES: dict[str, Callable[[Op, list[Any], Mapping[str, Any]], Any]] = {
    "conv": _weighted,
    "dense": _weighted,
    "norm": _normalized,
    "act": _activated,
    "pad": _padded,
    "pool": _pooled,
    "global_pool": _pooled,
    "scale": _scaled,
    "add": lambda op, inputs, own: inputs[0] + inputs[1],
}
"""What an operation makes of constants; the others (dropout) change nothing in inference."""


def without_dead_channels(network: Plan, weights: Weights) -> Narrower:
    """Returns the network without channels that are provably zero, as far as a spec can say it.

    Widths belong to stages: the blocks of a stage lose as many channels as the one that can lose fewest, its inner
    units the same share. Channels of a padded shortcut keep their places, half of the padding before and half behind.
    What groups, group norms or squeeze-and-excitation depend on stays.

    Raises:
        ReszooError: no channel can be removed.
    """
    dead = {name: values == 0 for name, values in constants(network, weights).items()}
    axes = _Axes(network, dead)
    spec = _narrowed(network, axes)
    widths = {op.name: op.width for op in plan(spec).ops}
    # A pad without padding is no operation any more.
    same = {op.name for op in network.ops if op.kind != "pad"} <= {*widths}
    kept = {
        name: _kept(axes.removable[axis], widths.get(axis, widths.get(name, 0)))
        for name, axis in axes.of.items()
        if name in widths
    }
    if spec == network.spec or not same or any(len(kept[name]) != width for name, width in widths.items()):
        expected = "a network with channels that are zero for every input, and that its spec can do without"
        raise ReszooError(network.spec.name, got="no dead channels that can be removed", expected=expected)
    return Narrower(spec, kept | {"input": np.arange(network.spec.input_shape[-1] or 0)})


class _Axes:
    """The channel axes of a network: tensors that must keep the same channels have the same axis."""

    def __init__(self, network: Plan, dead: Channels):
        self.network = network
        self.of: dict[str, str] = {"input": "input"}
        """The axis of every operation's output, named after the operation that opens it."""
        for op in network.ops:
            opens = op.kind in ("conv", "dense", "pad")
            self.of[op.name] = op.name if opens else self.of[op.inputs[0]]
            for name in op.inputs[1:]:
                self._join(self.of[name], self.of[op.name])
        self.removable = {axis: np.ones(self._width(axis), bool) for axis in {*self.of.values()}}
        for axis in self._fixed():
            self.removable[axis][:] = False
        for op in network.ops:
            if op.kind in ("conv", "dense", "pad"):
                # What is read is what counts: before a norm or an activation a channel may be anything.
                self.removable[self.of[op.inputs[0]]] &= dead[op.inputs[0]]
        self._pads = [op for op in network.ops if op.kind == "pad"]
        for op in reversed(self._pads):
            self.removable[self.of[op.inputs[0]]] &= self._carried(op)
        for op in self._pads:
            self._align(op)

    def need(self, names: Iterable[str]) -> int:
        """How many channels must stay in the outputs of some operations, which have one width."""
        return max(1, *(int((~self.removable[self.of[name]]).sum()) for name in names))

    def _fixed(self) -> set[str]:
        """Axes that keep all channels: the ends, what groups or gates depend on, and stems of several layers."""
        fixed = {"input", self.of[self.network.ops[-1].name]}
        for op in self.network.ops:
            if op.groups > 1 and op.kind == "conv":
                fixed |= {self.of[op.inputs[0]], self.of[op.name]}
            if op.kind == "norm" and op.variant == "group":
                fixed.add(self.of[op.name])
            if op.kind == "scale":
                fixed |= {self.of[name] for name in op.inputs}
            if "se_reduce" in op.name:
                fixed.add(self.of[op.name])
        if self.network.spec.stem.depth > 1:
            fixed |= {self.of[op.name] for op in self.network.ops if op.name.startswith("stem_")}
        return fixed

    def _join(self, axis: str, other: str) -> None:
        self.of = {name: other if each == axis else each for name, each in self.of.items()}

    def _width(self, axis: str) -> int:
        if axis == "input":
            return self.network.spec.input_shape[-1] or 0
        return next(op.width for op in self.network.ops if op.name == axis)

    def _carried(self, op: Op) -> Any:
        """Of the channels that a pad carries: which can go behind it."""
        before = (op.width - op.width_in) // 2
        return self.removable[self.of[op.name]][before : before + op.width_in]

    def _align(self, op: Op) -> None:
        """Keeps what a pad carries, and as many channels around it as leave half of the padding on either side."""
        removable, before = self.removable[self.of[op.name]], (op.width - op.width_in) // 2
        removable[before : before + op.width_in] = self.removable[self.of[op.inputs[0]]]
        sides = removable[:before], removable[before + op.width_in :]
        first, second = (int((~side).sum()) for side in sides)
        extra = max(2 * first, 2 * second - 1, 0)
        for side, count in zip(sides, (extra // 2, extra - extra // 2), strict=True):
            side[_kept(side, count)] = False


def _kept(removable: Any, count: int) -> Any:
    """The numbers of `count` channels: all that must stay, and the first of the others."""
    needed, spare = np.flatnonzero(~removable), np.flatnonzero(removable)
    return np.sort(np.concatenate([needed, spare[: max(count - len(needed), 0)]]))


def _narrowed(network: Plan, axes: _Axes) -> NetSpec:
    """The spec with as few channels as must stay."""
    spec, stages = network.spec, []
    units = range(1, len(spec.block.body))
    blocks = [segments for segments in network.parts.values() if segments[0].branch]
    for stage, segments in zip(spec.stages, blocks, strict=True):
        ends = [segment.prefix + name for segment in segments for name in (segment.output.name, segment.branch)]
        inner = [[segment.prefix + _unit(number, segment.ops) for segment in segments] for number in units]
        before = stage.unit_widths(spec.block.body)
        # One factor for all inner units of a stage.
        share = max((axes.need(names) / width for names, width in zip(inner, before, strict=False)), default=1.0)
        stages.append((axes.need(ends), [ceil(width * share) for width in before[:-1]]))
    ratios = [shortest_ratio([(stages[0][0], width)]) for width in stages[0][1]]
    factors = [
        shortest_ratio([(width * ratio, unit) for ratio, unit in zip(ratios, inner, strict=True)]) if inner else 1.0
        for width, inner in stages[1:]
    ]
    changed = [
        stage.model_dump() | {"width": width, "inner": factor}
        for stage, (width, _), factor in zip(spec.stages, stages, [1.0, *factors], strict=True)
    ]
    body = [
        unit.model_dump() | {"ratio": ratio}
        for unit, ratio in zip(spec.block.body, [*ratios, spec.block.body[-1].ratio], strict=True)
    ]
    stem = network.segments[0].ops[-1].name
    width = axes.need([network.segments[0].prefix + stem])
    return spec.replace(stem={"width": width}, stages=changed, block={"body": body})


def _unit(number: int, ops: Iterable[Op]) -> str:
    return next(op.name for op in ops if op.name in (f"unit{number}_conv", f"unit{number}_dense"))
