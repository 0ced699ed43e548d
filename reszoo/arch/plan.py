"""A spec lowered to operations in execution order. This is the only walk over a network; all else reads the plan."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from reszoo.arch.ops import Op, Piece, Plan, RepeatedSegments, Shape
from reszoo.arch.parts import ORDERS, PADS, Activation, Block, Head, Norm, Stem, Unit, squeeze_width, usual_reach
from reszoo.arch.spec import NetSpec


@dataclass(frozen=True, eq=False, slots=True)
class _BlockContext:
    """Settings shared by stem, blocks and head of a network; compared by identity, which is fast."""

    block: Block
    norm: Norm
    activation: Activation
    padding: str
    bias: bool
    init: str
    dense: bool
    gain: float | None
    """Factor on the initial values of the last weights of every branch."""


_block_context = lru_cache(maxsize=1024)(_BlockContext)
"""Cached constructor: networks with equal contexts share their lowered stems, blocks and heads."""


class _BlockPosition(NamedTuple):
    """What a block depends on besides its context."""

    shape: Shape
    input_sign: Any
    width: int
    unit_widths: tuple[int, ...]
    stride: int
    before: int
    """Dilation of the preceding blocks."""
    dilation: int
    rate: float
    lead: bool
    """Whether it has the layers before the first unit."""
    reach: int | None


@lru_cache(maxsize=256)
def plan(spec: NetSpec) -> Plan:
    """Returns the operations of a network in execution order; recent plans are cached, since specs are frozen."""
    return lower(spec)


def lower(spec: NetSpec) -> Plan:
    """Returns the same as `plan`, but caches only the pieces: for loops over thousands of networks."""
    total = sum(stage.depth for stage in spec.stages)
    gain = 1 / math.sqrt(total) if spec.block.start == "scaled" else None
    context = _block_context(
        spec.block, spec.norm, spec.activation, spec.padding, spec.bias, spec.init, spec.dense, gain
    )
    piece = _stem(context, spec.stem, spec.input_shape)
    runs = [RepeatedSegments("stem", piece)]
    rates = _rates(spec.block.drop_path, total)
    dilation, first_lead = 1, ORDERS[spec.block.order].first_lead
    for number, stage in enumerate(spec.stages, 1):
        part = f"stage{number}"
        index, stride = 1, stage.stride
        widths = stage.unit_widths(spec.block.body)
        while index <= stage.depth:
            rate = next(rates)
            before = piece
            lead = first_lead or (number, index) != (1, 1)
            position = _BlockPosition(
                *(piece.shape, piece.output_sign, stage.width, widths, stride),
                *(dilation, stage.dilation, rate, lead, stage.reach),
            )
            piece = _block(context, position)
            # The second and later blocks of a stage are equal, unless drop path gives each its own rate.
            times = 1 if index == 1 or rate else stage.depth - index + 1
            if piece is before and runs[-1].part == part:
                runs[-1] = runs[-1]._replace(times=runs[-1].times + times)
            else:
                runs.append(RepeatedSegments(part, piece, times, index))
            dilation, stride, index = stage.dilation, 1, index + times
    head = _head(context, spec.head, piece.shape, piece.output_sign)
    return Plan(spec, (*runs, RepeatedSegments("head", head)) if head.ops else tuple(runs))


def _rates(last: float, total: int) -> Iterator[float]:
    """The drop path rate of every block; block l of L has l/L of the last rate (Huang 2016)."""
    return (last * (block / total) for block in range(1, total + 1))


class _SegmentBuilder:
    """Collects the operations of one segment."""

    def __init__(self, context: _BlockContext, shape: Shape, input_sign: Any):
        self.context = context
        self._ops: list[Op] = []
        self._shapes = {"input": shape}
        self._signs = {"input": input_sign}

    def piece(self, branch: str = "") -> Piece:
        last = self._ops[-1] if self._ops else None
        if last is None:
            return Piece((), branch, self._shapes["input"], self._signs["input"])
        return Piece(tuple(self._ops), branch, last.shape, _sign_after(last))

    def shape(self, name: str) -> Shape:
        return self._shapes[name]

    def emit(self, kind: Any, name: str, *inputs: str, shape: Shape | None = None, **attributes: Any) -> str:
        first = inputs[0]
        source = self._shapes[first]
        op = Op(kind, name, inputs, source, source if shape is None else shape, self._signs[first], **attributes)
        self._ops.append(op)
        self._shapes[name], self._signs[name] = op.shape, _sign_after(op)
        return name

    def add_weighted_layer(
        self, owner: str, x: str, kernel: int, width: int, *, init: str, bias: bool | None = None, **window: Any
    ) -> str:
        """Adds a convolution, or a dense layer where `kernel` is 0; its name begins with `owner`."""
        bias = self.context.bias if bias is None else bias
        if kernel == 0:
            return self.emit("dense", f"{owner}dense", x, shape=(width,), bias=bias, init=init, **window)
        shape = (*_strided(self._shapes[x], window.get("stride", 1)), width)
        window["padding"] = self.context.padding
        return self.emit("conv", f"{owner}conv", x, shape=shape, kernel=kernel, bias=bias, init=init, **window)

    def sequence(
        self, words: tuple[str, ...], owner: str, x: str, *, scale: str = "one", gain: float | None = None
    ) -> str:
        """Adds the norms, activations and dropouts listed in `words` as far as the spec has them."""
        norm = self.context.norm
        for word in words:
            if word == "norm" and norm.kind != "none":
                groups = math.gcd(norm.groups, self._shapes[x][-1] or 1) if norm.kind == "group" else 1
                settings: dict[str, Any] = {"epsilon": norm.epsilon, "momentum": norm.momentum, "groups": groups}
                x = self.emit("norm", f"{owner}norm", x, variant=norm.kind, init=scale, gain=gain, **settings)
            elif word == "act":
                kind, slope = self.context.activation.kind, self.context.activation.slope
                leak: dict[str, Any] = {"slope": slope} if kind == "leaky_relu" else {}
                x = self.emit("act", f"{owner}act", x, variant=kind, **leak)
            elif word == "dropout":
                x = self.dropout("dropout", f"{owner}dropout", x, self.context.block.dropout)
        return x

    def dropout(self, kind: str, name: str, x: str, rate: float) -> str:
        return self.emit(kind, name, x, rate=rate) if rate else x


def _strided(shape: Shape, stride: int) -> Shape:
    """Height and width after a layer that pads (kernel - 1) // 2 on both sides, or `same`."""
    return tuple(None if size is None else (size - 1) // stride + 1 for size in shape[:-1])


def _sign_after(op: Op) -> Any:
    if op.kind == "act":
        return "nonnegative" if op.variant in ("relu", "sigmoid") else "signed"
    return op.input_sign if op.kind in ("pool", "global_pool", "dropout") else "signed"


@lru_cache(maxsize=1 << 12)
def _stem(context: _BlockContext, stem: Stem, shape: Shape) -> Piece:
    order = ORDERS[context.block.order]
    builder, x = _SegmentBuilder(context, shape, "raw"), "input"
    for layer in range(1, stem.depth + 1):
        # stem_conv where there is one layer, stem_unit2_conv where there are more.
        owner, last = (f"unit{layer}_" if stem.depth > 1 else ""), layer == stem.depth
        window: dict[str, Any] = {"stride": stem.stride if layer == 1 else 1} if stem.kernel else {}
        x = builder.add_weighted_layer(owner, x, stem.kernel, stem.widths[layer - 1], init=context.init, **window)
        x = builder.sequence(order.stem if last else ("norm", "act"), owner, x)
    if stem.pool == "max":
        shape = (*_strided(builder.shape(x), 2), stem.width)
        builder.emit("pool", "pool", x, shape=shape, variant="max", kernel=3, stride=2, padding=context.padding)
    return builder.piece()


@lru_cache(maxsize=1 << 14)
def _block(context: _BlockContext, position: _BlockPosition) -> Piece:
    block, order = context.block, ORDERS[context.block.order]
    builder = _SegmentBuilder(context, position.shape, position.input_sign)
    first = x = builder.sequence(order.lead if position.lead else (), "unit1_", "input")
    # A block that changes the shape does not start at zero. In padded channels the sum would be exactly 0 for every
    # example; the following ReLU has no gradient there, so nothing behind these channels would ever learn. With a
    # projection the network trains faster this way (benchmarks/starts.py).
    zero = block.start == "identity" and not _changes(builder, position)
    gain = (None if zero else 1.0) if block.start == "identity" else context.gain
    has_last_norm = "norm" in order.trail and context.norm.kind != "none"
    for number, unit in enumerate(block.body, 1):
        last = number == len(block.body)
        init = "zero" if zero and last and not has_last_norm else context.init
        window = _window(block.stride_at, unit, number, position)
        if last and not has_last_norm:
            window["gain"] = gain
        x = builder.add_weighted_layer(
            f"unit{number}_", x, unit.kernel, position.unit_widths[number - 1], init=init, **window
        )
        if not last:
            owner = number + (order.between_belongs_to == "unit after")
            x = builder.sequence(order.between, f"unit{owner}_", x)
    x = builder.sequence(order.trail, f"unit{len(block.body)}_", x, scale="zero" if zero else "one", gain=gain)
    if block.attention != "none":
        x = _squeeze_excite(builder, x) if block.attention == "se" else _channel_attention(builder, x, position.reach)
    x = builder.dropout("dropout", "residual_dropout", x, block.residual_dropout)
    branch = x = builder.dropout("drop_path", "drop_path", x, position.rate)
    if block.shortcut != "none":
        # He 2016, Fig. 1b and appendix: a shortcut other than the identity reads the shared pre-activation.
        shortcut = _shortcut(builder, "input", first if order.projection_reads == "lead" else "input", position)
        x = builder.emit("add", "add", x, shortcut)
    builder.sequence(order.after, "", x)
    return builder.piece(branch)


def _window(stride_at: int, unit: Unit, number: int, position: _BlockPosition) -> dict[str, Any]:
    """Stride, dilation and groups of one unit; units after the strided one have the dilation of the stage."""
    if unit.kernel == 0:
        return {}
    dilation = position.before if number <= stride_at else position.dilation
    return {
        "stride": position.stride if number == stride_at else 1,
        "dilation": dilation if unit.kernel > 1 else 1,
        "groups": unit.groups,
    }


def _changes(builder: _SegmentBuilder, position: _BlockPosition) -> bool:
    """Whether a block's output has another shape than its input."""
    return position.stride > 1 or builder.shape("input")[-1] != position.width


def _shortcut(builder: _SegmentBuilder, identity: str, x: str, position: _BlockPosition) -> str:
    context, width, stride = builder.context, position.width, position.stride
    kind, order = context.block.shortcut, ORDERS[context.block.order]
    window: dict[str, Any]
    if not _changes(builder, position) and kind != "project_all":
        return identity
    smaller = (*_strided(builder.shape(x), stride), builder.shape(x)[-1])
    if kind in PADS:
        if stride > 1:
            window = {"kernel": 2 if kind.startswith("pool") else 1, "stride": stride}
            x = builder.emit("pool", "shortcut_pool", x, shape=smaller, variant="avg", **window)
        if builder.shape(x)[-1] == width:
            return x
        variant = "behind" if kind.endswith("behind") else ""
        return builder.emit("pad", "shortcut_pad", x, shape=(*builder.shape(x)[:-1], width), variant=variant)
    if kind == "pool_project":
        if stride > 1 or position.before != position.dilation:
            x = builder.emit("pool", "shortcut_pool", x, shape=smaller, variant="avg", kernel=2, stride=stride)
        stride = 1
    window = {} if context.dense else {"stride": stride}
    x = builder.add_weighted_layer("shortcut_", x, 0 if context.dense else 1, width, init=context.init, **window)
    return x if context.block.projection == "bare" else builder.sequence(order.trail, "shortcut_", x)


def _squeeze_excite(builder: _SegmentBuilder, x: str) -> str:
    """Hu et al. 2018, Fig. 3: a gate between 0 and 1 for every channel."""
    width = builder.shape(x)[-1] or 0
    gate = builder.emit("global_pool", "se_pool", x, shape=(1, 1, width), variant="avg")
    squeeze = squeeze_width(width, builder.context.block.reduction, builder.context.block.multiple)
    gate = builder.add_weighted_layer("se_reduce_", gate, 1, squeeze, init="he", bias=True)
    gate = builder.emit("act", "se_reduce_act", gate, variant="relu")
    gate = builder.add_weighted_layer("se_expand_", gate, 1, width, init="glorot", bias=True)
    gate = builder.emit("act", "se_gate", gate, variant="sigmoid")
    return builder.emit("scale", "se_scale", x, gate)


def _channel_attention(builder: _SegmentBuilder, x: str, reach: int | None) -> str:
    """Wang et al. 2020, Fig. 2: a gate for every channel that depends on its neighbors."""
    width = builder.shape(x)[-1] or 0
    gate = builder.emit("global_pool", "eca_pool", x, shape=(1, 1, width), variant="avg")
    gate = builder.emit("channel_conv", "eca_conv", gate, kernel=reach or usual_reach(width), init="glorot")
    gate = builder.emit("act", "eca_gate", gate, variant="sigmoid")
    return builder.emit("scale", "eca_scale", x, gate)


@lru_cache(maxsize=1 << 12)
def _head(context: _BlockContext, head: Head, shape: Shape, input_sign: Any) -> Piece:
    builder = _SegmentBuilder(context, shape, input_sign)
    x = builder.sequence(ORDERS[context.block.order].final, "final_", "input")
    if not context.dense and head.pooling != "none":
        x = builder.emit("global_pool", "head_pool", x, shape=shape[-1:], variant=head.pooling)
    if head.classes:
        x = builder.dropout("dropout", "head_dropout", x, head.dropout)
        builder.emit(
            "dense", "predictions", x, shape=(head.classes,), variant=head.activation, bias=True, init="glorot"
        )
    return builder.piece()
