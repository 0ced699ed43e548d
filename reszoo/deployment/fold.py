"""Batch norms folded into the convolutions before them."""

from __future__ import annotations

import logging
from typing import Any

import keras
import numpy as np

from reszoo.arch.facts import read_facts, write_facts
from reszoo.arch.recover import layers_of, stock_model
from reszoo.deployment.signature import pack_inputs, random_inputs
from reszoo.errors import ReszooError
from reszoo.types import Array, KerasLayer, KerasModel

LIMIT, LIMIT_OF_HALF = 1e-5, 5e-2
"""Accepted differences of the outputs as fractions of the largest one, in float32 and in mixed precision."""
_FOLDING = ("Conv1D", "Conv2D", "Conv3D", "Dense", "DepthwiseConv2D")


def fold_norms(model: KerasModel, /) -> KerasModel:
    """Returns the network without the batch norms that follow a convolution or dense layer, with the same outputs.

    The kernel is multiplied by f = gamma / sqrt(variance + epsilon), and the bias is beta + (bias - mean) f. A norm
    with something else before it stays, such as one after an addition in a pre-activation network; the log names them.
    The result serves, and does not train as the network does. ONNX Runtime, OpenVINO and LiteRT fold norms by
    themselves.

    Example:
        >>> import reszoo
        >>> model = reszoo.resnet20_cifar(depths=1, width_multiplier=0.5)
        >>> folded = reszoo.fold_norms(model)
        >>> len(model.layers) - len(folded.layers)
        7

    Args:
        model: a functional or Sequential Keras model; it is not changed.

    Raises:
        ReszooError: the model has no fixed graph, no norm can be folded, or the outputs would differ.
    """
    if not getattr(model, "inputs", None):
        raise ReszooError("fold_norms", got=repr(model)[:80], expected="a functional or Sequential Keras model")
    model = stock_model(model)
    pairs, kept = _pairs(model)
    if not pairs:
        got = f"{len(kept)} norms, none after a convolution or dense layer" if kept else "no batch norm"
        raise ReszooError(f"fold_norms: {model.name}", got=got, expected="a batch norm after a convolution")
    folded, facts = _without_norms(model, pairs), read_facts(model)
    if facts:
        # What the network knows of its inputs and classes.
        write_facts(folded, facts)
    single = all(layer.compute_dtype == "float32" for layer in layers_of(model))
    limit, difference = LIMIT if single else LIMIT_OF_HALF, _difference(model, folded)
    if not difference <= limit:
        got = f"outputs that differ by {difference:.1e} of the largest one"
        raise ReszooError(f"fold_norms: {model.name}", got=got, expected=f"at most {limit:.0e}")
    if kept:
        names = ", ".join(kept[:5]) + (", ..." if len(kept) > 5 else "")
        message = f"{model.name}: {len(pairs)} batch norms folded, {len(kept)} stay ({names})"
        logging.getLogger("reszoo").warning(message)
    return folded


def _pairs(model: KerasModel) -> tuple[dict[int, KerasLayer], list[str]]:
    """Identity of a norm -> the layer that it folds into; and the names of norms that stay."""
    pairs: dict[int, KerasLayer] = {}
    kept: list[str] = []
    nodes = _nodes(model)
    for layer in model.layers:
        if hasattr(layer, "layers"):
            inner, inner_kept = _pairs(layer)
            pairs, kept = pairs | inner, [*kept, *inner_kept]
        elif isinstance(layer, keras.layers.BatchNormalization):
            before = _layer_before(layer, nodes, model)
            pairs |= {id(layer): before} if before is not None else {}
            kept += [] if before is not None else [layer.name]
    return pairs, kept


def _nodes(model: KerasModel) -> list[Any]:
    """The calls of layers in the graph of a model; a Sequential has a functional model inside."""
    inner = getattr(model, "_functional", None) or model
    return [node for nodes in inner._nodes_by_depth.values() for node in nodes if not node.is_input]


