"""A flat list of steps, run in part, changed on the way, the model's state left as it was."""

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

Statistics = Literal["batch", "moving"]
"""Which statistics batch norms use: the batch's own, as in training, or the moving ones, as in inference."""


class Slot(int):
    """The number of a tensor of the graph."""


Values = dict[Slot, Any]
Change = Callable[[Any, Values], Any]
"""Makes another value of a tensor's value, from it and the values before it."""


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One call of a layer."""

    name: str
    """Of the layer."""
    layer: Any
    call: Callable[..., Any]
    arguments: tuple[tuple[Any, ...], dict[str, Any]]
    """As the layer was called, slots in the place of tensors."""
    reads: tuple[Slot, ...]
    makes: tuple[Slot, ...]
    training: Literal["not told", "never", "as statistics"]
    """Its `training` argument: only batch norms ever see True, so dropout is never active; nor do those of a sub-model
    that is called with `training=False` for good."""

    @property
    def weighted(self) -> int:
        """How many kernels the layer has: weights of two dimensions or more."""
        return sum(len(variable.shape) > 1 for variable in getattr(self.layer, "weights", ()))

    def mode(self, statistics: Statistics) -> dict[str, bool]:
        """The layer's `training` argument."""
        if self.training == "not told":
            return {}
        return {"training": self.training == "as statistics" and statistics == "batch"}


@dataclass(frozen=True, eq=False)
class Graph:
    """All steps of a model in execution order, sub-models opened."""

    model: Any
    steps: tuple[Step, ...]
    inputs: tuple[Slot, ...]
    output: Slot
    """Of the model."""
    logits: Slot
    """The output before its softmax or sigmoid, where it ends with one."""
    activation: str
    """What the model ends with: softmax, sigmoid or linear."""
    shapes: dict[Slot, tuple[int | None, ...]]
    """Of every tensor, without the batch."""

    def run(
        self,
        x: Any,
        *,
        wanted: Iterable[Slot],
        got: Mapping[Slot, Any] | None = None,
        change: Mapping[Slot, Change] | None = None,
        statistics: Statistics = "moving",
        weights: Iterable[tuple[Any, Any]] = (),
    ) -> Values:
        """Returns the wanted tensors. Only what they need is computed, and no variable of the model is written.

        Args:
            x: inputs of the model.
            wanted: tensors to return.
            given: values of tensors that are then not computed.
            change: what is done to a tensor as soon as it is there.
            statistics: of batch norms.
            weights: variables and the values they have in this run.
        """
        change, wanted = change or {}, tuple(wanted)
        values: Values = {**dict(zip(self.inputs, self.tensors(x), strict=True)), **(got or {})}
        for slot in [*values]:
            values[slot] = change[slot](values[slot], values) if slot in change else values[slot]
        steps = self.needed(wanted, values)
        left = Counter(slot for step in steps for slot in step.reads)
        kept = {*wanted, *self.inputs, *(got or {})}
        # Whatever a changed tensor looks at must still be there.
        forget = not change
        with keras.StatelessScope(list(weights)):
            for step in steps:
                args, named = tree.map_structure(lambda leaf: _filled(leaf, values), step.arguments)
                made = step.call(*args, **(named | step.mode(statistics)))
                for slot, value in zip(step.makes, tree.flatten(made), strict=True):
                    values[slot] = change[slot](value, values) if slot in change else value
                left.subtract(step.reads)
                for slot in step.reads if forget else ():
                    if not left[slot] and slot not in kept:
                        values.pop(slot, None)
        return {slot: values[slot] for slot in wanted}

    def read(self, x: Any, *, wanted: Iterable[Slot], **settings: Any) -> dict[Slot, Any]:
        """Returns the wanted tensors as NumPy arrays; the settings are those of `run`."""
        with without_gradient():
            found = self.run(x, wanted=wanted, **settings)
            return {slot: ops.convert_to_numpy(ops.cast(value, "float32")) for slot, value in found.items()}

    def settled(self, x: Any) -> list[tuple[Any, Any]]:
        """Returns the moving statistics of every batch norm, and those of a batch to put in their place.

        Run with them and `moving`, every example stands for itself: no gradient goes through the statistics.
        """
        norms = [step for step in self.steps if isinstance(step.layer, keras.layers.BatchNormalization)]
        with without_gradient():
            shown = self.run(x, wanted=[step.reads[0] for step in norms], statistics="batch")
        found = []
        for step in norms:
            value = ops.cast(shown[step.reads[0]], "float32")
            axes = [axis for axis in range(len(value.shape)) if axis != step.layer.axis % len(value.shape)]
            mean, variance = ops.moments(value, axes)
            found += [(step.layer.moving_mean, mean), (step.layer.moving_variance, variance)]
        return found

    def tensors(self, x: Any) -> list[Any]:
        """Returns inputs as tensors of the model's own types.

        Raises:
            ReszooError: they are not what the model takes.
        """
        flat = tree.flatten(x)
        takes = [tensor.shape[1:] for tensor in self.model.inputs]
        fits = len(flat) == len(takes) and all(
            len(a.shape) == len(b) + 1 and all(n in (None, m) for n, m in zip(b, a.shape[1:], strict=True))
            for a, b in zip(flat, takes, strict=True)
        )
        if not fits:
            got = ", ".join(f"x of shape {tuple(a.shape)}" for a in flat)
            raise ReszooError(self.model.name, got=got, expected=f"(batch, ...) of {', '.join(map(str, takes))}")
        pairs = zip(flat, self.model.inputs, strict=True)
        return [ops.convert_to_tensor(value, dtype=tensor.dtype) for value, tensor in pairs]

    def needed(self, wanted: Iterable[Slot], got: Iterable[Slot]) -> list[Step]:
        """The steps from what is given to what is wanted."""
        missing, found = {*wanted} - {*got}, []
        for step in reversed(self.steps):
            if not missing.isdisjoint(step.makes):
                missing = (missing - {*step.makes}) | ({*step.reads} - {*got})
                found.append(step)
        return found[::-1]

    @cached_property
    def readers(self) -> dict[Slot, list[Step]]:
        """The steps that read a tensor."""
        found: dict[Slot, list[Step]] = {}
        for step in self.steps:
            for slot in {*step.reads}:
                found.setdefault(slot, []).append(step)
        return found


def _filled(leaf: Any, values: Values) -> Any:
    return values[leaf] if isinstance(leaf, Slot) else leaf
