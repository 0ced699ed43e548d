"""What a network costs, counted from its plan: nothing is built and Keras is not imported."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import NamedTuple

from reszoo.arch.ops import Op, Piece, Plan, Run
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
    return _sum(plan, plan.runs)


def cost_by_part(plan: Plan) -> dict[str, Cost]:
    """Returns the cost of stem, stage1, stage2, ..., head.

    Raises:
        ReszooError: the spec leaves height or width open (None).
    """
    _check_size(plan)
    ends = {run.part: number for number, run in enumerate(plan.runs, 1)}
    starts = dict(zip(ends, (0, *ends.values()), strict=False))
    return {part: _sum(plan, plan.runs[starts[part] : end], plan.runs[: starts[part]]) for part, end in ends.items()}


def _check_size(plan: Plan) -> None:
    if None in plan.spec.input_shape:
        raise ReszooError(
            f"{plan.spec.name}.input_shape",
            given=plan.spec.input_shape,
            allowed="whole numbers",
            mend="a cost is that of one size",
        )


def _sum(plan: Plan, runs: tuple[Run, ...], before: tuple[Run, ...] = ()) -> Cost:
    """The cost of a stretch of the chain; its receptive field is that of all from the input on."""
    params = statistics = macs = activations = length = 0
    for run in runs:
        counted, times = _counted(run.piece), run.times
        params, statistics = params + times * counted.params, statistics + times * counted.statistics
        macs, activations = macs + times * counted.macs, activations + times * counted.activations
        length += times * counted.depth
    field, shape = 0, runs[-1].piece.shape
    if not plan.spec.dense:
        field = jump = 1
        for run in (*before, *runs):
            counted = _counted(run.piece)
            # Only the first block of a stage strides, and it is alone in its run.
            field, jump = field + run.times * counted.growth * jump, jump * counted.stride
    return Cost(params, params + statistics, macs, activations, length, field, shape)


class _Counted(NamedTuple):
    """What one piece costs, and what it does to the receptive field."""

    params: int
    statistics: int
    macs: int
    activations: int
    growth: int
    stride: int
    depth: int


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
    return reached[ops[-1].name]
