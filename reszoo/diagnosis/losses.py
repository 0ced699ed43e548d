"""The loss of a program as `evaluate` reports it, and that of the best constant prediction."""

from __future__ import annotations

import numpy as np
from keras import ops

from reszoo.diagnosis.autodiff import without_gradient
from reszoo.diagnosis.graph import Slot
from reszoo.diagnosis.objective import CATEGORICAL, penalty, reduces_by_mean
from reszoo.diagnosis.output import Output
from reszoo.diagnosis.program import Program
from reszoo.types import Array, Tensor

BATCH = 32
"""Batch size of `evaluate`, which matters to losses that are no mean over the examples."""


def losses_of(program: Program, rows: Array) -> tuple[float, float]:
    """Returns the loss of the model as `evaluate` reports it, and that of the best constant prediction.

    Both are for these rows, in inference mode, with the weights of examples and outputs; NaN where the loss cannot be
    computed. What layers add to the loss (activity penalties, `add_loss`) counts for both.
    """
    outputs = [output for output in program.outputs if output.loss is not None]
    if not outputs:
        return float("nan"), float("nan")
    total, added, by_batch = _of_batch(program, outputs, rows)
    if by_batch:
        size = program.batch_size or BATCH
        batches = [rows[start : start + size] for start in range(0, len(rows), size)]
        sums = [(len(batch) * np.array(_of_batch(program, outputs, batch)[:2])) for batch in batches]
        total, added = (np.sum(sums, axis=0) / len(rows)).tolist()
    constant = sum(constant_loss(output, output.y[rows], output.weights_of(rows)) for output in outputs)
    fixed = added + penalty(program.model)
    return total + fixed, constant + fixed - penalty(program.model)


def _of_batch(program: Program, outputs: list[Output], rows: Array) -> tuple[float, float, bool]:
    """Returns the compiled losses, what layers add to them, and whether these depend on the size of the batch."""
    x = program.inputs(rows)
    total, added = 0.0, 0.0
    by_batch = not all(reduces_by_mean(output.loss) for output in outputs)
    for output in outputs:
        graph, collected = output.graph, list[Tensor]()
        # Layers of other outputs add to the loss as well; each layer once.
        first = output is outputs[0]
        ends = [graph.output, *_ends(output)] if first else [graph.output]
        with without_gradient():
            values = graph.run(x, outputs=ends, statistics="moving", collected=collected if first else None)
            loss = output.objective(output.y[rows], values[graph.output], output.weights_of(rows))
        total += float(ops.convert_to_numpy(loss))
        added += sum(float(ops.convert_to_numpy(one)) for one in collected)
        penalized = sum(getattr(step.layer, "activity_regularizer", None) is not None for step in graph.steps)
        by_batch |= len(collected) > penalized
    return total, added, by_batch


def _ends(output: Output) -> list[Slot]:
    """Returns the tensors that no step reads."""
    graph = output.graph
    return [slot for step in graph.steps for slot in step.outputs if slot not in graph.readers]


def constant_loss(output: Output, y: Array, weights: Array | None = None) -> float:
    """Returns the loss of the best prediction that does not depend on the input."""
    y64 = y.astype("float64")
    one_each = weights if weights is not None and weights.shape == (len(y),) and weights.sum() > 0 else None
    # Class numbers, also where a function of the user's takes them: one for every row of probabilities.
    single = y.ndim == len(output.shape) or (y.ndim == len(output.shape) + 1 and y.shape[-1] == 1)
    if single and output.units > 1 and output.form in ("classes", "binary"):
        numbers = y.reshape(-1).astype(int).clip(0, output.units - 1)
        shares = None if one_each is None else np.repeat(one_each, len(numbers) // len(y))
        counts = np.bincount(numbers, weights=shares, minlength=output.units)
        candidates = [np.broadcast_to(counts / counts.sum(), (*y.shape[: len(output.shape)], output.units))]
    else:
        if y64.ndim == len(output.shape):
            y64 = y64[..., None]
        middles = [np.average(y64, axis=0, weights=one_each), np.median(y64, axis=0)]
        if output.loss_name in CATEGORICAL:
            # Where all rows are zeros, as for padding, any probabilities do.
            middles = [np.where(one.any(axis=-1, keepdims=True), one, 1 / one.shape[-1]) for one in middles]
        candidates = [np.broadcast_to(one, y64.shape) for one in middles]
    if output.takes_logits:
        candidates = [np.log(np.clip(one, 1e-7, None)) for one in candidates]
        if output.loss_name.startswith("binary"):
            candidates = [one - np.log(np.clip(1 - np.exp(one), 1e-7, None)) for one in candidates]
    tensors = [ops.convert_to_tensor(one, "float32") for one in candidates]
    return min(float(ops.convert_to_numpy(output.objective(y, tensor, weights))) for tensor in tensors)
