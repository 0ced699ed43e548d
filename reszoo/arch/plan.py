"""The network, walked once: a spec lowered to operations in execution order. Everything else reads the plan."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from reszoo.arch.ops import Op, Piece, Plan, Run, Shape
from reszoo.arch.spec import Block, Head, NetSpec, Norm, Stem, Unit

SE_REDUCTION, SE_LEAST = 16, 8
"""Hu et al. 2018, section 6.1: reduction 16; never narrower than 8, as timm has it."""


class Order(NamedTuple):
    """What stands around the weighted layers of a block, and at the two ends of the trunk."""

    stem: tuple[str, ...]
    lead: tuple[str, ...]
    between: tuple[str, ...]
    trail: tuple[str, ...]
    after: tuple[str, ...]
    final: tuple[str, ...]
    between_belongs_to: Literal["unit before", "unit after"] = "unit before"


ORDERS = {
    "post": Order(("norm", "act"), (), ("norm", "act", "dropout"), ("norm",), ("act",), ()),
    "inner": Order((), (), ("norm", "act", "dropout"), ("norm",), (), ()),
    "pre": Order((), ("norm", "act"), ("norm", "act", "dropout"), (), (), ("norm", "act"), "unit after"),
    "norm_first": Order((), ("norm",), ("act", "dropout"), (), (), ("norm", "act")),
}
"""He 2015 (Fig. 2); the same with a free identity path; He 2016 (Fig. 1b); Gorishniy 2021 (3.2)."""


@dataclass(frozen=True, eq=False, slots=True)
class _Manner:
    """What all blocks of a network have in common, stem and head too; compared by identity, which costs nothing."""

    block: Block
    norm: Norm
    bias: bool
    init: str
    dense: bool
    gain: float | None
    """Factor on the last weights of every branch at the start."""


_manner = lru_cache(maxsize=1024)(_Manner)
"""Makes a manner, each once: networks of the same manner share their lowered stems, blocks and heads."""


class _Place(NamedTuple):
    """Where a block stands: everything else it depends on."""

    shape: Shape
    reads: Any
    width: int
    stride: int
    before: int
    """Dilation of the blocks before it."""
    dilation: int
    rate: float


@lru_cache(maxsize=256)
def plan(spec: NetSpec) -> Plan:
    """Returns the network's operations, lowered from its spec; both are frozen, so recent plans are remembered."""
    total = sum(stage.depth for stage in spec.stages)
    gain = 1 / math.sqrt(total) if spec.block.start == "scaled" else None
    manner = _manner(spec.block, spec.norm, spec.bias, spec.init, spec.dense, gain)
    piece = _stem(manner, spec.stem, spec.input_shape)
    runs, rates, dilation = [Run("stem", piece)], _rates(spec.block.drop_path, total), 1
    for number, stage in enumerate(spec.stages, 1):
        part, index, stride = f"stage{number}", 1, stage.stride
        while index <= stage.depth:
            rate = next(rates)
            before = piece
            place = _Place(piece.shape, piece.reads, stage.width, stride, dilation, stage.dilation, rate)
            piece = _block(manner, place)
            # After its first block a stage repeats itself, unless every block is dropped at a rate of its own.
            times = 1 if index == 1 or rate else stage.depth - index + 1
            if piece is before and runs[-1].part == part:
                runs[-1] = runs[-1]._replace(times=runs[-1].times + times)
            else:
                runs.append(Run(part, piece, times, index))
            dilation, stride, index = stage.dilation, 1, index + times
    head = _head(manner, spec.head, piece.shape, piece.reads)
    return Plan(spec, (*runs, Run("head", head)) if head.ops else tuple(runs))


def _rates(last: float, total: int) -> Iterator[float]:
    """The rate at which each block's branch is dropped; block l of L has l/L of the last one's (Huang 2016)."""
    return (last * (block / total) for block in range(1, total + 1))


