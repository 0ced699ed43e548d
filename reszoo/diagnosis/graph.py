"""The graph of a model: a flat list of steps that runs in part, with tensors edited, and leaves the model's state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import keras
from keras import ops, tree

from reszoo.diagnosis.autodiff import without_gradient
from reszoo.errors import ReszooError
from reszoo.types import Array, KerasLayer, KerasModel, KerasVariable, Tensor

Statistics = Literal["batch", "moving"]
"""Which statistics batch norms use: those of the batch, as in training, or the moving ones, as in inference."""


class Slot(int):
    """The number of a tensor of the graph."""


Values = dict[Slot, Tensor]
Change = Callable[[Tensor, Values], Tensor]
"""Computes the new value of a tensor from its value and the values of the tensors before it."""


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One call of a layer."""

    name: str
    """Name of the layer."""
    layer: KerasLayer
    call: Callable[..., Any]
    arguments: tuple[tuple[Any, ...], dict[str, Any]]
    """Arguments of the call, with slots in place of tensors."""
    inputs: tuple[Slot, ...]
    outputs: tuple[Slot, ...]
    training: Literal["no argument", "always false", "by statistics"]
    """How the `training` argument is set. Only batch norms ever get True, so dropout is never active; the batch norms
    of a sub-model that is always called with `training=False` get False as well."""

    @property
    def kernels(self) -> int:
        """Returns the number of kernels of the layer: weights of two dimensions or more."""
        return sum(len(variable.shape) > 1 for variable in getattr(self.layer, "weights", ()))

    def mode(self, statistics: Statistics) -> dict[str, bool]:
        """Returns the layer's `training` argument, if it has one."""
        if self.training == "no argument":
            return {}
        return {"training": self.training == "by statistics" and statistics == "batch"}


