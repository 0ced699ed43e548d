"""The plan's vocabulary: operations, the segments they form, and the whole chain."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Literal, NamedTuple

from reszoo.arch.spec import NetSpec
from reszoo.notebook import html_table

Shape = tuple[int | None, ...]
"""Shape of one example, without the batch axis: `(height, width, channels)` or `(features,)`."""


class Op(NamedTuple):
    """One operation. Fields that do not apply to a kind keep their defaults."""

    kind: Literal[
        "conv",
        "dense",
        "channel_conv",
        "norm",
        "act",
        "pool",
        "global_pool",
        "pad",
        "dropout",
        "drop_path",
        "scale",
        "add",
    ]
    name: str
    inputs: tuple[str, ...]
    source: Shape
    """Shape of the first input."""
    shape: Shape
    """Shape of the output."""
    input_sign: Literal["raw", "signed", "nonnegative"] = "signed"
    """Sign of the first input: the input of the network (`raw`), either sign, or never negative."""
    variant: str = ""
    """Kind of activation, pooling or norm."""
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
    """Factor on the initial value; None for no factor."""
    padding: Literal["both", "same"] = "both"
    """Padding of a strided window, in the words of `NetSpec.padding`."""
    slope: float = 0.0
    """Factor of a leaky activation on values below zero."""

    @property
    def width(self) -> int:
        """Channels or features of the output."""
        return self.shape[-1] or 0

    @property
    def width_in(self) -> int:
        """Channels or features of the first input."""
        return self.source[-1] or 0

    @property
    def weights(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of each trainable variable, in Keras' order."""
        if self.kind not in ("conv", "dense", "channel_conv", "norm"):
            return {}
        if self.kind == "channel_conv":
            return {"kernel": (self.kernel, 1, 1)}
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
        """Whether a separate layer pads the input: Keras pads strided windows on one side only."""
        return self.kind == "conv" and self.stride > 1 and self.kernel > 1 and self.padding == "both"

    @property
    def zeros_before(self) -> int:
        """Channels of zeros that a pad adds before the others; the rest is added behind."""
        return 0 if self.variant == "behind" else (self.width - self.width_in) // 2

    @property
    def summary(self) -> str:
        """The operation in a few words, such as `conv 3x3/2 from he`."""
        window = f"{self.kernel}x{self.kernel}/{self.stride}" if self.kind in ("conv", "pool") else ""
        window = str(self.kernel) if self.kind == "channel_conv" else window
        numbers = {"dilation": self.dilation, "groups": self.groups}
        extra = [f"{name} {number}" for name, number in numbers.items() if number != 1]
        extra += [f"rate {self.rate:g}"] if self.rate else []
        extra += [f"slope {self.slope:g}"] if self.slope else []
        extra += ["bias"] if self.bias else []
        extra += ["same"] if self.padding == "same" and self.stride > 1 and self.kernel > 1 else []
        return " ".join(filter(None, [self.kind, self.variant, window, *extra, self.init and f"from {self.init}"]))


def size(shape: Shape) -> str:
    """Returns a shape as text, such as 224x224x3."""
    return "x".join("?" if size is None else str(size) for size in shape)


@dataclass(frozen=True, slots=True)
class Segment:
    """The stem, one block, or the head: one input, one output (the last operation).

    The names of its operations are local to the segment; `prefix` plus the local name is the name in the network.
    Blocks that differ only in their weights share one `ops`.
    """

    name: str
    part: str
    """stem, stage1, stage2, ..., head."""
    prefix: str
    ops: tuple[Op, ...]
    branch: str = ""
    """In a block, the local name of the last operation of the branch F(x)."""

    @property
    def output(self) -> Op:
        """The last operation."""
        return self.ops[-1]

    def __repr__(self) -> str:
        return f"Segment({self.name}: {len(self.ops)} operations, output {size(self.output.shape)})"


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """The operations of a segment under local names; equal pieces are lowered once and are the same object."""

    ops: tuple[Op, ...]
    branch: str
    shape: Shape
    """Shape of the output."""
    output_sign: Literal["raw", "signed", "nonnegative"]
    """Sign of the output, in the words of `Op.input_sign`."""

    def __repr__(self) -> str:
        return f"Piece({len(self.ops)} operations, output {size(self.shape)})"


class RepeatedSegments(NamedTuple):
    """Consecutive segments that differ only in their weights."""

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
        """The segments in order."""
        if not self.first:
            prefix = "stem_" if self.part == "stem" else ""
            return (Segment(self.part, self.part, prefix, self.piece.ops, self.piece.branch),)
        names = (f"{self.part}_block{index}" for index in range(self.first, self.first + self.times))
        return tuple(Segment(name, self.part, f"{name}_", self.piece.ops, self.piece.branch) for name in names)

    def __repr__(self) -> str:
        return f"RepeatedSegments({self.part}: {self.times} x {self.piece})"


def _title(run: RepeatedSegments) -> str:
    """The names of the segments of a run: stage1_block2 to block3."""
    first, last = run.segments[0].name, run.segments[-1].name
    return first if first == last else f"{first} to {last.rpartition('_')[2]}"


@dataclass(frozen=True, repr=False)
class Plan:
    """A network in execution order: a chain of segments, each of which reads the output of the one before."""

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
        """The segments of stem, stage1, stage2, ..., head."""
        return {part: tuple(segments) for part, segments in groupby(self.segments, lambda segment: segment.part)}

    @cached_property
    def ops(self) -> tuple[Op, ...]:
        """Every operation under its name in the network; the network's input is called `input`."""
        return tuple(self._named())

    @cached_property
    def variables(self) -> dict[str, tuple[int, ...]]:
        """`layer/variable` -> shape of every weight and running statistic."""
        return {f"{op.name}/{name}": shape for op in self.ops for name, shape in (op.weights | op.statistics).items()}

    def text(self) -> str:
        """Returns the operations as text; repeated blocks are printed once, names are local to the block."""
        lines = [f"{self.spec.name}: {size(self.spec.input_shape)}"]
        for run in self.runs:
            lines.append(_title(run))
            lines += [f"  {op.name:18} {op.summary:38} {size(op.shape):12} <- {', '.join(op.inputs)}" for op in run.ops]
        return "\n".join(lines) + "\n"

    def __repr__(self) -> str:
        shapes = f"{size(self.spec.input_shape)} -> {size(self.segments[-1].output.shape)}"
        return f"Plan({self.spec.name}: {len(self.blocks)} blocks, {len(self.ops)} operations, {shapes})"

    def _repr_html_(self) -> str:
        rows = [
            (_title(run), op.name, op.summary, size(op.shape), ", ".join(op.inputs))
            for run in self.runs
            for op in run.ops
        ]
        columns = ("segments", "operation", "kind", "output", "inputs")
        return html_table(columns, rows, title=repr(self), note="Repeated blocks are listed once.")

    def _named(self) -> Iterator[Op]:
        before = "input"
        for segment in self.segments:
            for op in segment.ops:
                inputs = tuple(before if name == "input" else segment.prefix + name for name in op.inputs)
                yield op._replace(name=segment.prefix + op.name, inputs=inputs)
            before = segment.prefix + segment.output.name