class _Walk:
    """The operations of one segment, in the making."""

    def __init__(self, manner: _Manner, shape: Shape, reads: Any):
        self.manner = manner
        self._made: list[Op] = []
        self._shapes = {"input": shape}
        self._reads = {"input": reads}

    def piece(self, branch: str = "") -> Piece:
        last = self._made[-1] if self._made else None
        if last is None:
            return Piece((), branch, self._shapes["input"], self._reads["input"])
        return Piece(tuple(self._made), branch, last.shape, _reads_after(last))

    def shape(self, name: str) -> Shape:
        return self._shapes[name]

    def emit(self, kind: Any, name: str, *inputs: str, shape: Shape | None = None, **attributes: Any) -> str:
        first = inputs[0]
        source = self._shapes[first]
        op = Op(kind, name, inputs, source, source if shape is None else shape, self._reads[first], **attributes)
        self._made.append(op)
        self._shapes[name], self._reads[name] = op.shape, _reads_after(op)
        return name

    def weigh(
        self, owner: str, x: str, kernel: int, width: int, *, init: str, bias: bool | None = None, **window: Any
    ) -> str:
        """A conv, or where `kernel` is 0 a dense layer; `owner` opens its name."""
        bias = self.manner.bias if bias is None else bias
        if kernel == 0:
            return self.emit("dense", f"{owner}dense", x, shape=(width,), bias=bias, init=init, **window)
        shape = (*_strided(self._shapes[x], window.get("stride", 1)), width)
        return self.emit("conv", f"{owner}conv", x, shape=shape, kernel=kernel, bias=bias, init=init, **window)

    def sequence(
        self, words: tuple[str, ...], owner: str, x: str, *, scale: str = "one", gain: float | None = None
    ) -> str:
        """The norms, activations and dropouts that `words` asks for and the spec has."""
        norm = self.manner.norm
        for word in words:
            if word == "norm" and norm.kind != "none":
                groups = math.gcd(norm.groups, self._shapes[x][-1] or 1) if norm.kind == "group" else 1
                settings: dict[str, Any] = {"epsilon": norm.epsilon, "momentum": norm.momentum, "groups": groups}
                x = self.emit("norm", f"{owner}norm", x, word=norm.kind, init=scale, gain=gain, **settings)
            elif word == "act":
                x = self.emit("act", f"{owner}act", x, word="relu")
            elif word == "dropout":
                x = self.dropout("dropout", f"{owner}dropout", x, self.manner.block.dropout)
        return x

    def dropout(self, kind: str, name: str, x: str, rate: float) -> str:
        return self.emit(kind, name, x, rate=rate) if rate else x


