"""The last activation and the loss against each other and against the true values."""

from __future__ import annotations

from collections.abc import Iterator

import keras
import numpy as np

from reszoo.diagnosis.causes import Cause
from reszoo.diagnosis.objective import BINARY, CATEGORICAL, DISTANCES, SPARSE
from reszoo.diagnosis.program import Output, Program

_RANGES = {
    "relu": (0.0, np.inf),
    "softplus": (0.0, np.inf),
    "exponential": (0.0, np.inf),
    "relu6": (0.0, 6.0),
    "sigmoid": (0.0, 1.0),
    "hard_sigmoid": (0.0, 1.0),
    "softmax": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "softsign": (-1.0, 1.0),
    "elu": (-1.0, np.inf),
    "selu": (-1.7581, np.inf),
}
"""Activation -> the least and the greatest value that it returns."""
_CLASSES = ("one-hot", "binary", "classes")


def output_causes(program: Program) -> Iterator[Cause]:
    """Yields what is wrong with the outputs, one after another."""
    for output in program.outputs:
        where = f"output {output.name}: " if len(program.outputs) > 1 else ""
        for cause in (*_activation(output), *_loss(output), *_targets(output)):
            yield cause if not where else _named(cause, where)


def _named(cause: Cause, where: str) -> Cause:
    return Cause(
        cause.kind, where + cause.seen, cause.why, cause.remedy, certain=cause.certain, evidence=cause.evidence
    )


