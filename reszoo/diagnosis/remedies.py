"""The remedies as changes of a copy: other last layers, scaled data, other initial weights and activations."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from keras import tree

from reszoo.diagnosis.copies import copy_of
from reszoo.diagnosis.objective import DISTANCES
from reszoo.diagnosis.output import Output
from reszoo.diagnosis.program import Program
from reszoo.types import KerasLayer, KerasModel

GROUPS = (
    ("output_activation", "loss", "layer_properties"),
    ("input_scaling",),
    ("initialization", "dead_units", "saturation", "hidden_activation"),
    ("frozen",),
    ("regularization",),
    ("norm_statistics",),
    ("optimizer",),
)
"""Kinds of causes that one change of a copy remedies, in the order in which they are applied."""
_WEIGHTS = frozenset(GROUPS[2])
_FLAT = ("sigmoid", "tanh", "hard_sigmoid")


@dataclass
class Remedies:
    """The changes of a copy."""

    program: Program
    kinds: set[str] = field(default_factory=set)
    """The kinds of causes that are remedied."""

    @property
    def output(self) -> Output:
        """Returns the output of the program."""
        return self.program.outputs[0]

    def end(self) -> tuple[int, str, Any]:
        """Returns units, activation and loss that suit the true values."""
        output = self.output
        units, form = output.units, output.form
        if form == "binary" and units == 1:
            return 1, "sigmoid", "binary_crossentropy"
        if form in ("one-hot", "probabilities"):
            return units, "softmax", "categorical_crossentropy"
        if form == "several labels":
            return units, "sigmoid", "binary_crossentropy"
        if form in ("classes", "binary"):
            return max(units, int(output.y.max()) + 1), "softmax", "sparse_categorical_crossentropy"
        return units, "linear", output.loss if output.loss_name in DISTANCES else "mean_squared_error"

    def build(self) -> tuple[KerasModel, Any]:
        """Returns the changed copy, not compiled, and its loss.

        It starts with fresh weights where the initial ones are at fault or the model has been trained.
        """
        changes_end = bool(self.kinds & set(GROUPS[0]))
        units, activation, loss = self.end() if changes_end else (0, "", self.output.loss)
        program = self.program
        last = program.weighted[-1].layer if program.weighted else None
        after = {id(step.layer) for step in self._after_last()}
        recurrent = (keras.layers.RNN, keras.layers.MultiHeadAttention)

        def remake(layer: KerasLayer) -> KerasLayer | None:
            if id(layer) in after and changes_end:
                return keras.layers.Activation("linear", name=layer.name)
            config = layer.get_config()
            hidden = layer is not last and id(layer) not in after and not isinstance(layer, recurrent)
            if layer is last and changes_end:
                config |= {"activation": activation, "units" if "units" in config else "filters": units}
            elif hidden and "hidden_activation" in self.kinds and config.get("activation") in (*_FLAT, "linear"):
                config["activation"] = "relu"
            if self.kinds & _WEIGHTS and "kernel_initializer" in config:
                config |= {"kernel_initializer": "glorot_uniform", "bias_initializer": "zeros"}
            return type(layer).from_config(self._other(layer, config))

        fresh = bool(self.kinds & _WEIGHTS or changes_end or program.steps_taken or program.non_finite_weights)
        copy = copy_of(program.model, weights=not fresh, remake=remake)
        return (self._scaled(copy, loss) if "input_scaling" in self.kinds else copy), loss

    def _other(self, layer: KerasLayer, config: dict[str, Any]) -> dict[str, Any]:
        if "frozen" in self.kinds:
            config["trainable"] = True
        if "regularization" in self.kinds:
            config |= {"rate": min(config["rate"], 0.2)} if "Dropout" in type(layer).__name__ else {}
            config |= {name: None for name in ("kernel_regularizer", "bias_regularizer") if name in config}
        if "norm_statistics" in self.kinds and "momentum" in config:
            config["momentum"] = 0.9
        return config

    def _after_last(self) -> list[Any]:
        graph = self.program.graph
        if not self.program.weighted:
            return []
        last = self.program.weighted[-1]
        steps = graph.between(last.outputs, [graph.output])
        kinds = (keras.layers.Activation, keras.layers.Softmax, keras.layers.ReLU, keras.layers.LeakyReLU)
        return [step for step in steps if isinstance(step.layer, kinds)]

    def _scaled(self, copy: KerasModel, loss: Any) -> KerasModel:
        """Returns a model that takes the raw inputs and gives raw values: both are scaled inside."""
        rows = self.program.finite_rows
        inputs = [
            keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=f"raw_{i}") for i, tensor in enumerate(copy.inputs)
        ]
        normalized = []
        for given, part in zip(inputs, tree.flatten(self.program.x), strict=True):
            if "int" in str(given.dtype) or np.sqrt(np.mean(np.square(part[rows], dtype="float64"))) < 3:
                normalized.append(given)
                continue
            # Images: one mean and deviation for all positions; rows: one for each feature.
            axes = tuple(range(part.ndim)) if part.ndim > 2 or part.shape[-1] > 64 else 0
            mean = np.broadcast_to(part[rows].mean(axis=axes, dtype="float64"), part.shape[-1:])
            scale = np.broadcast_to(part[rows].std(axis=axes, dtype="float64"), part.shape[-1:])
            variance = np.where(scale > 0, scale, 1.0) ** 2
            normalized.append(keras.layers.Normalization(mean=mean.tolist(), variance=variance.tolist())(given))
        outputs = copy(normalized[0] if len(normalized) == 1 else _packed(copy, normalized))
        y = self.output.y[rows]
        if self.targets_large:
            outputs = keras.layers.Rescaling(float(y.std()) or 1.0, offset=float(y.mean()))(outputs)
        given = inputs[0] if len(inputs) == 1 else _packed(self.program.model, inputs)
        return keras.Model(given, outputs, name=copy.name)

    @property
    def targets_large(self) -> bool:
        """Returns whether the true values of a regression are far from 1."""
        output = self.output
        size = np.sqrt(np.mean(np.square(output.y[self.program.finite_rows], dtype="float64")))
        return output.form == "values" and output.loss_name in DISTANCES and float(size) > 10


def _packed(model: KerasModel, tensors: list[Any]) -> Any:
    return tree.pack_sequence_as(model.input, tensors)