def _strided(shape: Shape, stride: int) -> Shape:
    """Height and width after a layer that pads (kernel - 1) // 2 on both sides."""
    return tuple(None if size is None else (size - 1) // stride + 1 for size in shape[:-1])


def _reads_after(op: Op) -> Any:
    if op.kind == "act":
        return "rectified"
    return op.reads if op.kind in ("pool", "global_pool", "dropout") else "linear"


@lru_cache(maxsize=1 << 12)
def _stem(manner: _Manner, stem: Stem, shape: Shape) -> Piece:
    order = ORDERS[manner.block.order]
    walk, x = _Walk(manner, shape, "raw"), "input"
    for layer in range(1, stem.depth + 1):
        # stem_conv where there is one layer, stem_unit2_conv where there are more.
        owner, last = (f"unit{layer}_" if stem.depth > 1 else ""), layer == stem.depth
        window: dict[str, Any] = {"stride": stem.stride if layer == 1 else 1} if stem.kernel else {}
        x = walk.weigh(owner, x, stem.kernel, stem.width if last else stem.width // 2, init=manner.init, **window)
        x = walk.sequence(order.stem if last else ("norm", "act"), owner, x)
    if stem.pool == "max":
        shape = (*_strided(walk.shape(x), 2), stem.width)
        walk.emit("pool", "pool", x, shape=shape, word="max", kernel=3, stride=2)
    return walk.piece()


@lru_cache(maxsize=1 << 14)
def _block(manner: _Manner, place: _Place) -> Piece:
    block, order = manner.block, ORDERS[manner.block.order]
    walk = _Walk(manner, place.shape, place.reads)
    first = x = walk.sequence(order.lead, "unit1_", "input")
    # A block that changes the shape does not start at zero. Where its shortcut pads channels, their sum would be
    # exactly 0 in every example: the ReLU that reads it has no gradient there, and nothing behind these channels would
    # ever learn. Where it projects, the network trains faster so (benchmarks/starts.py).
    zero = block.start == "identity" and not _changes(walk, place)
    gain = (None if zero else 1.0) if block.start == "identity" else manner.gain
    has_last_norm = "norm" in order.trail and manner.norm.kind != "none"
    for number, unit in enumerate(block.body, 1):
        last = number == len(block.body)
        init = "zero" if zero and last and not has_last_norm else manner.init
        window = _window(block.stride_at, unit, number, place)
        if last and not has_last_norm:
            window["gain"] = gain
        x = walk.weigh(f"unit{number}_", x, unit.kernel, round(place.width * unit.ratio), init=init, **window)
        if not last:
            owner = number + (order.between_belongs_to == "unit after")
            x = walk.sequence(order.between, f"unit{owner}_", x)
    x = walk.sequence(order.trail, f"unit{len(block.body)}_", x, scale="zero" if zero else "one", gain=gain)
    if block.attention == "se":
        x = _squeeze_excite(walk, x)
    x = walk.dropout("dropout", "residual_dropout", x, block.residual_dropout)
    branch = x = walk.dropout("drop_path", "drop_path", x, place.rate)
    if block.shortcut != "none":
        # He 2016, Fig. 1b and appendix: where the shortcut is not the identity it reads the shared pre-activation.
        shortcut = _shortcut(walk, "input", first if "act" in order.lead else "input", place)
        x = walk.emit("add", "add", x, shortcut)
    walk.sequence(order.after, "", x)
    return walk.piece(branch)


def _window(stride_at: int, unit: Unit, number: int, place: _Place) -> dict[str, Any]:
    """Stride, dilation and groups of one unit: what comes after the stride sees the stage's own dilation."""
    if unit.kernel == 0:
        return {}
    dilation = place.before if number <= stride_at else place.dilation
    return {
        "stride": place.stride if number == stride_at else 1,
        "dilation": dilation if unit.kernel > 1 else 1,
        "groups": unit.groups,
    }


def _changes(walk: _Walk, place: _Place) -> bool:
    """Whether a block's output has another shape than its input."""
    return place.stride > 1 or walk.shape("input")[-1] != place.width


def _shortcut(walk: _Walk, identity: str, x: str, place: _Place) -> str:
    manner, width, stride = walk.manner, place.width, place.stride
    kind, order = manner.block.shortcut, ORDERS[manner.block.order]
    if not _changes(walk, place) and kind != "project_all":
        return identity
    smaller = (*_strided(walk.shape(x), stride), walk.shape(x)[-1])
    if kind == "pad":
        if stride > 1:
            x = walk.emit("pool", "shortcut_pool", x, shape=smaller, word="avg", kernel=1, stride=stride)
        return (
            x if walk.shape(x)[-1] == width else walk.emit("pad", "shortcut_pad", x, shape=(*walk.shape(x)[:-1], width))
        )
    if kind == "pool_project":
        if stride > 1 or place.before != place.dilation:
            x = walk.emit("pool", "shortcut_pool", x, shape=smaller, word="avg", kernel=2, stride=stride)
        stride = 1
    window: dict[str, Any] = {} if manner.dense else {"stride": stride}
    x = walk.weigh("shortcut_", x, 0 if manner.dense else 1, width, init=manner.init, **window)
    return walk.sequence(order.trail, "shortcut_", x)


def _squeeze_excite(walk: _Walk, x: str) -> str:
    """Hu et al. 2018, Fig. 3: a gate between 0 and 1 for every channel."""
    width = walk.shape(x)[-1] or 0
    gate = walk.emit("global_pool", "se_pool", x, shape=(1, 1, width), word="avg")
    gate = walk.weigh("se_reduce_", gate, 1, max(SE_LEAST, width // SE_REDUCTION), init="he", bias=True)
    gate = walk.emit("act", "se_reduce_act", gate, word="relu")
    gate = walk.weigh("se_expand_", gate, 1, width, init="glorot", bias=True)
    gate = walk.emit("act", "se_gate", gate, word="sigmoid")
    return walk.emit("scale", "se_scale", x, gate)


@lru_cache(maxsize=1 << 12)
def _head(manner: _Manner, head: Head, shape: Shape, reads: Any) -> Piece:
    walk = _Walk(manner, shape, reads)
    x = walk.sequence(ORDERS[manner.block.order].final, "final_", "input")
    if not manner.dense and head.pooling != "none":
        x = walk.emit("global_pool", "head_pool", x, shape=shape[-1:], word=head.pooling)
    if head.classes:
        x = walk.dropout("dropout", "head_dropout", x, head.dropout)
        walk.emit("dense", "predictions", x, shape=(head.classes,), word=head.activation, bias=True, init="glorot")
    return walk.piece()
