"""A new classifier on a trained network."""

from __future__ import annotations

import keras

from reszoo.arch.facts import OF_CLASSIFIER, successor
from reszoo.arch.recover import layers_by_name, spec_of, stock_model
from reszoo.errors import ReszooError
from reszoo.types import KerasLayer, KerasModel
from reszoo.weights.preprocessing import scaling_layer, with_range_check


def replace_head(
    model: KerasModel, /, *, classes: int, activation: str | None = "softmax", dropout: float = 0.0
) -> KerasModel:
    """Returns a model with the weights of another and a new classifier; frozen layers stay frozen.

    The dtype policy, the preprocessing in front of the network and what the network knows of its inputs
    (`reszoo.preprocessing`, `reszoo.origin`) stay; the names of the classes do not.

    Example:
        >>> import reszoo
        >>> model = reszoo.resnet20_cifar(depths=1, width_multiplier=0.25, classes=10)
        >>> reszoo.replace_head(model, classes=3).output_shape
        (None, 3)

    Args:
        model: a model that reszoo built, also with layers in front (`reszoo.preprocessing(model, inside=True)`).
        classes: of the new classifier.
        activation: of the new classifier; None returns logits.
        dropout: rate before the classifier.

    Raises:
        ReszooError: the model was not built by reszoo, or the classifier is invalid.
    """
    if classes == 1 and activation == "softmax":
        hint = "activation='sigmoid' for two classes, None for a regression"
        raise ReszooError("replace_head.activation", got="softmax of one class, which is always 1", hint=hint)
    settings = {"classes": classes, "activation": activation, "dropout": dropout}
    model = stock_model(model)
    if inner := _network_in(model):
        return _with_network(model, inner, replace_head(inner, **settings))  # type: ignore[arg-type]
    spec = spec_of(model)
    pooling = {} if spec.dense or spec.head.pooling != "none" else {"pooling": "avg"}
    head = {**settings, "activation": activation or "linear", **pooling}
    result = successor(spec.replace(head=head), model, without=OF_CLASSIFIER)
    sources = layers_by_name(model)
    for name, layer in layers_by_name(result).items():
        source = sources.get(name)
        if source is not None and name != "predictions":
            layer.set_weights(source.get_weights())
            layer.trainable = source.trainable
    return result


def _network_in(model: KerasModel) -> KerasModel | None:
    """The whole network among the layers of a larger model, or None; blocks of a deep network are no network."""
    networks = [layer for layer in getattr(model, "layers", ()) if hasattr(layer, "layers")]
    return next((network for network in networks if _holds_a_stem(network)), None)


def _holds_a_stem(network: KerasModel) -> bool:
    return any(name.startswith("stem_") for name in layers_by_name(network))


def _with_network(model: KerasModel, inner: KerasModel, network: KerasModel) -> KerasModel:
    """A copy of a model with another network in the place of the inner one."""
    if model.layers[-1] is not inner:
        got = f"{model.name}, with layers after the network {inner.name!r}"
        hint = f"reszoo.replace_head(model.get_layer({inner.name!r}), classes=...)"
        raise ReszooError("replace_head", got=got, expected="a model that ends with the network", hint=hint)

    def copied(layer: KerasLayer) -> KerasLayer:
        return network if layer is inner else type(layer).from_config(layer.get_config())

    result = keras.models.clone_model(model, clone_function=copied)
    for source, layer in zip(model.layers, result.layers, strict=True):
        if source is not inner:
            layer.set_weights(source.get_weights())
    return with_range_check(result) if scaling_layer(model) else result
