"""Channels of a trained network that are provably zero for every input, and the narrower network without them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import ceil
from typing import Any, NamedTuple

import numpy as np

from reszoo.arch.ops import Op, Plan
from reszoo.arch.parts import shortest_ratio
from reszoo.arch.plan import plan
from reszoo.arch.spec import NetSpec
from reszoo.errors import ReszooError

Weights = Mapping[str, Mapping[str, Any]]
"""Operation -> its arrays by name: kernel, bias, gamma, beta."""
Channels = dict[str, Any]
"""Operation -> an array with an entry for every channel of its output."""


class NarrowerNetwork(NamedTuple):
    """A network without some channels."""

    spec: NetSpec
    channels: Channels
    """Operation of the wider network -> indices of the channels that remain, ascending."""


def constants(network: Plan, weights: Weights) -> Channels:
    """Returns the constant value of every channel, NaN for channels that depend on input or position.

    In inference mode. A zero kernel column gives its bias; a zero norm scale gives its shift; a rectifier of values
    that are never positive gives zero; an operation on zeros gives zero. Nothing else counts as constant.
    """
    values: Channels = {"input": np.full(network.spec.input_shape[-1] or 0, np.nan)}
    for op in network.ops:
        inputs = [values[name] for name in op.inputs]
        value_of = _VALUES.get(op.kind)
        values[op.name] = inputs[0] if value_of is None else value_of(op, inputs, weights.get(op.name, {}))
    return values


def _weighted_value(op: Op, inputs: list[Any], weights: Mapping[str, Any]) -> Any:
    kernel = np.asarray(weights["kernel"]).reshape(-1, op.width_in // op.groups, op.width).any(axis=0)
    nonzero = (inputs[0] != 0).reshape(op.groups, -1)
    # An output reads only the inputs of its group.
    group = np.repeat(nonzero, op.width // op.groups, axis=0).T
    bias = np.asarray(weights.get("bias", np.zeros(op.width)), "float64")
    return np.where((kernel & group).any(axis=0), np.nan, bias)


def _norm_value(op: Op, inputs: list[Any], weights: Mapping[str, Any]) -> Any:
    return np.where(np.asarray(weights["gamma"]) == 0, np.asarray(weights["beta"], "float64"), np.nan)


def _activation_value(op: Op, inputs: list[Any], weights: Mapping[str, Any]) -> Any:
    if op.variant in ("relu", "leaky_relu"):
        return np.where(inputs[0] < 0, op.slope * inputs[0], inputs[0])
    # SiLU and GELU of zero are zero; the sigmoid of a gate never is.
    return np.where((inputs[0] == 0) & (op.variant != "sigmoid"), 0.0, np.nan)


def _pad_value(op: Op, inputs: list[Any], weights: Mapping[str, Any]) -> Any:
    return np.pad(inputs[0], (op.zeros_before, op.width - op.width_in - op.zeros_before))


def _pool_value(op: Op, inputs: list[Any], weights: Mapping[str, Any]) -> Any:
    # At the border a pool also reads the padding, so only zero remains unchanged.
    return np.where(inputs[0] == 0, 0.0, np.nan)


def _scale_value(op: Op, inputs: list[Any], weights: Mapping[str, Any]) -> Any:
    return np.where((inputs[0] == 0) | (inputs[1] == 0), 0.0, np.nan)


_VALUES: dict[str, Callable[[Op, list[Any], Mapping[str, Any]], Any]] = {
    "conv": _weighted_value,
    "dense": _weighted_value,
    "channel_conv": lambda op, inputs, weights: np.full(op.width, np.nan),
    "norm": _norm_value,
    "act": _activation_value,
    "pad": _pad_value,
    "pool": _pool_value,
    "global_pool": _pool_value,
    "scale": _scale_value,
    "add": lambda op, inputs, weights: inputs[0] + inputs[1],
}
"""Operation -> output value for constant inputs; other operations (dropout) change nothing in inference."""


def without_dead_channels(network: Plan, weights: Weights) -> NarrowerNetwork:
    """Returns the network without channels that are provably zero, as far as a spec can express it.

    Widths belong to stages: all blocks of a stage lose as many channels as the block that can lose the fewest, and
    their inner units lose equal shares. Channels of a padded shortcut keep their positions, half of
    the padding before and half after them. Channels of grouped convolutions, group norms and squeeze-and-excitation
    remain.

    Raises:
        ReszooError: no channel can be removed.
    """
    dead = {name: values == 0 for name, values in constants(network, weights).items()}
    axes = _Axes(network, dead)
    spec = _narrow_spec(network, axes)
    widths = {op.name: op.width for op in plan(spec).ops}
    # A pad of zero channels is no operation.
    has_same_ops = {op.name for op in network.ops if op.kind != "pad"} <= {*widths}
    channels = {
        name: _select(axes.removable[axis], widths.get(axis, widths.get(name, 0)))
        for name, axis in axes.of.items()
        if name in widths
    }
    if spec == network.spec or not has_same_ops or any(len(channels[name]) != width for name, width in widths.items()):
        expected = "a network with channels that are zero for every input and that its spec can omit"
        raise ReszooError(network.spec.name, got="no removable dead channels", expected=expected)
    return NarrowerNetwork(spec, channels | {"input": np.arange(network.spec.input_shape[-1] or 0)})


class _Axes:
    """The channel axes of a network: tensors that must keep the same channels share an axis."""

    def __init__(self, network: Plan, dead: Channels):
        self.network = network
        self.of: dict[str, str] = {"input": "input"}
        """Operation -> axis of its output, named after the operation that creates the axis."""
        for op in network.ops:
            creates_axis = op.kind in ("conv", "dense", "pad")
            self.of[op.name] = op.name if creates_axis else self.of[op.inputs[0]]
            for name in op.inputs[1:]:
                self._join(self.of[name], self.of[op.name])
        self.removable = {axis: np.ones(self._width(axis), bool) for axis in {*self.of.values()}}
        for axis in self._fixed_axes():
            self.removable[axis][:] = False
        for op in network.ops:
            if op.kind in ("conv", "dense", "pad"):
                # Only the channels that are read count: before a norm or activation a channel may have any value.
                self.removable[self.of[op.inputs[0]]] &= dead[op.inputs[0]]
        self._pads = [op for op in network.ops if op.kind == "pad"]
        for op in reversed(self._pads):
            self.removable[self.of[op.inputs[0]]] &= self._removable_behind(op)
        for op in self._pads:
            self._align(op)

    def need(self, names: Iterable[str]) -> int:
        """Number of channels that must remain in the outputs of operations of equal width."""
        return max(1, *(int((~self.removable[self.of[name]]).sum()) for name in names))

    def _fixed_axes(self) -> set[str]:
        """Axes that keep all channels: both ends, those of groups and gates, and those of stems of several layers."""
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

    def _removable_behind(self, op: Op) -> Any:
        """Which of the channels that a pad passes on are removable in its output."""
        before = op.zeros_before
        return self.removable[self.of[op.name]][before : before + op.width_in]

    def _align(self, op: Op) -> None:
        """Keeps the channels that a pad passes on, and equally many padded channels on either side."""
        removable, before = self.removable[self.of[op.name]], op.zeros_before
        removable[before : before + op.width_in] = self.removable[self.of[op.inputs[0]]]
        if op.variant == "behind":
            return
        sides = removable[:before], removable[before + op.width_in :]
        first, second = (int((~side).sum()) for side in sides)
        extra = max(2 * first, 2 * second - 1, 0)
        for side, count in zip(sides, (extra // 2, extra - extra // 2), strict=True):
            side[_select(side, count)] = False


def _select(removable: Any, count: int) -> Any:
    """Indices of `count` channels: all that must remain, then the first of the others."""
    required, others = np.flatnonzero(~removable), np.flatnonzero(removable)
    return np.sort(np.concatenate([required, others[: max(count - len(required), 0)]]))


def _narrow_spec(network: Plan, axes: _Axes) -> NetSpec:
    """The spec with only the channels that must remain."""
    spec = network.spec
    stages = []
    units = range(1, len(spec.block.body))
    blocks = [segments for segments in network.parts.values() if segments[0].branch]
    for stage, segments in zip(spec.stages, blocks, strict=True):
        ends = [segment.prefix + name for segment in segments for name in (segment.output.name, segment.branch)]
        inner = [[segment.prefix + _unit_name(number, segment.ops) for segment in segments] for number in units]
        before = stage.unit_widths(spec.block.body)
        # All inner units of a stage share one factor.
        share = max((axes.need(names) / width for names, width in zip(inner, before, strict=False)), default=1.0)
        stages.append((axes.need(ends), [ceil(width * share) for width in before[:-1]]))
    ratios = [shortest_ratio([(stages[0][0], width)]) for width in stages[0][1]]
    factors = [
        shortest_ratio([(width * ratio, unit) for ratio, unit in zip(ratios, inner, strict=True)]) if inner else 1.0
        for width, inner in stages[1:]
    ]
    new_stages = [
        stage.model_dump() | {"width": width, "inner": factor}
        for stage, (width, _), factor in zip(spec.stages, stages, [1.0, *factors], strict=True)
    ]
    body = [
        unit.model_dump() | {"ratio": ratio}
        for unit, ratio in zip(spec.block.body, [*ratios, spec.block.body[-1].ratio], strict=True)
    ]
    stem = network.segments[0].ops[-1].name
    width = axes.need([network.segments[0].prefix + stem])
    return spec.replace(stem={"width": width}, stages=new_stages, block={"body": body})


def _unit_name(number: int, ops: Iterable[Op]) -> str:
    return next(op.name for op in ops if op.name in (f"unit{number}_conv", f"unit{number}_dense"))
