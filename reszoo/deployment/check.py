"""Runs a file in its runtime and compares its outputs with those of the Keras model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import keras
import numpy as np

from reszoo.deployment.formats import Inputs, Program
from reszoo.deployment.signature import pack_inputs
from reszoo.errors import ReszooError
from reszoo.types import Array, KerasModel

LIMITS = {None: 1e-4, "float16": 2e-2}
"""Largest accepted difference as a fraction of the largest output. Measured: up to 3e-5 in float32 over all families
and formats, 1e-3 with kernels in float16."""
MEAN_LIMIT = 0.05
"""Accepted mean difference in int8 of outputs that are not classes, as a fraction of the largest output."""
DISAGREEMENT = 0.05
"""Accepted fraction of other first classes in int8, beyond the accepted loss of accuracy."""
_TINY = 1e-30
CHUNK = 32
"""Examples per call."""


class Comparison(NamedTuple):
    """How outputs differ from those of the Keras model."""

    difference: float
    """Largest one, as a fraction of the largest output."""
    mean_difference: float
    agreement: float | None
    accuracy: float | None
    accuracy_before: float | None
    finite: bool
    varied: bool
    """Whether the outputs depend on the example; if not, the comparison says little."""


def reference(model: KerasModel, inputs: Inputs) -> Array | dict[str, Array] | list[Array]:
    """Returns the outputs of the Keras model."""
    as_array = keras.ops.convert_to_numpy
    chunks = [model.predict_on_batch(pack_inputs(model, part)) for part, _ in batches(inputs, CHUNK)]
    if isinstance(chunks[0], dict):
        return {name: np.concatenate([as_array(chunk[name]) for chunk in chunks]) for name in chunks[0]}
    if isinstance(chunks[0], (list, tuple)):
        return [np.concatenate([as_array(part) for part in parts]) for parts in zip(*chunks, strict=True)]
    return np.concatenate([as_array(chunk) for chunk in chunks])


def by_name(outputs: Array | dict[str, Array] | list[Array], names: list[str]) -> dict[str, Array]:
    """Returns outputs of the Keras model by their names in the file."""
    if isinstance(outputs, dict):
        return outputs
    return dict(zip(names, outputs if isinstance(outputs, list) else [outputs], strict=True))


def batches(x: Inputs, size: int, *, full: bool = False) -> Iterator[tuple[Inputs, int]]:
    """Yields examples in chunks, with their number; full ones repeat the last example."""
    count = len(keras.tree.flatten(x)[0])
    for start in range(0, count, size):
        rows = np.minimum(np.arange(start, start + size), count - 1) if full else slice(start, start + size)
        yield keras.tree.map_structure(lambda part, rows=rows: part[rows], x), min(size, count - start)


def run(program: Program, x: Inputs, batch: int | None) -> dict[str, Array]:
    """Returns the outputs of a program for all examples.

    Args:
        program: an opened file.
        x: the examples; for several inputs, by name.
        batch: its fixed batch size; None for any.
    """
    chunks = [
        {name: np.asarray(value)[:count].copy() for name, value in program(part).items()}
        for part, count in batches(x, batch or CHUNK, full=batch is not None)
    ]
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


def compare(
    expected: dict[str, Array],
    outputs: dict[str, Array],
    *,
    activations: dict[str, str],
    labels: Array | None,
    exact: bool,
    classes: bool = True,
) -> Comparison:
    """Returns how outputs differ from those of the Keras model.

    Args:
        expected: outputs of the Keras model.
        outputs: outputs of the file.
        activations: output -> its activation. Probabilities of a softmax are compared as logits: differences of 1e-6
            between probabilities would hide faults.
        labels: class indices, if they are known.
        classes: whether the outputs are scores of classes, of which one is right.
        exact: False for 8-bit numbers, whose small probabilities are zero: they are compared as they are.

    Raises:
        ReszooError: the file has other outputs.
    """
    if outputs.keys() != expected.keys() or any(outputs[name].shape != expected[name].shape for name in expected):
        got, shapes = ({name: value.shape for name, value in each.items()} for each in (outputs, expected))
        raise ReszooError("deploy: check", got=f"outputs {got}", expected=f"{shapes}")
    finite = all(np.isfinite(value).all() for value in outputs.values())
    gaps, varied = [], False
    for name, want in expected.items():
        logits = activations[name] == "softmax" and exact
        pair = [_logits(value) if logits else value.astype("float64") for value in (want, outputs[name])]
        # Every output has a scale of its own: a large one would hide faults of a small one.
        scale = max(float(np.abs(pair[0]).max(initial=0.0)), 1e-2 if logits else 1e-6)
        gaps.append(np.abs(pair[1] - pair[0]) / scale)
        varied = varied or (len(want) > 1 and float(np.ptp(pair[0], axis=0).max(initial=0.0)) > 1e-5 * scale)
    first, second = (_classes(each, activations, labels) if classes else None for each in (expected, outputs))
    agreement = accuracy = before = None
    if first is not None and second is not None:
        agreement = float(np.mean(first == second))
        if labels is not None:
            accuracy, before = float(np.mean(second == labels)), float(np.mean(first == labels))
    return Comparison(
        difference=max(float(gap.max(initial=0.0)) for gap in gaps) if finite else float("nan"),
        mean_difference=float(np.mean([gap.mean() for gap in gaps])) if finite else float("nan"),
        agreement=agreement,
        accuracy=accuracy,
        accuracy_before=before,
        finite=finite,
        varied=varied,
    )


def fault(comparison: Comparison, quantize: str | None, max_loss: float) -> str:
    """Returns why a file is refused, or an empty string.

    Args:
        comparison: of its outputs with those of the Keras model.
        quantize: number type of its weights.
        max_loss: accepted loss of accuracy in int8.
    """
    if not comparison.finite:
        return "NaN or infinity in the outputs"
    if quantize == "int8":
        loss = (comparison.accuracy_before or 0.0) - (comparison.accuracy or 0.0)
        # One example more or less is not a matter of rounding.
        if loss > max_loss + 1e-9:
            return f"accuracy {comparison.accuracy:.4f} after {comparison.accuracy_before:.4f} in float"
        if comparison.agreement is not None and comparison.agreement < 1 - max_loss - DISAGREEMENT:
            return f"the first class of float for only {comparison.agreement:.1%} of the examples"
        if comparison.agreement is None and not comparison.mean_difference <= MEAN_LIMIT:
            return f"outputs that differ by {comparison.mean_difference:.1%} of the largest one in the mean"
        return ""
    if not comparison.difference <= LIMITS[quantize]:
        return f"outputs that differ by {comparison.difference:.1e} of the largest one"
    return ""


def accepted(quantize: str | None, max_loss: float) -> str:
    """Returns in words what `fault` accepts."""
    if quantize == "int8":
        return (
            f"a loss of at most {max_loss:g} (max_loss), and the same first class for {1 - max_loss - DISAGREEMENT:.0%}"
        )
    return f"at most {LIMITS[quantize]:.0e}, which {quantize or 'float32'} explains"


def _logits(probabilities: Array) -> Array:
    logs = np.log(np.maximum(probabilities.astype("float64"), _TINY))
    return np.asarray(logs - logs.mean(axis=-1, keepdims=True))


def _classes(outputs: dict[str, Array], activations: dict[str, str], labels: Array | None) -> Array | None:
    """The first class of every example, or which of several labels it has; None for outputs of another kind."""
    name, scores = next(iter(outputs.items()))
    if len(outputs) != 1 or scores.ndim != 2:
        return None
    several = scores.shape[1] > 1
    if activations[name] == "sigmoid" and not (several and labels is not None):
        return np.asarray(scores > 0.5 if several else scores[:, 0] > 0.5)
    return np.asarray(scores.argmax(axis=1)) if several else None