@dataclass(frozen=True, eq=False, repr=False)
class Graph:
    """All steps of a model in execution order, sub-models opened."""

    model: KerasModel
    steps: tuple[Step, ...]
    inputs: tuple[Slot, ...]
    output: Slot
    """Output of the model."""
    logits: Slot
    """The output before the final softmax or sigmoid, if the model ends with one."""
    activation: str
    """The final activation: softmax, sigmoid or linear."""
    shapes: dict[Slot, tuple[int | None, ...]]
    """Shape of every tensor, without the batch axis."""

    def __repr__(self) -> str:
        return f"Graph({self.model.name}: {len(self.steps)} steps)"

    def run(
        self,
        x: Tensor,
        *,
        outputs: Iterable[Slot],
        overrides: Mapping[Slot, Tensor] | None = None,
        change: Mapping[Slot, Change] | None = None,
        statistics: Statistics = "moving",
        weights: Iterable[tuple[KerasVariable, Tensor]] = (),
        collected: list[Tensor] | None = None,
    ) -> Values:
        """Returns tensors of the graph. Only what they depend on is computed; no variable of the model is written.

        Args:
            x: inputs of the model.
            outputs: tensors to return.
            overrides: values of tensors, which are then not computed.
            change: functions that replace the value of a tensor as soon as it is computed.
            statistics: which statistics batch norms use.
            weights: variables and the values they have in this run.
            collected: receives what layers add to the loss: activity penalties and `add_loss`.
        """
        change, outputs, overrides = change or {}, tuple(outputs), overrides or {}
        values: Values = {**dict(zip(self.inputs, self.tensors(x), strict=True)), **overrides}
        for slot in [*values]:
            values[slot] = change[slot](values[slot], values) if slot in change else values[slot]
        steps = self.between(values, outputs)
        readers = Counter(slot for step in steps for slot in step.inputs)
        keep = {*outputs, *self.inputs, *overrides}
        # A change may read any earlier tensor, so none is freed.
        free = not change
        with keras.StatelessScope(list(weights), collect_losses=collected is not None) as scope:
            for step in steps:
                args, keywords = tree.map_structure(lambda leaf: _filled(leaf, values), step.arguments)
                result = step.call(*args, **(keywords | step.mode(statistics)))
                for slot, value in zip(step.outputs, tree.flatten(result), strict=True):
                    values[slot] = change[slot](value, values) if slot in change else value
                readers.subtract(step.inputs)
                for slot in step.inputs if free else ():
                    if not readers[slot] and slot not in keep:
                        values.pop(slot, None)
        if collected is not None:
            collected += scope.losses
            _forget(self.model, scope.losses)
        return {slot: values[slot] for slot in outputs}

    def read(self, x: Tensor, *, outputs: Iterable[Slot], **settings: Any) -> dict[Slot, Array]:
        """Returns tensors of the graph as float32 NumPy arrays; the settings are those of `run`."""
        with without_gradient():
            values = self.run(x, outputs=outputs, **settings)
            return {slot: ops.convert_to_numpy(ops.cast(value, "float32")) for slot, value in values.items()}

    def batch_statistics(self, x: Tensor) -> list[tuple[KerasVariable, Tensor]]:
        """Returns the moving statistics of every batch norm, each with that statistic of a batch as its value.

        In a run with these `weights` and the statistics `moving`, the examples are independent of each other: no
        gradient flows through the statistics.
        """
        norms = [step for step in self.steps if isinstance(step.layer, keras.layers.BatchNormalization)]
        with without_gradient():
            inputs = self.run(x, outputs=[step.inputs[0] for step in norms], statistics="batch")
        statistics = []
        for step in norms:
            value = ops.cast(inputs[step.inputs[0]], "float32")
            axes = [axis for axis in range(len(value.shape)) if axis != step.layer.axis % len(value.shape)]
            mean, variance = ops.moments(value, axes)
            statistics += [(step.layer.moving_mean, mean), (step.layer.moving_variance, variance)]
        return statistics

    def tensors(self, x: Tensor) -> list[Tensor]:
        """Returns inputs as tensors of the dtypes the model declares.

        Raises:
            ReszooError: the shapes do not fit the model's inputs.
        """
        flat = tree.flatten(x)
        shapes = [tensor.shape[1:] for tensor in self.model.inputs]
        fits = len(flat) == len(shapes) and all(
            len(a.shape) == len(b) + 1 and all(n in (None, m) for n, m in zip(b, a.shape[1:], strict=True))
            for a, b in zip(flat, shapes, strict=True)
        )
        if not fits:
            got = ", ".join(f"x of shape {tuple(a.shape)}" for a in flat)
            raise ReszooError(self.model.name, got=got, expected=f"(batch, ...) of {', '.join(map(str, shapes))}")
        pairs = zip(flat, self.model.inputs, strict=True)
        return [ops.convert_to_tensor(value, dtype=tensor.dtype) for value, tensor in pairs]

    def between(self, inputs: Iterable[Slot], outputs: Iterable[Slot]) -> list[Step]:
        """Returns the steps that compute `outputs` from `inputs`, in execution order."""
        inputs = {*inputs}
        missing = {*outputs} - inputs
        steps = []
        for step in reversed(self.steps):
            if not missing.isdisjoint(step.outputs):
                missing = (missing - {*step.outputs}) | ({*step.inputs} - inputs)
                steps.append(step)
        return steps[::-1]

    @cached_property
    def readers(self) -> dict[Slot, list[Step]]:
        """Returns the steps that read each tensor."""
        readers: dict[Slot, list[Step]] = {}
        for step in self.steps:
            for slot in {*step.inputs}:
                readers.setdefault(slot, []).append(step)
        return readers


def _forget(model: KerasModel, losses: list[Tensor]) -> None:
    """Removes the marks of collected losses from the layers that added them."""
    for layer in model._flatten_layers():
        layer._loss_ids -= {*map(id, losses)}


def _filled(leaf: Any, values: Values) -> Any:
    return values[leaf] if isinstance(leaf, Slot) else leaf
