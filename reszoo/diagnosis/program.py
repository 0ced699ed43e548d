"""A program as the doctor reads it: the compiled model, its outputs with their losses, the data, the optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from reszoo.arch.recover import stock_model
from reszoo.diagnosis.copies import unscaled
from reszoo.diagnosis.examples import check_counts, example_weights, inputs_of, rows_of_classes
from reszoo.diagnosis.flatten import flatten, functional, own_method
from reszoo.diagnosis.graph import Graph, Step
from reszoo.diagnosis.objective import compiled_losses, loss_weights, output_keys, output_names
from reszoo.diagnosis.output import Output
from reszoo.errors import ReszooError
from reszoo.training.callbacks import non_finite_weights
from reszoo.types import Array, KerasLayer, KerasModel, KerasVariable, Tensor

_NORMS = ("BatchNormalization", "LayerNormalization", "GroupNormalization", "UnitNormalization", "RMSNormalization")
USUAL_STEPS = 1000
"""Steps of a training whose length is unknown."""


@dataclass(frozen=True, eq=False)
class Program:
    """A model with its data and the settings of its training."""

    model: KerasModel
    x: Tensor
    outputs: tuple[Output, ...]
    batch_size: int | None
    """As passed to `fit`, if known."""
    epochs: int | None
    class_weight: Mapping[int, float] | None = None
    """As passed to `fit`."""
    own_loss: str = ""
    """The method with which the model computes its loss in its own way."""
    own_training: str = ""
    """The same for its training."""
    steps: int | None = None
    """Training steps of one epoch, where the data are but a part of what `fit` sees."""

    @property
    def graph(self) -> Graph:
        """Returns the graph of the (first) output."""
        return self.outputs[0].graph

    @property
    def count(self) -> int:
        """Returns the number of examples."""
        return len(tree.flatten(self.x)[0])

    def inputs(self, rows: Array) -> Tensor:
        """Returns the inputs of some examples."""
        return tree.map_structure(lambda part: part[rows], self.x)

    @property
    def optimizer(self) -> Any:
        """Returns the compiled optimizer, or None."""
        return unscaled(getattr(self.model, "optimizer", None)) if getattr(self.model, "compiled", False) else None

    @property
    def steps_taken(self) -> int:
        """Returns the number of training steps that the model has behind it, as its optimizer counts them."""
        return int(self.optimizer.iterations.numpy()) if self.optimizer is not None else 0

    @property
    def steps_of_epoch(self) -> int:
        """Returns the number of training steps of one epoch."""
        return self.steps or -(-self.count // (self.batch_size or 32))

    @property
    def updates(self) -> int | None:
        """Returns the number of training steps that `fit` would take; None if it is unknown."""
        return None if self.epochs is None else self.steps_of_epoch * self.epochs

    @cached_property
    def rates(self) -> dict[int, float]:
        """Returns learning rates of a schedule by step, from 0 to the end of training; empty without a schedule."""
        schedule = getattr(self.optimizer, "_learning_rate", None)
        if not isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
            return {}
        steps = np.unique(np.linspace(0, self.updates or USUAL_STEPS, 41).astype(int)).tolist()
        return {step: float(ops.convert_to_numpy(schedule(step))) for step in steps}

    @cached_property
    def rate(self) -> float | None:
        """Returns the compiled learning rate, the greatest one of a schedule; None without an optimizer."""
        if self.optimizer is None:
            return None
        return max(self.rates.values()) if self.rates else float(ops.convert_to_numpy(self.optimizer.learning_rate))

    @cached_property
    def layers(self) -> list[KerasLayer]:
        """Returns all layers that hold weights of their own, those inside other layers and sub-models included."""
        every = self.model._flatten_layers(include_self=False, recursive=True)
        return [layer for layer in every if _own_weights(layer)]

    @cached_property
    def weighted(self) -> list[Step]:
        """Returns the steps with kernels, in execution order."""
        return [step for step in self.graph.steps if step.kernels and not is_norm(step.layer)]

    @property
    def normed(self) -> bool:
        """Returns whether the network has a norm anywhere."""
        return any(is_norm(layer) for layer in self.model._flatten_layers(include_self=False, recursive=True))

    @property
    def adds(self) -> bool:
        """Returns whether anything is added, as shortcuts are."""
        return any(type(step.layer).__name__ == "Add" for step in self.graph.steps)

    def followed_by_norm(self, step: Step) -> bool:
        """Returns whether every reader of a step normalizes its output, so that its scale does not matter."""
        readers = [reader for slot in step.outputs for reader in self.graph.readers.get(slot, [])]
        return bool(readers) and all(is_norm(reader.layer) for reader in readers)

    @cached_property
    def finite_rows(self) -> Array:
        """Returns the indices of the examples without NaN or infinity."""
        valid = np.ones(self.count, bool)
        for part in (*tree.flatten(self.x), *(output.y for output in self.outputs)):
            array = np.asarray(part)
            if array.dtype.kind == "f":
                valid &= np.isfinite(array).reshape(len(array), -1).all(axis=1)
        return np.flatnonzero(valid)

    @cached_property
    def non_finite_weights(self) -> list[str]:
        """Returns the paths of the variables that hold NaN or infinity."""
        return non_finite_weights(self.model)


def read_program(
    model: KerasModel,
    x: Tensor,
    y: Tensor,
    *,
    loss: Any,
    batch_size: int | None,
    epochs: int | None,
    class_weight: Mapping[int, float] | None = None,
    sample_weight: Tensor | None = None,
) -> Program:
    """Returns the program of a model and its data.

    Raises:
        ReszooError: the model has no functional graph, or the data do not match its outputs.
    """
    model = stock_model(model)
    if not isinstance(model, keras.Model):
        flatten(model)
    original, model = model, functional(model, x)
    x = inputs_of(model, x)
    fixed = next((tensor.shape[0] for tensor in model.inputs if tensor.shape[0] is not None), None)
    if fixed is not None:
        expected, hint = "any number of examples", "the same layers with keras.Input(shape) and stateful=False"
        raise ReszooError(f"{model.name}: cannot be analyzed", got=f"batches of {fixed}", expected=expected, hint=hint)
    names = output_keys(model)
    graphs = [flatten(model, output=number) for number in range(len(names))]
    if isinstance(y, Mapping):
        parts = [y.get(key, y.get(name)) for key, name in zip(names, output_names(model), strict=True)]
    else:
        several = isinstance(y, (list, tuple)) and (len(names) > 1 or (len(y) == 1 and np.ndim(y[0]) > 0))
        parts = list(y) if several else [y]
    if len(parts) != len(names) or any(part is None for part in parts):
        expected = f"one array for each of the outputs {', '.join(names)}"
        raise ReszooError("diagnose.y", got=f"{len(parts)} arrays", expected=expected)
    losses = [loss] if loss is not None and len(names) == 1 else compiled_losses(model)
    true_values = [np.asarray(part) for part in parts]
    check_counts(x, true_values)
    shapes = [graph.shapes[graph.output] for graph in graphs]
    targets = [rows_of_classes(*row) for row in zip(true_values, shapes, losses, strict=True)]
    from_numbers = [part is not rows for part, rows in zip(true_values, targets, strict=True)]
    weights = example_weights(targets, names, class_weight=class_weight, sample_weight=sample_weight)
    rows = zip(names, graphs, losses, targets, weights, loss_weights(model), from_numbers, strict=True)
    outputs = tuple(Output(*row) for row in rows)
    own_loss = own_method(original, "compute_loss", "test_step")
    own_training = own_method(original, "train_step") or own_loss
    return Program(model, x, outputs, batch_size, epochs, class_weight, own_loss, own_training)


def _own_weights(layer: KerasLayer) -> list[KerasVariable]:
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def is_norm(layer: Any) -> bool:
    """Returns whether a layer is a norm."""
    return type(layer).__name__ in _NORMS
