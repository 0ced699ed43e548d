"""A functional Keras model as a flat list of steps: run in part, changed on the way, its state left as it was."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import keras
from keras import ops, tree

from reszoo.diagnosis.gradient import without_gradient
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
        given: Mapping[Slot, Any] | None = None,
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
        values: Values = {**dict(zip(self.inputs, self.tensors(x), strict=True)), **(given or {})}
        for slot in [*values]:
            values[slot] = change[slot](values[slot], values) if slot in change else values[slot]
        steps = self.needed(wanted, values)
        left = Counter(slot for step in steps for slot in step.reads)
        kept = {*wanted, *self.inputs, *(given or {})}
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
            given = ", ".join(f"x of shape {tuple(a.shape)}" for a in flat)
            raise ReszooError(self.model.name, given=given, allowed=f"(batch, ...) of {', '.join(map(str, takes))}")
        pairs = zip(flat, self.model.inputs, strict=True)
        return [ops.convert_to_tensor(value, dtype=tensor.dtype) for value, tensor in pairs]

    def needed(self, wanted: Iterable[Slot], given: Iterable[Slot]) -> list[Step]:
        """The steps from what is given to what is wanted."""
        missing, found = {*wanted} - {*given}, []
        for step in reversed(self.steps):
            if not missing.isdisjoint(step.makes):
                missing = (missing - {*step.makes}) | ({*step.reads} - {*given})
                found.append(step)
        return found[::-1]

    @cached_property
    def maker(self) -> dict[Slot, Step]:
        """The step that makes a tensor."""
        return {slot: step for step in self.steps for slot in step.makes}

    @cached_property
    def readers(self) -> dict[Slot, list[Step]]:
        """The steps that read a tensor."""
        found: dict[Slot, list[Step]] = {}
        for step in self.steps:
            for slot in {*step.reads}:
                found.setdefault(slot, []).append(step)
        return found


def flatten(model: Any) -> Graph:
    """Returns a model's graph.

    Raises:
        ReszooError: the model has no functional graph, or several outputs.
    """
    inner = _functional(model)
    if inner is None:
        _refuse(model)
    if len(inner.outputs) != 1:
        raise ReszooError(
            model.name,
            given=f"a model of {len(inner.outputs)} outputs",
            allowed="one output",
            mend="give keras.Model(model.input, model.output[...]), the part that is to be measured",
        )
    walk = _Walk()
    inputs = tuple(walk.slot(tensor) for tensor in inner.inputs)
    (output,) = walk.open(inner, inputs, inference=False)
    logits, activation = walk.split(output)
    return Graph(model, tuple(walk.steps), inputs, output, logits, activation, walk.shapes)


class _Walk:
    """The graph in the making."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.shapes: dict[Slot, tuple[int | None, ...]] = {}

    def slot(self, tensor: Any) -> Slot:
        made = Slot(len(self.shapes))
        self.shapes[made] = tuple(tensor.shape[1:])
        return made

    def open(self, model: Any, inputs: Iterable[Slot], *, inference: bool) -> list[Slot]:
        """Adds the steps of a model that reads `inputs`, and returns its outputs."""
        slots = {id(tensor): slot for tensor, slot in zip(model.inputs, inputs, strict=True)}
        for node in _nodes(model):
            args, named = node.arguments.fill_in(slots)
            reads = [leaf for leaf in tree.flatten((args, named)) if isinstance(leaf, Slot)]
            inner = _functional(node.operation)
            settled = inference or named.get("training") is False
            if inner is not None:
                makes = self.open(inner, reads, inference=settled)
            else:
                makes = [self.slot(tensor) for tensor in node.outputs]
                called = {name: value for name, value in named.items() if name != "training"}
                layer = node.operation
                told = _training(layer, settled)
                self.steps.append(Step(layer.name, layer, layer, (args, called), tuple(reads), tuple(makes), told))
            slots |= {id(tensor): slot for tensor, slot in zip(node.outputs, makes, strict=True)}
        return [slots[id(tensor)] for tensor in model.outputs]

    def split(self, output: Slot) -> tuple[Slot, str]:
        """The logits and the activation after them; a Dense layer that has both in one becomes two steps."""
        last = next(step for step in self.steps if output in step.makes)
        layer = last.layer
        word = getattr(getattr(layer, "activation", None), "__name__", "linear")
        word = "softmax" if isinstance(layer, keras.layers.Softmax) else word
        if word not in ("softmax", "sigmoid"):
            return output, "linear"
        if not isinstance(layer, keras.layers.Dense):
            return last.reads[0], word
        made = Slot(len(self.shapes))
        self.shapes[made] = self.shapes[output]
        linear = Step(layer.name, layer, _Linear(layer), last.arguments, last.reads, (made,), "not told")
        name, call = f"{layer.name}_{word}", layer.activation
        after = Step(name, call, call, ((made,), {}), (made,), (output,), "not told")
        place = self.steps.index(last)
        self.steps[place : place + 1] = [linear, after]
        return made, word


class _Linear:
    """A Dense layer without its activation."""

    def __init__(self, layer: Any):
        self._layer = layer

    def __call__(self, x: Any) -> Any:
        layer = self._layer
        made = ops.matmul(ops.cast(x, layer.compute_dtype), ops.cast(layer.kernel, layer.compute_dtype))
        return made if layer.bias is None else made + ops.cast(layer.bias, layer.compute_dtype)


def _functional(model: Any) -> Any:
    """The functional model that computes this one, where there is one: a Sequential has one inside."""
    inner = getattr(model, "_functional", None) if isinstance(model, keras.Sequential) else model
    if not isinstance(inner, keras.Model) or not hasattr(inner, "_nodes_by_depth"):
        return None
    # A subclass that computes something of its own is no graph, whatever graph it inherits.
    return inner if type(inner).call.__module__.startswith("keras.") else None


def _nodes(model: Any) -> Iterator[Any]:
    """The calls of a model's layers in execution order: what Keras itself walks."""
    for depth in sorted(model._nodes_by_depth, reverse=True):
        yield from (node for node in model._nodes_by_depth[depth] if node.operation and not node.is_input)


def _filled(leaf: Any, values: Values) -> Any:
    return values[leaf] if isinstance(leaf, Slot) else leaf


def _training(layer: Any, settled: bool) -> Literal["not told", "never", "as statistics"]:
    if not isinstance(layer, keras.Layer) or "training" not in inspect.signature(layer.call).parameters:
        return "not told"
    parts = layer._flatten_layers()
    normalises = any(isinstance(part, keras.layers.BatchNormalization) for part in parts)
    return "as statistics" if normalises and not settled else "never"


def _refuse(model: Any) -> None:
    if not isinstance(model, keras.Model):
        raise ReszooError("model", given=repr(model), allowed="a Keras model")
    if isinstance(model, keras.Sequential):
        given, mend = "a Sequential that has no input shape yet", "call it once on data, or begin it with keras.Input"
    else:
        given = f"{type(model).__name__}, a model with a call() of its own"
        mend = "give a functional model inside it, or build it from keras.Input"
    allowed = "a functional model, keras.Model(inputs, outputs)"
    raise ReszooError(f"{model.name}: cannot be taken apart", given=given, allowed=allowed, mend=mend)