def _activation(output: Output) -> Iterator[Cause]:
    """Yields activations that cannot work at the end, whatever the loss, and those that the loss does not take."""
    last, chain = output.activation, output.activations
    kind = "output_activation"
    if last == "softmax" and output.units == 1:
        yield Cause(
            kind,
            f"softmax over one unit{_after(chain)}: the output is 1 for every input",
            f"a softmax divides by its own sum; {_softmax_effect()}",
            _dense(1, "linear" if output.form == "values" else "sigmoid"),
            evidence={"units": 1},
        )
        return
    twice = [name for name in chain if name in ("softmax", "sigmoid")]
    if len(twice) > 1:
        yield Cause(
            kind,
            f"{' and then '.join(twice)} on the same output",
            "the second one receives numbers from 0 to 1 and flattens them: no class can get a probability near 1",
            f"remove the last activation: {_dense(output.units, twice[0])}",
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
    if name in BINARY and not probabilities and output.form in (*_CLASSES, "several labels"):
        yield _wrong_for(output, last, _dense(output.units, "sigmoid"))
    if name in BINARY and last == "softmax" and output.form == "several labels":
        yield from _exclusive(output, last)


def _other_axis(output: Output) -> int | None:
    """Returns the axis of a softmax at the end that is not the last one; None for any other end."""
    layer = next((step.layer for step in output.graph.steps if output.graph.output in step.outputs), None)
    axis = getattr(layer, "axis", -1) if isinstance(layer, keras.layers.Softmax) else -1
    last = (-1, len(output.shape))
    return axis if isinstance(axis, int) and axis not in last else None


def _exclusive(output: Output, last: str) -> Iterator[Cause]:
    """Yields the last activations that do not suit a loss for classes that exclude each other."""
    remedy = _dense(output.units, "softmax")
    if output.form == "several labels":
        counts = output.y.reshape(-1, output.units).sum(axis=1)
        yield Cause(
            "output_activation",
            f"examples have {counts.min():.0f} to {counts.max():.0f} labels at once, but {last} with "
            f"{output.loss_name} lets classes exclude each other",
            "the probabilities of a softmax add up to 1: two true labels get at most one half each",
            f"{_dense(output.units, 'sigmoid')}\nmodel.compile(..., loss='binary_crossentropy')",
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
    if name in DISTANCES and form in _CLASSES and len(output.shape) == 1:
        right = "categorical_crossentropy" if form == "one-hot" else "sparse_categorical_crossentropy"
        right = "binary_crossentropy" if form == "binary" else right
        classes = output.units if form == "one-hot" else int(output.y.max(initial=1)) + 1
        units, activation = (1, "sigmoid") if form == "binary" else (classes, "softmax")
        yield Cause(
            "loss",
            f"{name} for {form} true values",
            "the gradient of a distance vanishes where a sigmoid or softmax is sure and wrong; cross-entropy is "
            "greatest there (Goodfellow 2016, 6.2.2)",
            f"{_dense(units, activation)}\nmodel.compile(..., loss='{right}')",
            evidence={"classes": classes},
        )
        if last == "linear" and output.units > 1:
            yield _wrong_for(output, last, _dense(output.units, "softmax"))
    if name in BINARY and form == "one-hot" and (output.units > 2 or last == "softmax") and len(output.shape) == 1:
        yield Cause(
            "loss",
            f"{name} for one of {output.units} classes",
            "every class becomes a question of its own, and an accuracy counted per class looks high from the start",
            f"{_dense(output.units, 'softmax')}\nmodel.compile(..., loss='categorical_crossentropy')",
            certain=last == "softmax",
        )


def _targets(output: Output) -> Iterator[Cause]:
    """Yields true values that the output cannot give, and labels that do not fit it."""
    y, name = output.y, output.loss_name
    if y.dtype.kind not in "iufb" or not y.size or not name:
        return
    values = y[np.isfinite(y)].astype("float64") if y.dtype.kind == "f" else y.astype("float64").reshape(-1)
    if name in SPARSE:
        yield from _class_numbers(output, values[values != getattr(output.loss, "ignore_class", None)])
        return
    if not _same_shape(output):
        # A function of the user's may take true values of any form.
        if name in (*DISTANCES, *CATEGORICAL, *BINARY):
            yield _other_shape(output)
        return
    numbers = np.unique(values)
    if len(numbers) == 2 and output.form == "classes" and output.units == 1 and output.activation == "sigmoid":
        yield Cause(
            "labels",
            f"two classes with the numbers {numbers[0]:g} and {numbers[1]:g}",
            "a sigmoid returns 0 to 1, and its loss takes 0 and 1",
            f"y = (y == {numbers[1]:g}).astype('float32')",
        )
        return
    low, high = _RANGES.get(output.activation, (-np.inf, np.inf))
    if name in BINARY and output.takes_logits:
        low, high = 0.0, 1.0
    beyond = float(((values < low - 1e-6) | (values > high + 1e-6)).mean()) if len(values) else 0.0
    if beyond > 0.01 and not (output.activation == "softmax" and output.units == 1):
        yield Cause(
            "output_activation",
            f"{beyond:.0%} of the true values ({values.min():.4g} to {values.max():.4g}) are outside what "
            f"{output.activation} returns ({low:g} to {high:g})",
            "the output cannot reach them, whatever the weights are",
            _dense(output.units, "linear") if output.form == "values" else _classes(output),
            evidence={"share out of reach": beyond},
        )
    if output.form == "classes" and output.units == 1 and output.activation in ("sigmoid", "softmax"):
        count = len(np.unique(values))
        yield Cause(
            "layer_properties",
            f"one output unit for {count} classes",
            "one unit separates two classes",
            _classes(output),
            evidence={"classes": count, "units": 1},
        )


def _same_shape(output: Output) -> bool:
    """Returns whether true values have the shape of the outputs, but for a last axis of 1, as Keras compares them."""
    mine, theirs = output.y.shape[1:], output.shape
    mine = mine[:-1] if len(mine) == len(theirs) + 1 and mine[-1] == 1 else mine
    mine = (*mine, 1) if len(mine) == len(theirs) - 1 else mine
    return len(mine) == len(theirs) and all(a == b or b is None for a, b in zip(mine, theirs, strict=True))


def _other_shape(output: Output) -> Cause:
    name, units = output.loss_name, int(output.y.shape[-1]) if output.y.ndim > 1 else 1
    activation = "softmax" if name in CATEGORICAL else "sigmoid" if name in BINARY else "linear"
    return Cause(
        "layer_properties",
        f"true values of shape {output.y.shape[1:]} for outputs of shape {output.shape}",
        f"{name} compares number with number: other shapes are refused, or repeated without a word",
        _dense(units, activation),
        evidence={"units": output.units, "numbers of an example": units},
    )


def _class_numbers(output: Output, values: np.ndarray) -> Iterator[Cause]:
    """Yields class numbers that are no indices of the outputs."""
    if output.form == "one-hot":
        yield Cause(
            "labels",
            f"one-hot rows for {output.loss_name}",
            "that loss takes class numbers",
            "model.compile(..., loss='categorical_crossentropy')",
        )
    elif (values != np.round(values)).any():
        yield Cause("labels", "class numbers that are no whole numbers", "they name no class", "y = y.astype('int64')")
    elif values.min(initial=0) < 0 or values.max(initial=0) >= output.units:
        low, high = int(values.min()), int(values.max())
        shifted = low > 0 and high - low < output.units
        yield Cause(
            "labels" if shifted or low < 0 else "layer_properties",
            f"class numbers from {low} to {high} for {output.units} output units",
            "a class number beyond the last unit has no probability: the loss becomes NaN or an error",
            f"y = y - {low}" if shifted or low < 0 else _dense(high + 1, "softmax"),
            evidence={"units": output.units, "greatest class number": high},
        )


def _classes(output: Output) -> str:
    count = int(output.y.max(initial=1)) + 1
    if output.form != "classes" or count < 2:
        return "scale the true values into the range of the activation"
    return f"{_dense(count, 'softmax')}\nmodel.compile(..., loss='sparse_categorical_crossentropy')"


def _dense(units: int, activation: str) -> str:
    end = "" if activation == "linear" else f", activation='{activation}'"
    return f"outputs = keras.layers.Dense({units}{end})(x)"


def _after(chain: tuple[str, ...]) -> str:
    return f" (after {chain[-2]})" if len(chain) > 1 else ""


def _softmax_effect() -> str:
    if keras.backend.backend() == "tensorflow":
        return (
            "on TensorFlow a cross-entropy is still computed from the logits before it, so that the loss can fall "
            "while predict() stays 1"
        )
    return "no gradient passes it: nothing is learned"
