"""One output of a model: its loss, its true values and their form, its last activations."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from reszoo.diagnosis.graph import Graph
from reszoo.diagnosis.objective import BINARY, DISTANCES, Objective, loss_name, objective, takes_logits
from reszoo.diagnosis.units import activation_name
from reszoo.types import Array

_TRANSPARENT = ("Dropout", "Flatten", "Reshape", "Activation", "Softmax", "ReLU", "LeakyReLU", "ELU", "Identity")
_BOUNDED = ("softmax", "sigmoid")


@dataclass(frozen=True, eq=False)
class Output:
    """One output of the model, with its loss and its true values."""

    name: str
    graph: Graph
    loss: Any
    """As passed to `compile`; None without one."""
    y: Array
    weights: Array | None = None
    """Weight of every example, from `sample_weight` or `class_weight`; None without them."""
    loss_weight: float = 1.0
    """Weight of the loss, from `compile`."""
    from_numbers: bool = False
    """Whether `y` was class numbers for a loss that takes one-hot rows, which it holds now."""

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Returns the shape without the batch axis."""
        return self.graph.shapes[self.graph.output]

    @property
    def units(self) -> int:
        """Returns the size of the last axis."""
        return int(self.shape[-1] or 1) if self.shape else 1

    @property
    def loss_name(self) -> str:
        """Returns the name of the loss, such as mean_squared_error."""
        return loss_name(self.loss)

    @cached_property
    def objective(self) -> Objective:
        """Returns the loss as a function of true values, outputs and weights of the examples."""
        return objective(self.loss, self.shape, weight=self.loss_weight)

    def weights_of(self, rows: Array) -> Array | None:
        """Returns the weights of some examples."""
        return None if self.weights is None else self.weights[rows]

    @property
    def takes_logits(self) -> bool:
        """Returns whether the loss takes logits."""
        return takes_logits(self.loss)

    @cached_property
    def activations(self) -> tuple[str, ...]:
        """Returns the activations after the last weighted layer, such as ("softmax",); empty without one."""
        names: list[str] = []
        slot = self.graph.output
        steps = {slot: step for step in self.graph.steps for slot in step.outputs}
        while (step := steps.get(slot)) is not None:
            name = activation_name(step)
            names += [name] if name != "linear" else []
            kind = type(step.layer).__name__
            if step.kernels or not (name != "linear" or kind in _TRANSPARENT) or len(step.inputs) != 1:
                break
            slot = step.inputs[0]
        return tuple(names[::-1])

    @property
    def activation(self) -> str:
        """Returns the last activation; "linear" without one."""
        return self.activations[-1] if self.activations else "linear"

    @cached_property
    def form(self) -> str:
        """Returns what the true values are: one-hot, several labels, binary, classes, probabilities or values."""
        y = self.y
        if y.dtype.kind not in "iufb" or not y.size:
            return "values"
        y = np.nan_to_num(y)
        bits, whole = bool(((y == 0) | (y == 1)).all()), bool((y == np.round(y)).all())
        if self.units > 1 and y.ndim == len(self.shape) + 1 and y.shape[-1] == self.units:
            sums = y.sum(axis=-1)
            if bits:
                return "one-hot" if (sums == 1).all() else "several labels"
            return "probabilities" if (y >= 0).all() and np.allclose(sums, 1, atol=1e-3) else "values"
        if bits:
            return "binary"
        distance = self.loss_name in DISTANCES and self.activation not in _BOUNDED
        # Whole numbers with gaps, such as years and prices, are no classes of one unit.
        gaps = self.loss_name in (*DISTANCES, *BINARY) and not _numbered_on(y)
        return "classes" if whole and not distance and not gaps else "values"


def _numbered_on(y: Array) -> bool:
    """Returns whether whole numbers are those of classes: from 0 or 1 on, none left out."""
    numbers = np.unique(y)
    return numbers[0] in (0, 1) and bool((np.diff(numbers) == 1).all())