def _layer_before(norm: KerasLayer, nodes: list[Any], model: KerasModel) -> KerasLayer | None:
    """The layer that a norm folds into: linear, called once, read by the norm alone, channels on the norm's axis."""
    calls = [node for node in nodes if node.operation is norm]
    if len(calls) != 1 or len(calls[0].input_tensors) != 1:
        return None
    tensor = calls[0].input_tensors[0]
    layer, rank = tensor._keras_history.operation, len(tensor.shape)
    if type(layer).__name__ not in _FOLDING or layer.activation is not keras.activations.linear:
        return None
    readers = [node for node in nodes if any(tensor is source for source in node.input_tensors)]
    readers += [output for output in model.outputs if output is tensor]
    called = sum(node.operation is layer for node in nodes)
    first = rank > 2 and getattr(layer, "data_format", "channels_last") == "channels_first"
    return layer if called == len(readers) == 1 and norm.axis % rank == (1 if first else rank - 1) else None


def _without_norms(model: KerasModel, pairs: dict[int, KerasLayer]) -> KerasModel:
    copies: dict[int, KerasLayer] = {}
    absent: set[int] = set()
    biased = {id(layer) for layer in pairs.values()}
    originals: list[KerasLayer] = []

    def copy(layer: KerasLayer) -> KerasLayer:
        originals.append(layer)
        if id(layer) in pairs:
            new = keras.layers.Identity(name=layer.name)
            absent.add(id(new))
        else:
            changes = {"use_bias": True, "bias_initializer": "zeros"} if id(layer) in biased else {}
            new = type(layer).from_config(layer.get_config() | changes)
        copies[id(layer)] = new
        return new

    def call(layer: KerasLayer, *args: Any, **kwargs: Any) -> Any:
        return args[0] if id(layer) in absent else layer(*args, **kwargs)

    # A Sequential calls its layers itself: its norms become the identity.
    settings = {} if _has_sequential(model) else {"call_function": call}
    folded = keras.models.clone_model(model, clone_function=copy, recursive=True, **settings)
    norms = {id(layer): norm for norm in originals if (layer := pairs.get(id(norm))) is not None}
    for layer in originals:
        if id(layer) in norms:
            copies[id(layer)].set_weights(_folded_weights(layer, norms[id(layer)]))
        elif id(layer) not in pairs and layer.weights:
            copies[id(layer)].set_weights(layer.get_weights())
    return folded


def _has_sequential(model: KerasModel) -> bool:
    parts = [layer for layer in model.layers if hasattr(layer, "layers")]
    return isinstance(model, keras.Sequential) or any(_has_sequential(part) for part in parts)


def _folded_weights(layer: KerasLayer, norm: KerasLayer) -> list[Array]:
    def values(variable: Any, default: float) -> Array:
        array = np.full(norm.moving_mean.shape, default) if variable is None else keras.ops.convert_to_numpy(variable)
        return np.asarray(array, "float64")

    factor = values(norm.gamma, 1.0) / np.sqrt(values(norm.moving_variance, 1.0) + norm.epsilon)
    bias = values(norm.beta, 0.0) + (values(layer.bias, 0.0) - values(norm.moving_mean, 0.0)) * factor
    kernel = np.asarray(keras.ops.convert_to_numpy(layer.kernel), "float64")
    # The output channels of a depthwise kernel are its last two axes.
    scale = factor.reshape(kernel.shape[-2:]) if type(layer).__name__ == "DepthwiseConv2D" else factor
    return [(kernel * scale).astype("float32"), bias.astype("float32")]


def _difference(model: KerasModel, folded: KerasModel) -> float:
    """Largest difference of the outputs for random inputs, as a fraction of the largest output."""
    x = pack_inputs(model, random_inputs(model, 4))
    before, after = (
        [np.asarray(keras.ops.convert_to_numpy(y), "float64") for y in keras.tree.flatten(each(x, training=False))]
        for each in (model, folded)
    )
    pairs = zip(before, after, strict=True)
    return max(float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-30)) for a, b in pairs)
