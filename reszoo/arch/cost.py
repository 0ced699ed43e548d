"""Cost of a network, counted from its plan: nothing is built and Keras is not imported."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from math import prod
from typing import NamedTuple

from reszoo.arch.ops import Op, Piece, Plan, RepeatedSegments, size
from reszoo.errors import ReszooError
from reszoo.notebook import html_table


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of a network or of a part of it, for one example."""

    params: int
    """Trainable parameters, as papers and torchvision count them."""
    params_all: int
    """Parameters including running statistics: Keras' `count_params()`."""
    macs: int
    """Multiply-accumulates of convolutions and dense layers, plus one per bias add (pycls' convention)."""
    activations: int
    """Output elements of convolutions and dense layers (as timm and fvcore count them)."""
    depth: int
    """Weighted layers on the main path, as papers count them: without shortcuts."""
    receptive_field: int
    """Side in input pixels of the square seen by one pixel of the last feature map; 0 in a dense net."""
    shape: tuple[int | None, ...]
    """Shape of the output."""

    def __repr__(self) -> str:
        counts = f"params={self.params:,}, macs={self.macs:,}, activations={self.activations:,}, depth={self.depth}"
        return f"Cost({counts}, receptive_field={self.receptive_field}, shape={self.shape})"

    def _repr_html_(self) -> str:
        rows = [
            ("trainable parameters", self.params),
            ("parameters with running statistics", self.params_all),
            ("multiply-accumulates", self.macs),
            ("activations", self.activations),
            ("weighted layers", self.depth),
            ("receptive field (pixels)", self.receptive_field),
            ("output", size(self.shape)),
        ]
        return html_table((), rows, title="Cost of one example")


def cost(plan: Plan) -> Cost:
    """Returns the cost of the whole network.

    Raises:
        ReszooError: height or width of the input is None.
    """
    _check_size(plan)
    return _sum(_rows(plan.runs), plan.runs[-1].piece, dense=plan.spec.dense)


def cost_by_part(plan: Plan) -> dict[str, Cost]:
    """Returns the cost of each part: stem, stage1, stage2, ..., head.

    Raises:
        ReszooError: height or width of the input is None.
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
    """Costs of networks that differ only in the depths and widths of their stages.

    The cost of a part depends on its own width and the preceding one, and all later blocks of a stage cost the same.
    So each part is lowered once for every such pair of widths.

    Args:
        lower: returns the plan of the given depths and widths; its errors propagate.
    """

    def __init__(self, lower: Callable[[tuple[int, ...], tuple[int, ...]], Plan]):
        self._lower = lower
        self._dense = False
        self._parts: dict[tuple[int, int, int], _PartCost] = {}

    def cost(self, depths: tuple[int, ...], widths: tuple[int, ...]) -> Cost:
        """Returns the cost of the network with these depths and widths."""
        part_widths = (widths[0], *widths, widths[-1])
        keys = [*zip(range(len(part_widths)), (widths[0], *part_widths), part_widths, strict=False)]
        try:
            parts = [self._parts[key] for key in keys]
        except KeyError:
            parts = self._lower_parts(keys, widths)
        rows: list[Row] = []
        for part, depth in zip(parts, (1, *depths, 1), strict=True):
            rows.append((part.first, 1))
            if depth > 1:
                rows.append((part.rest, depth - 1))
        return _sum(rows, parts[-1].last, dense=self._dense)

    def _lower_parts(self, keys: list[tuple[int, int, int]], widths: tuple[int, ...]) -> list[_PartCost]:
        plan = self._lower((2,) * len(widths), widths)
        _check_size(plan)
        self._dense = plan.spec.dense
        pieces = [[run.piece for run in runs] for _, runs in groupby(plan.runs, lambda run: run.part)]
        if len(pieces) < len(keys):
            # The network has no head.
            pieces.append([Piece((), "", pieces[-1][-1].shape, pieces[-1][-1].output_sign)])
        parts = [_PartCost(_piece_cost(part[0]), _piece_cost(part[-1]), part[-1]) for part in pieces]
        self._parts.update(zip(keys, parts, strict=True))
        return parts


def _check_size(plan: Plan) -> None:
    if None in plan.spec.input_shape:
        raise ReszooError(
            f"{plan.spec.name}.input_shape",
            got=plan.spec.input_shape,
            expected="whole numbers",
            hint="costs are counted for one input size",
        )


def _sum(rows: Iterable[Row], last: Piece, *, dense: bool, before: Iterable[Row] = ()) -> Cost:
    """The cost of `rows`; the receptive field also counts the rows before them, from the input on."""
    params = statistics = macs = activations = length = 0
    field = jump = 0 if dense else 1
    for piece, times in before:
        # Only the first block of a stage has a stride, and it has a row of its own.
        field, jump = field + times * piece.growth * jump, jump * piece.stride
    for piece, times in rows:
        params, statistics = params + times * piece.params, statistics + times * piece.statistics
        macs, activations = macs + times * piece.macs, activations + times * piece.activations
        field, jump = field + times * piece.growth * jump, jump * piece.stride
        length += times * piece.depth
    return Cost(params, params + statistics, macs, activations, length, field, last.shape)


class _PieceCost(NamedTuple):
    """Cost of one piece, and its effect on the receptive field."""

    params: int
    statistics: int
    macs: int
    activations: int
    growth: int
    stride: int
    depth: int


Row = tuple[_PieceCost, int]
"""Cost of a piece and the number of its repetitions."""


class _PartCost(NamedTuple):
    """Cost of a stem, stage or head."""

    first: _PieceCost
    rest: _PieceCost
    """Cost of every block but the first."""
    last: Piece


def _rows(runs: Iterable[RepeatedSegments]) -> list[Row]:
    return [(_piece_cost(run.piece), run.times) for run in runs]


@lru_cache(maxsize=1 << 15)
def _piece_cost(piece: Piece) -> _PieceCost:
    """Cost of a piece; cached, since networks share their pieces."""
    return _PieceCost(*_counts(piece.ops), *_path(piece.ops))


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
    """Growth of the receptive field over a segment, in input steps; its stride; its number of weighted layers."""
    reached = {"input": (0, 1, 0)}
    for op in ops:
        growth, stride, depth = reached[op.inputs[0]]
        if op.kind == "add":
            growth, depth = (max(reached[name][i] for name in op.inputs) for i in (0, 2))
        elif op.kind in ("conv", "dense", "pool"):
            growth, depth = growth + (op.kernel - 1) * op.dilation * stride, depth + (op.kind != "pool")
        # The gate of a scale sees the whole map; the receptive field is that of the first input, the scaled one.
        reached[op.name] = growth, stride * op.stride, depth
    return reached[ops[-1].name if ops else "input"]
