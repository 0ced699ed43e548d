"""The true values against the outputs and the loss: their range, their shape, the numbers of classes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from reszoo.diagnosis.causes import Cause
from reszoo.diagnosis.objective import BINARY, CATEGORICAL, DISTANCES, SPARSE
from reszoo.diagnosis.output import Output

CLASSES = ("one-hot", "binary", "classes")
"""Forms of true values that are classes, each example of one."""
_ALL = (-np.inf, np.inf)
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
_TAKES = {
    **dict.fromkeys((*BINARY, *CATEGORICAL), (0.0, 1.0)),
    "poisson": (0.0, np.inf),
    "mean_squared_logarithmic_error": (0.0, np.inf),
}
"""Loss -> the least and the greatest true value for which it is made."""


def true_value_causes(output: Output) -> Iterator[Cause]:
    """Yields true values that the output cannot give, and labels that do not fit it."""
    y, name = output.y, output.loss_name
    if y.dtype.kind not in "iufb" or not y.size or not name:
        return
    values = y[np.isfinite(y)].astype("float64") if y.dtype.kind == "f" else y.astype("float64").reshape(-1)
    if name in SPARSE:
        yield from _class_numbers(output, values[values != getattr(output.loss, "ignore_class", None)])
        return
    if not same_shape(output):
        # A function of the user's may take true values of any form.
        if name in (*DISTANCES, *CATEGORICAL, *BINARY):
            yield _other_shape(output)
        return
    numbers = np.unique(values)
    binary = output.activation == "sigmoid" or name in BINARY
    if len(numbers) == 2 and output.units == 1 and binary and (numbers.min() < 0 or numbers.max() > 1):
        yield Cause(
            "labels",
            f"two classes with the numbers {numbers[0]:g} and {numbers[1]:g}",
            "a sigmoid returns 0 to 1, and its loss takes 0 and 1",
            f"y = (y == {numbers[1]:g}).astype('float32')",
        )
        return
    if output.form == "values":
        yield from _beyond_loss(name, values)
    low, high = _RANGES.get(output.activation, _ALL)
    beyond = _share_beyond(values, low, high)
    if beyond > 0.01 and not (output.activation == "softmax" and output.units == 1):
        yield Cause(
            "output_activation",
            f"{beyond:.0%} of the true values ({values.min():.4g} to {values.max():.4g}) are outside what "
            f"{output.activation} returns ({low:g} to {high:g})",
            "the output cannot reach them, whatever the weights are",
            dense(output.units, "linear") if output.form == "values" else _classes(output),
            evidence={"share out of reach": beyond},
        )
    if output.form == "classes" and output.units == 1 and (binary or output.activation == "softmax"):
        yield Cause(
            "layer_properties",
            f"one output unit for {len(numbers)} classes",
            "one unit separates two classes",
            _classes(output),
            evidence={"classes": len(numbers), "units": 1},
        )


def _beyond_loss(name: str, values: np.ndarray) -> Iterator[Cause]:
    """Yields true values for which the loss is not made."""
    low, high = _TAKES.get(name, _ALL)
    share = _share_beyond(values, low, high)
    if share > 0.01:
        yield Cause(
            "loss",
            f"{name} takes true values from {low:g} to {high:g}; they go from {values.min():.4g} to {values.max():.4g}",
            "for others it is not least where the output is right",
            "model.compile(..., loss='mean_squared_error')",
            evidence={"share of the true values": share},
        )


def _share_beyond(values: np.ndarray, low: float, high: float) -> float:
    """Returns the share of values outside of limits, but for rounding."""
    return float(((values < low - 1e-6) | (values > high + 1e-6)).mean()) if len(values) else 0.0


def same_shape(output: Output) -> bool:
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
        dense(units, activation),
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
            f"y = y - {low}" if shifted or low < 0 else dense(high + 1, "softmax"),
            evidence={"units": output.units, "greatest class number": high},
        )


def _classes(output: Output) -> str:
    count = int(output.y.max(initial=1)) + 1
    if output.form != "classes" or count < 2:
        return "scale the true values into the range of the activation"
    return f"{dense(count, 'softmax')}\nmodel.compile(..., loss='sparse_categorical_crossentropy')"


def dense(units: int, activation: str) -> str:
    """Returns the code of a last layer, a remedy."""
    end = "" if activation == "linear" else f", activation='{activation}'"
    return f"outputs = keras.layers.Dense({units}{end})(x)"
