"""The loss that a model is trained with: as it is compiled, or as a function that replaces it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from reszoo.errors import ReszooError
from reszoo.types import KerasModel, Tensor

Loss = Callable[[Tensor, Tensor], Tensor]
"""A function of true values and the network's outputs; returns one number per example, or one for the batch."""
Objective = Callable[..., Tensor]
"""A function of true values, outputs and, optionally, weights of the examples; returns a scalar of the batch."""
CATEGORICAL = ("categorical_crossentropy", "categorical_focal_crossentropy", "kl_divergence")
SPARSE = ("sparse_categorical_crossentropy",)
BINARY = ("binary_crossentropy", "binary_focal_crossentropy")
DISTANCES = (
    *("mean_squared_error", "mean_absolute_error", "mean_absolute_percentage_error", "mean_squared_logarithmic_error"),
    *("huber", "log_cosh"),
)
_ALIASES = {"huber_loss": "huber", "logcosh": "log_cosh"}


def compiled_losses(model: KerasModel) -> list[Any]:
    """Returns the compiled loss of every output, as passed to `compile`; None where an output has none."""
    names, loss = output_names(model), getattr(model, "loss", None)
    if isinstance(loss, Mapping):
        # The keys are names of outputs, or those of a dict of outputs.
        return [loss.get(key, loss.get(name)) for key, name in zip(output_keys(model), names, strict=True)]
    if isinstance(loss, (list, tuple)):
        return [*loss, *[None] * (len(names) - len(loss))]
    return [loss] * len(names)


def output_names(model: KerasModel) -> list[str]:
    """Returns the names of a model's outputs."""
    inner = getattr(model, "_functional", None) or model
    return list(getattr(inner, "output_names", None) or ["output"])


def output_keys(model: KerasModel) -> list[str]:
    """Returns the keys of a dict of outputs in the order of the outputs; their names where they are no dict."""
    structure = getattr(model, "output", None)
    if not isinstance(structure, Mapping):
        return output_names(model)
    order = {id(tensor): number for number, tensor in enumerate(model.outputs)}
    return sorted(structure, key=lambda key: order.get(id(structure[key]), len(order)))


def loss_name(loss: Any) -> str:
    """Returns the name of a loss as Keras' functions are called, such as mean_squared_error; empty without a loss.

    Example:
        >>> loss_name("mse")
        'mean_squared_error'
    """
    if loss is None:
        return ""
    if isinstance(loss, str):
        try:
            loss = keras.losses.get(loss)
        except ValueError:
            return loss
    function = getattr(loss, "fn", loss)
    name = getattr(function, "__name__", "") or type(loss).__name__
    return _ALIASES.get(name, name)


def takes_logits(loss: Any) -> bool:
    """Returns whether a loss takes logits instead of probabilities."""
    try:
        return bool(loss.get_config().get("from_logits", False))
    except (AttributeError, NotImplementedError, TypeError, ValueError):
        return False


def compiled_loss_weights(model: KerasModel) -> Any:
    """Returns the weights of the losses as passed to `compile`; None without any."""
    return getattr(getattr(model, "_compile_loss", None), "_user_loss_weights", None)


def loss_weights(model: KerasModel) -> list[float]:
    """Returns the weight of every output's loss, as passed to `compile`; 1 where there is none.

    Raises:
        ReszooError: the weights do not match the outputs.
    """
    names = output_names(model)
    weights = compiled_loss_weights(model)
    if weights is None:
        return [1.0] * len(names)
    if isinstance(weights, Mapping):
        pairs = zip(output_keys(model), names, strict=True)
        weights = [weights.get(key, weights.get(name)) for key, name in pairs]
    flat = tree.flatten(weights)
    if len(flat) != len(names) or any(weight is None for weight in flat):
        expected = f"a weight for each of the outputs {', '.join(names)}"
        raise ReszooError("compile.loss_weights", got=f"{len(flat)} weights", expected=expected)
    return [float(weight) for weight in flat]


def reduces_by_mean(loss: Any) -> bool:
    """Returns whether the loss of a batch is the mean over its examples, so that the size of the batch is no matter."""
    return getattr(loss, "reduction", "sum_over_batch_size") == "sum_over_batch_size"


def objective(loss: Any, shape: tuple[int | None, ...], *, weight: float = 1.0) -> Objective:
    """Returns a loss as Keras computes it in `fit` and `evaluate`, a scalar of the batch.

    Args:
        loss: anything that `compile` takes for one output.
        shape: shape of the output without the batch axis.
        weight: the output's weight in `compile`.
    """
    given = keras.Input(shape)
    identity = keras.Model(given, given)
    identity.compile(loss=loss)

    def function(y: Tensor, outputs: Tensor, weights: Tensor | None = None) -> Tensor:
        value = identity.compute_loss(None, y_tensor(y), outputs, None if weights is None else y_tensor(weights))
        return ops.cast(value, "float32") * weight

    return function


def y_tensor(y: Tensor) -> Tensor:
    """Returns true values as a tensor of the dtype in which `fit` passes them on."""
    if isinstance(y, np.ndarray) and y.dtype.kind == "f":
        return ops.convert_to_tensor(y, dtype=keras.config.floatx())
    return ops.convert_to_tensor(y)


def penalty(model: KerasModel) -> float:
    """Returns the sum of the weight penalties, which Keras adds to the compiled loss."""
    total = 0.0
    for variable in model.trainable_variables:
        if getattr(variable, "regularizer", None) is not None:
            total += float(ops.convert_to_numpy(variable.regularizer(variable)))
    return total
