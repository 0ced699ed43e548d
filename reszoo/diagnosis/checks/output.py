"""The last activation and the loss against each other and against the form of the true values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import keras
import numpy as np

from reszoo.diagnosis.causes import Cause
from reszoo.diagnosis.checks.true_values import CLASSES, dense, same_shape, true_value_causes
from reszoo.diagnosis.objective import BINARY, CATEGORICAL, DISTANCES, SPARSE
from reszoo.diagnosis.output import Output
from reszoo.diagnosis.program import Program


def output_causes(program: Program) -> Iterator[Cause]:
    """Yields what is wrong with the outputs, one after another."""
    for output in program.outputs:
        where = f"output {output.name}: " if len(program.outputs) > 1 else ""
        for cause in (*_activation(output), *_loss(output), *true_value_causes(output)):
            yield replace(cause, seen=where + cause.seen)


def _activation(output: Output) -> Iterator[Cause]:
    """Yields activations that cannot work at the end, whatever the loss, and those that the loss does not take."""
    last, chain = output.activation, output.activations
    kind = "output_activation"
    if last == "softmax" and output.units == 1:
        yield Cause(
            kind,
            f"softmax over one unit{_after(chain)}: the output is 1 for every input",
            f"a softmax divides by its own sum; {_softmax_effect()}",
            dense(1, "linear" if output.form == "values" else "sigmoid"),
            evidence={"units": 1},
        )
        return
    twice = [name for name in chain if name in ("softmax", "sigmoid")]
    if len(twice) > 1:
        yield Cause(
            kind,
            f"{' and then '.join(twice)} on the same output",
            "the second one receives numbers from 0 to 1 and flattens them: no class can get a probability near 1",
            f"remove the last activation: {dense(output.units, twice[0])}",
        )
        return
    name = output.loss_name
    axis = _other_axis(output)
    if axis is not None and name in (*CATEGORICAL, *SPARSE, *BINARY):
        yield Cause(
            kind,
            f"softmax over axis {axis} of outputs of shape {output.shape}, the classes on the last one",
            "the probabilities of an example's classes do not add up to 1",
            "keras.layers.Softmax()  # axis=-1",
        )
        return
    if name in (*CATEGORICAL, *SPARSE):
        yield from _exclusive(output, last)
        return
    probabilities = last in ("sigmoid", "hard_sigmoid", "softmax") or output.takes_logits
    if name in BINARY and not probabilities and output.form in (*CLASSES, "several labels"):
        yield _wrong_for(output, last, dense(output.units, "sigmoid"))
    if name in BINARY and last == "softmax" and output.form == "several labels":
        yield from _exclusive(output, last)
    elif last == "softmax" and name and output.form in ("several labels", "values") and same_shape(output):
        yield from _sums(output)


def _other_axis(output: Output) -> int | None:
    """Returns the axis of a softmax at the end that is not the last one; None for any other end."""
    layer = next((step.layer for step in output.graph.steps if output.graph.output in step.outputs), None)
    axis = getattr(layer, "axis", -1) if isinstance(layer, keras.layers.Softmax) else -1
    last = (-1, len(output.shape))
    return axis if isinstance(axis, int) and axis not in last else None


def _sums(output: Output) -> Iterator[Cause]:
    """Yields a softmax for true values that do not add up to 1; rows of zeros are padding."""
    sums = np.nan_to_num(output.y.astype("float64")).reshape(-1, output.units).sum(axis=1)
    share = float(((np.abs(sums - 1) > 1e-3) & (sums != 0)).mean())
    if share > 0.01:
        yield Cause(
            "output_activation",
            f"the true values of an example add up to {sums.min():.4g} to {sums.max():.4g}, the outputs of a softmax "
            "to 1",
            f"the output cannot reach {share:.0%} of them, whatever the weights are",
            dense(output.units, "sigmoid" if output.form == "several labels" else "linear"),
            evidence={"share out of reach": share},
        )


def _exclusive(output: Output, last: str) -> Iterator[Cause]:
    """Yields the last activations that do not suit a loss for classes that exclude each other."""
    remedy = dense(output.units, "softmax")
    counts = output.y.reshape(-1, output.units).sum(axis=1) if output.form == "several labels" else np.zeros(1)
    # Rows of zeros beside rows of one label are the padding of sequences.
    if counts.max() > 1:
        yield Cause(
            "output_activation",
            f"examples have {counts.min():.0f} to {counts.max():.0f} labels at once, but {last} with "
            f"{output.loss_name} lets classes exclude each other",
            "the probabilities of a softmax add up to 1: two true labels get at most one half each",
            f"{dense(output.units, 'sigmoid')}\nmodel.compile(..., loss='binary_crossentropy')",
            evidence={"labels of an example, mean": float(counts.mean())},
        )
    elif last != "softmax" and not output.takes_logits and output.units > 1:
        yield _wrong_for(output, last, remedy)


def _wrong_for(output: Output, last: str, remedy: str) -> Cause:
    phrase = "no activation at the end" if last == "linear" else f"{last} at the end"
    return Cause(
        "output_activation",
        f"{phrase}, and {output.loss_name}, which takes probabilities",
        {
            "linear": "numbers below 0 and above 1 are cut off before the logarithm: they get no gradient",
            "sigmoid": "classes that exclude each other need probabilities that add up to 1",
        }.get(last, "outputs of 0 or above 1 are no probabilities; where they are cut off there is no gradient"),
        remedy,
    )


def _loss(output: Output) -> Iterator[Cause]:
    """Yields losses that suit neither the true values nor the activation."""
    name, last, form = output.loss_name, output.activation, output.form
    if output.takes_logits and last in ("softmax", "sigmoid"):
        yield Cause(
            "loss",
            f"{name} with from_logits=True on the output of a {last}",
            "the loss applies the activation once more; on TensorFlow, Keras notices and undoes it, elsewhere not",
            f"model.compile(..., loss='{name}')  # from_logits=False",
        )
    if name in DISTANCES and form in CLASSES and len(output.shape) == 1:
        right = "categorical_crossentropy" if form == "one-hot" else "sparse_categorical_crossentropy"
        right = "binary_crossentropy" if form == "binary" else right
        classes = output.units if form == "one-hot" else int(output.y.max(initial=1)) + 1
        units, activation = (1, "sigmoid") if form == "binary" else (classes, "softmax")
        yield Cause(
            "loss",
            f"{name} for {form} true values",
            "the gradient of a distance vanishes where a sigmoid or softmax is sure and wrong; cross-entropy is "
            "greatest there (Goodfellow 2016, 6.2.2)",
            f"{dense(units, activation)}\nmodel.compile(..., loss='{right}')",
            evidence={"classes": classes},
        )
        if last == "linear" and output.units > 1:
            yield _wrong_for(output, last, dense(output.units, "softmax"))
    if name in BINARY and form == "one-hot" and (output.units > 2 or last == "softmax") and len(output.shape) == 1:
        yield Cause(
            "loss",
            f"{name} for one of {output.units} classes",
            "every class becomes a question of its own, and an accuracy counted per class looks high from the start",
            f"{dense(output.units, 'softmax')}\nmodel.compile(..., loss='categorical_crossentropy')",
            certain=last == "softmax",
        )


def _after(chain: tuple[str, ...]) -> str:
    return f" (after {chain[-2]})" if len(chain) > 1 else ""


def _softmax_effect() -> str:
    if keras.backend.backend() == "tensorflow":
        return (
            "on TensorFlow a cross-entropy is still computed from the logits before it, so that the loss can fall "
            "while predict() stays 1"
        )
    return "no gradient passes it: nothing is learned"
