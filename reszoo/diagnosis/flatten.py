"""The graph of a Keras model, its sub-models opened; the `call()` of a subclass is traced on symbolic inputs."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import keras
import numpy as np
from keras import ops, tree

from reszoo.arch.recover import stock_model
from reszoo.diagnosis.graph import Graph, Slot, Step
from reszoo.diagnosis.objective import compiled_loss_weights
from reszoo.errors import ReszooError
from reszoo.types import Array, KerasLayer, KerasModel, Tensor


def flatten(model: KerasModel, *, output: int | None = None) -> Graph:
    """Returns the graph of a model.

    Args:
        model: a functional or Sequential model.
        output: index of the output to examine, for a model of several.

    Raises:
        ReszooError: the model has no functional graph, or several outputs.
    """
    model = stock_model(model)
    inner = functional_inside(model)
    if inner is None:
        _refuse(model)
    if len(inner.outputs) != 1 and output is None:
        raise ReszooError(
            model.name,
            got=f"a model of {len(inner.outputs)} outputs",
            expected="one output",
            hint="pass keras.Model(model.input, model.output[...]), the part to measure",
        )
    builder = _GraphBuilder()
    inputs = tuple(builder.slot(tensor) for tensor in inner.inputs)
    end = builder.open(inner, inputs, inference=False)[output or 0]
    logits, activation = builder.split(end)
    return Graph(model, tuple(builder.steps), inputs, end, logits, activation, builder.shapes)


class _GraphBuilder:
    """Collects the steps and the shapes of a graph."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.shapes: dict[Slot, tuple[int | None, ...]] = {}

    def slot(self, tensor: Any) -> Slot:
        return self._new_slot(tuple(tensor.shape[1:]))

    def _new_slot(self, shape: tuple[int | None, ...]) -> Slot:
        slot = Slot(len(self.shapes))
        self.shapes[slot] = shape
        return slot

    def open(self, model: KerasModel, inputs: Iterable[Slot], *, inference: bool) -> list[Slot]:
        """Adds the steps of a model that reads `inputs`, and returns its outputs."""
        slots = {id(tensor): slot for tensor, slot in zip(model.inputs, inputs, strict=True)}
        for node in _nodes(model):
            args, keywords = node.arguments.fill_in(slots)
            reads = [leaf for leaf in tree.flatten((args, keywords)) if isinstance(leaf, Slot)]
            inner = functional_inside(node.operation)
            fixed = inference or keywords.get("training") is False
            if inner is not None:
                outputs = self.open(inner, reads, inference=fixed)
            else:
                outputs = [self.slot(tensor) for tensor in node.outputs]
                keywords = {name: value for name, value in keywords.items() if name != "training"}
                layer = node.operation
                training = _training(layer, inference=fixed)
                step = Step(layer.name, layer, layer, (args, keywords), tuple(reads), tuple(outputs), training)
                self.steps.append(step)
            slots |= {id(tensor): slot for tensor, slot in zip(node.outputs, outputs, strict=True)}
        return [slots[id(tensor)] for tensor in model.outputs]

    def split(self, output: Slot) -> tuple[Slot, str]:
        """Returns the logits and the activation after them; a final Dense layer with both becomes two steps."""
        last = next(step for step in self.steps if output in step.outputs)
        layer = last.layer
        activation = getattr(getattr(layer, "activation", None), "__name__", "linear")
        activation = "softmax" if isinstance(layer, keras.layers.Softmax) else activation
        if activation not in ("softmax", "sigmoid"):
            return output, "linear"
        if not isinstance(layer, keras.layers.Dense) or layer.activity_regularizer is not None or self._masks:
            # A convolution with an activation has no tensor before it, and masks and penalties belong to a whole
            # layer: its output counts.
            return (output, "linear") if getattr(layer, "weights", ()) else (last.inputs[0], activation)
        logits = self._new_slot(self.shapes[output])
        linear = Step(layer.name, layer, _Linear(layer), last.arguments, last.inputs, (logits,), "no argument")
        name, call = f"{layer.name}_{activation}", layer.activation
        after = Step(name, call, call, ((logits,), {}), (logits,), (output,), "no argument")
        index = self.steps.index(last)
        self.steps[index : index + 1] = [linear, after]
        return logits, activation

    @property
    def _masks(self) -> bool:
        """Whether a layer masks time steps, which the loss then leaves out."""
        masking = (
            getattr(step.layer, "mask_zero", False) or type(step.layer).__name__ == "Masking" for step in self.steps
        )
        return any(masking)


class _Linear:
    """A Dense layer without its activation."""

    def __init__(self, layer: KerasLayer):
        self._layer = layer

    def __call__(self, x: Tensor) -> Tensor:
        layer = self._layer
        product = ops.matmul(ops.cast(x, layer.compute_dtype), ops.cast(layer.kernel, layer.compute_dtype))
        return product if layer.bias is None else product + ops.cast(layer.bias, layer.compute_dtype)


