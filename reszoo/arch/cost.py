"""What a network costs, counted from its plan: nothing is built and Keras is not imported."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from reszoo.arch.ops import Op, Plan
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
    rows = list(cost_by_part(plan).values())

    def total(field: str) -> int:
        return sum(getattr(row, field) for row in rows)

    return Cost(
        params=total("params"),
        params_all=total("params_all"),
        macs=total("macs"),
        activations=total("activations"),
        depth=total("depth"),
        receptive_field=rows[-1].receptive_field,
        shape=rows[-1].shape,
    )


def cost_by_part(plan: Plan) -> dict[str, Cost]:
    """Returns the cost of stem, stage1, stage2, ..., head.

    Raises:
        ReszooError: the spec leaves height or width open (None).
    """
    if None in plan.spec.input_shape:
        raise ReszooError(
            f"{plan.spec.name}.input_shape",
            given=plan.spec.input_shape,
            allowed="whole numbers",
            mend="a cost is that of one size",
        )
    field, jump = 1, 1
    rows: dict[str, Cost] = {}
    known: dict[int, tuple[tuple[int, int, int, int], tuple[int, int, int]]] = {}
    for part, segments in plan.parts.items():
        params = statistics = macs = activations = length = 0
        for segment in segments:
            ops = segment.ops
            if id(ops) not in known:
                known[id(ops)] = (_counts(ops), _path(ops))
            counts, (growth, stride, depth) = known[id(ops)]
            params, statistics = params + counts[0], statistics + counts[1]
            macs, activations = macs + counts[2], activations + counts[3]
            field, jump, length = field + growth * jump, jump * stride, length + depth
        seen, shape = (0 if plan.spec.dense else field), segments[-1].output.shape
        rows[part] = Cost(params, params + statistics, macs, activations, length, seen, shape)
    return rows


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
