"""A functional model in place of a subclassed one: its `call()` is traced on symbolic inputs."""

from __future__ import annotations

import inspect
from typing import Any

import keras
import numpy as np
from keras import tree

from reszoo.diagnosis.flatten import functional_inside
from reszoo.diagnosis.objective import compiled_loss_weights
from reszoo.errors import ReszooError
from reszoo.types import Array, KerasModel, Tensor


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