def functional_inside(model: Any) -> Any:
    """Returns the functional model behind a model, or None; a Sequential has one inside."""
    inner = getattr(model, "_functional", None) if isinstance(model, keras.Sequential) else model
    if not isinstance(inner, keras.Model) or not hasattr(inner, "_nodes_by_depth"):
        return None
    # A subclass with its own call() need not compute the graph that it inherits.
    return inner if type(inner).call.__module__.startswith("keras.") else None


def _nodes(model: KerasModel) -> Iterator[Any]:
    """Yields the calls of a model's layers in execution order, the order in which Keras itself runs them."""
    for depth in sorted(model._nodes_by_depth, reverse=True):
        yield from (node for node in model._nodes_by_depth[depth] if node.operation and not node.is_input)


def _training(layer: Any, *, inference: bool) -> Literal["no argument", "always false", "by statistics"]:
    if not isinstance(layer, keras.Layer) or "training" not in inspect.signature(layer.call).parameters:
        return "no argument"
    parts = layer._flatten_layers()
    normalizes = any(isinstance(part, keras.layers.BatchNormalization) for part in parts)
    return "by statistics" if normalizes and not inference else "always false"


def _refuse(model: Any) -> None:
    if not isinstance(model, keras.Model):
        raise ReszooError("model", got=repr(model), expected="a Keras model")
    if isinstance(model, keras.Sequential):
        got, hint = "a Sequential without an input shape", "call it once on data, or start it with keras.Input"
    else:
        got = f"{type(model).__name__}, a model with its own call()"
        hint = (
            "reszoo.diagnose(model, x, y) traces it; or pass a functional model inside it, or build it from keras.Input"
        )
    expected = "a functional model, keras.Model(inputs, outputs)"
    raise ReszooError(f"{model.name}: cannot be analyzed", got=got, expected=expected, hint=hint)


def functional(model: KerasModel, x: Tensor) -> KerasModel:
    """Returns the model itself if it has a graph; for a subclass a functional model of the same layers and optimizer.

    A Sequential or a subclass that is not built yet is built, as `fit` would build it.

    Example:
        >>> import keras, numpy as np
        >>> class Twice(keras.Model):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.dense = keras.layers.Dense(2)
        ...     def call(self, x):
        ...         return self.dense(x) + self.dense(x)
        >>> model = functional(Twice(), np.ones((3, 2)))
        >>> model.output_shape, model.count_params()
        ((None, 2), 6)

    Args:
        model: a Keras model.
        x: its inputs, as for `fit`.

    Raises:
        ReszooError: `call()` cannot be traced, or uses variables of the model itself.
    """
    if isinstance(model, keras.Sequential) and not model.built:
        model.build((None, *np.shape(x)[1:]))
    if not isinstance(model, keras.Model) or functional_inside(model) is not None:
        return model
    where, own = f"{model.name}: cannot be analyzed", f"{type(model).__name__}, a model with its own call()"
    expected = "a functional model, keras.Model(inputs, outputs), or a call() of layers and keras.ops"
    try:
        if not model.built:
            model(tree.map_structure(lambda part: np.asarray(part)[:1], x))
        inputs = tree.map_structure(lambda part: _input(np.asarray(part)), x)
        takes_training = "training" in inspect.signature(model.call).parameters
        # None leaves the choice to whoever calls the layers; a default of False would fix it.
        outputs = model.call(inputs, **({"training": None} if takes_training else {}))
        traced = keras.Model(inputs, outputs, name=model.name)
    except Exception as error:
        # Tracing calls code of the user, which may raise anything.
        message = (str(error).splitlines() or [type(error).__name__])[0][:160]
        hint = "keras.ops in place of functions of the backend, and no branches on values; or build it from keras.Input"
        raise ReszooError(
            where, got=f"{own}, which cannot be traced ({message})", expected=expected, hint=hint
        ) from error
    missing = [variable.path for variable in (*model._trainable_variables, *model._non_trainable_variables)]
    if missing:
        hint = "add_weight in a layer, and call that layer"
        raise ReszooError(
            where, got=f"{own} and variables of its own: {', '.join(missing[:3])}", expected=expected, hint=hint
        )
    if getattr(model, "compiled", False):
        weights = compiled_loss_weights(model)
        traced.compile(model.optimizer, model.loss, loss_weights=weights, jit_compile=False)
    return traced


def _input(part: Array) -> Any:
    kind = keras.config.floatx() if part.dtype.kind == "f" else str(part.dtype)
    return keras.Input(part.shape[1:], dtype=kind)


def own_method(model: Any, *names: str) -> str:
    """Returns the first of some methods that a model defines in its own way; empty if all are those of Keras."""
    for name in names:
        owner = next((kind for kind in type(model).__mro__ if name in vars(kind)), keras.Model)
        if not owner.__module__.startswith("keras."):
            return f"{owner.__name__}.{name}()"
    return ""
