"""What a network costs, counted from its plan: nothing is built and Keras is not imported."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from math import prod
from typing import NamedTuple

from reszoo.arch.ops import Op, Piece, Plan, RepeatedSegments
from reszoo.errors import ReszooError


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of a network or of a part of it, for one example."""

    params: int
    """Trainable parameters, as papers and torchvision count them."""
    params_all: int
    """With the running statistics: Keras' `count_params()`."""
    macs: int
    """Multiply-accumulates of convolutions and dense layers, plus one per bias add (pycls' convention)."""
    activations: int
    """Numbers that convolutions and dense layers put out (timm, fvcore)."""
    depth: int
    """Weighted layers in a row, as papers count them: without the shortcuts."""
    receptive_field: int
    """Side of the square of input pixels seen by one pixel of the last feature map, so far; 0 in a dense net."""
    shape: tuple[int | None, ...]
    """Shape of the output."""


def cost(plan: Plan) -> Cost:
    """Returns the cost of the whole network.

    Raises:
        ReszooError: the spec leaves height or width open (None).
    """
    _check_size(plan)
    return _sum(_rows(plan.runs), plan.runs[-1].piece, dense=plan.spec.dense)


def cost_by_part(plan: Plan) -> dict[str, Cost]:
    """Returns the cost of stem, stage1, stage2, ..., head.

    Raises:
        ReszooError: the spec leaves height or width open (None).
    """
    _check_size(plan)
    ends = {run.part: number for number, run in enumerate(plan.runs, 1)}
    starts = dict(zip(ends, (0, *ends.values()), strict=False))
    rows, dense = _rows(plan.runs), plan.spec.dense
    return {
        part: _sum(rows[starts[part] : end], plan.runs[end - 1].piece, dense=dense, before=rows[: starts[part]])
        for part, end in ends.items()
    }


class Tally:
    """Costs of networks that differ in nothing but the depth and width of their stages.

    A part costs what its own width and the one before it decide, and every further block of a stage the same again: so
    each is lowered once for every such pair of widths.

    Args:
        lower: from depths and widths to the plan; what it raises is passed on.
    """

    def __init__(self, lower: Callable[[tuple[int, ...], tuple[int, ...]], Plan]):
        self._lower, self._dense = lower, False
        self._known: dict[tuple[int, int, int], _Part] = {}

    def cost(self, depths: tuple[int, ...], widths: tuple[int, ...]) -> Cost:
        """Returns the cost of the network of these depths and widths."""
        own = (widths[0], *widths, widths[-1])
        keys = [*zip(range(len(own)), (widths[0], *own), own, strict=False)]
        try:
            parts = [self._known[key] for key in keys]
        except KeyError:
            parts = self._learned(keys, widths)
        rows: list[Row] = []
        for part, depth in zip(parts, (1, *depths, 1), strict=True):
            rows.append((part.first, 1))
            if depth > 1:
                rows.append((part.rest, depth - 1))
        return _sum(rows, parts[-1].last, dense=self._dense)

    def _learned(self, keys: list[tuple[int, int, int]], widths: tuple[int, ...]) -> list[_Part]:
        plan = self._lower((2,) * len(widths), widths)
        _check_size(plan)
        self._dense = plan.spec.dense
        pieces = [[run.piece for run in runs] for _, runs in groupby(plan.runs, lambda run: run.part)]
        if len(pieces) < len(keys):
            # A network without a head.
            pieces.append([Piece((), "", pieces[-1][-1].shape, pieces[-1][-1].output_sign)])
        parts = [_Part(_counted(part[0]), _counted(part[-1]), part[-1]) for part in pieces]
        self._known.update(zip(keys, parts, strict=True))
        return parts


def _check_size(plan: Plan) -> None:
    if None in plan.spec.input_shape:
        raise ReszooError(
            f"{plan.spec.name}.input_shape",
            got=plan.spec.input_shape,
            expected="whole numbers",
            hint="a cost is that of one size",
        )


def _sum(rows: Iterable[Row], last: Piece, *, dense: bool, before: Iterable[Row] = ()) -> Cost:
    """The cost of a stretch of the chain; its receptive field is that of all from the input on."""
    params = statistics = macs = activations = length = 0
    field = jump = 0 if dense else 1
    for counted, times in before:
        # Only the first block of a stage strides, and it is alone in its row.
        field, jump = field + times * counted.growth * jump, jump * counted.stride
    for counted, times in rows:
        params, statistics = params + times * counted.params, statistics + times * counted.statistics
        macs, activations = macs + times * counted.macs, activations + times * counted.activations
        field, jump = field + times * counted.growth * jump, jump * counted.stride
        length += times * counted.depth
    return Cost(params, params + statistics, macs, activations, length, field, last.shape)


class _Counted(NamedTuple):
    """What one piece costs, and what it does to the receptive field."""

    params: int
    statistics: int
    macs: int
    activations: int
    growth: int
    stride: int
    depth: int


Row = tuple[_Counted, int]
"""What a piece costs, and how often it stands there."""


class _Part(NamedTuple):
    """Stem, stage or head."""

    first: _Counted
    rest: _Counted
    """Of every block but the first."""
    last: Piece


def _rows(runs: Iterable[RepeatedSegments]) -> list[Row]:
    return [(_counted(run.piece), run.times) for run in runs]


@lru_cache(maxsize=1 << 15)
def _counted(piece: Piece) -> _Counted:
    """Pieces are shared between networks, so what one costs is remembered."""
    return _Counted(*_counts(piece.ops), *_path(piece.ops))


def _counts(ops: tuple[Op, ...]) -> tuple[int, int, int, int]:
    """Trainable parameters, running statistics, macs and activations of one segment."""
    params = statistics = macs = activations = 0
    for op in ops:
        weights = op.weights
        if not weights:
            continue
        params += sum(map(prod, weights.values()))
        if op.kind == "norm":
            statistics += sum(map(prod, op.statistics.values()))
        else:
            outputs = prod(filter(None, op.shape))
            macs += outputs * (prod(weights["kernel"][:-1]) + op.bias)
            activations += outputs
    return params, statistics, macs, activations


def _path(ops: tuple[Op, ...]) -> tuple[int, int, int]:
    """Growth of the receptive field over a segment, in steps of its input; its stride; its weighted layers in a row."""
    reached = {"input": (0, 1, 0)}
    for op in ops:
        growth, stride, depth = reached[op.inputs[0]]
        if op.kind == "add":
            growth, depth = (max(reached[name][i] for name in op.inputs) for i in (0, 2))
        elif op.kind in ("conv", "dense", "pool"):
            growth, depth = growth + (op.kernel - 1) * op.dilation * stride, depth + (op.kind != "pool")
        # The gate of a scale sees everything: the field is that of the path that keeps its place, the first input.
        reached[op.name] = growth, stride * op.stride, depth
    return reached[ops[-1].name if ops else "input"]
