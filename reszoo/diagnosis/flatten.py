"""A functional Keras model taken apart into a flat list of steps, its sub-models opened."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import keras
from keras import ops, tree

from reszoo.diagnosis.graph import Graph, Slot, Step
from reszoo.errors import ReszooError


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
            got=f"a model of {len(inner.outputs)} outputs",
            expected="one output",
            hint="give keras.Model(model.input, model.output[...]), the part that is to be measured",
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


def _training(layer: Any, settled: bool) -> Literal["not told", "never", "as statistics"]:
    if not isinstance(layer, keras.Layer) or "training" not in inspect.signature(layer.call).parameters:
        return "not told"
    parts = layer._flatten_layers()
    normalises = any(isinstance(part, keras.layers.BatchNormalization) for part in parts)
    return "as statistics" if normalises and not settled else "never"


def _refuse(model: Any) -> None:
    if not isinstance(model, keras.Model):
        raise ReszooError("model", got=repr(model), expected="a Keras model")
    if isinstance(model, keras.Sequential):
        got, hint = "a Sequential that has no input shape yet", "call it once on data, or begin it with keras.Input"
    else:
        got = f"{type(model).__name__}, a model with a call() of its own"
        hint = "give a functional model inside it, or build it from keras.Input"
    expected = "a functional model, keras.Model(inputs, outputs)"
    raise ReszooError(f"{model.name}: cannot be taken apart", got=got, expected=expected, hint=hint)
