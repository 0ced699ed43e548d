"""The plan's vocabulary: operations, the segments they form, and the whole chain."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Literal, NamedTuple

from reszoo.arch.spec import NetSpec

Shape = tuple[int | None, ...]
"""Of one example, without the batch: `(height, width, channels)` or `(features,)`."""


class Op(NamedTuple):
    """One operation. Fields that a kind has no use for keep their defaults."""

    kind: Literal["conv", "dense", "norm", "act", "pool", "global_pool", "pad", "dropout", "drop_path", "scale", "add"]
    name: str
    inputs: tuple[str, ...]
    source: Shape
    """Shape of the first input."""
    shape: Shape
    """Shape of the output."""
    input_sign: Literal["raw", "signed", "nonnegative"] = "signed"
    """What the first input is: the network's own input, of either sign, or never negative."""
    variant: str = ""
    """Which activation, pooling or norm."""
    kernel: int = 1
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    bias: bool = False
    rate: float = 0.0
    epsilon: float = 0.0
    momentum: float = 0.0
    init: str = ""
    """Initial value of the kernel or of the norm's scale."""
    gain: float | None = None
    """Factor on it, where the spec asks for one."""

    @property
    def width(self) -> int:
        """Channels or features that leave the operation."""
        return self.shape[-1] or 0

    @property
    def width_in(self) -> int:
        """Channels or features of the first input."""
        return self.source[-1] or 0

    @property
    def weights(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of each trainable variable, in Keras' order."""
        if self.kind not in ("conv", "dense", "norm"):
            return {}
        width = self.shape[-1] or 0
        if self.kind == "norm":
            return {"gamma": (width,), "beta": (width,)}
        window = (self.kernel, self.kernel) if self.kind == "conv" else ()
        kernel = (*window, self.width_in // self.groups, width)
        return {"kernel": kernel, "bias": (width,)} if self.bias else {"kernel": kernel}

    @property
    def statistics(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of each running statistic."""
        return {"moving_mean": (self.width,), "moving_variance": (self.width,)} if self.variant == "batch" else {}

    @property
    def padded(self) -> bool:
        """Whether the window is strided: then Keras' own padding would be one-sided, and a layer of its own pads."""
        return self.kind == "conv" and self.stride > 1 and self.kernel > 1

    @property
    def told(self) -> str:
        """What the operation does, in a few words."""
        window = f"{self.kernel}x{self.kernel}/{self.stride}" if self.kind in ("conv", "pool") else ""
        numbers = {"dilation": self.dilation, "groups": self.groups}
        extra = [f"{name} {number}" for name, number in numbers.items() if number != 1]
        extra += [f"rate {self.rate:g}"] if self.rate else []
        extra += ["bias"] if self.bias else []
        return " ".join(filter(None, [self.kind, self.variant, window, *extra, self.init and f"from {self.init}"]))


def size(shape: Shape) -> str:
    """Returns a shape as text, such as 224x224x3."""
    return "x".join("?" if size is None else str(size) for size in shape)


@dataclass(frozen=True, slots=True)
class Segment:
    """The stem, one block, or the head: one input, one output (its last operation).

    Its operations have names of their own; `prefix` makes them the network's. Blocks that are the same but for their
    weights share one `ops`.
    """

    name: str
    part: str
    """stem, stage1, stage2, ..., head."""
    prefix: str
    ops: tuple[Op, ...]
    branch: str = ""
    """Of a block: the operation at the end of the branch F(x)."""

    @property
    def output(self) -> Op:
        """The last operation."""
        return self.ops[-1]


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """What a segment does, under names of its own; equal pieces are lowered once and are the same object."""

    ops: tuple[Op, ...]
    branch: str
    shape: Shape
    """Of what leaves it."""
    output_sign: Literal["raw", "signed", "nonnegative"]
    """Of what leaves it, as `Op.input_sign` says it."""


class RepeatedSegments(NamedTuple):
    """Consecutive segments that are the same but for their weights."""

    part: str
    """stem, stage1, stage2, ..., head."""
    piece: Piece
    times: int = 1
    first: int = 0
    """Number of the first block in its stage, from 1; 0 for stem and head."""

    @property
    def ops(self) -> tuple[Op, ...]:
        """The operations of each of its segments."""
        return self.piece.ops

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The segments, one by one."""
        if not self.first:
            return (Segment(self.part, self.part, "stem_" if self.part == "stem" else "", *_of(self.piece)),)
        names = (f"{self.part}_block{index}" for index in range(self.first, self.first + self.times))
        return tuple(Segment(name, self.part, f"{name}_", *_of(self.piece)) for name in names)


def _of(piece: Piece) -> tuple[tuple[Op, ...], str]:
    return piece.ops, piece.branch


@dataclass(frozen=True)
class Plan:
    """A network in execution order: a chain of segments, each read by the next."""

    spec: NetSpec
    runs: tuple[RepeatedSegments, ...]

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        """Stem, every block, head."""
        return tuple(segment for run in self.runs for segment in run.segments)

    @property
    def blocks(self) -> tuple[Segment, ...]:
        """The segments that are blocks."""
        return tuple(segment for segment in self.segments if segment.branch)

    @property
    def parts(self) -> dict[str, tuple[Segment, ...]]:
        """Segments by stem, stage1, stage2, ..., head."""
        return {part: tuple(segments) for part, segments in groupby(self.segments, lambda segment: segment.part)}

    @cached_property
    def ops(self) -> tuple[Op, ...]:
        """Every operation under its name in the network; the network's input is called `input`."""
        return tuple(self._named())

    def text(self) -> str:
        """Returns the operations as text, equal neighbours once, names without the block's."""
        lines = [f"{self.spec.name}: {size(self.spec.input_shape)}"]
        for run in self.runs:
            segments = run.segments
            first, last = segments[0].name, segments[-1].name
            lines.append(first if first == last else f"{first} to {last.rpartition('_')[2]}")
            lines += [f"  {op.name:18} {op.told:38} {size(op.shape):12} <- {', '.join(op.inputs)}" for op in run.ops]
        return "\n".join(lines) + "\n"

    def _named(self) -> Iterator[Op]:
        before = "input"
        for segment in self.segments:
            for op in segment.ops:
                inputs = tuple(before if name == "input" else segment.prefix + name for name in op.inputs)
                yield op._replace(name=segment.prefix + op.name, inputs=inputs)
            before = segment.prefix + segment.output.name
