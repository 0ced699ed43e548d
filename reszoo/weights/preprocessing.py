"""The preprocessing of images that belongs to pretrained weights, as a model of stock Keras layers."""

from __future__ import annotations

from typing import cast

from reszoo.arch.facts import holds_facts
from reszoo.arch.recover import stock_model
from reszoo.errors import ReszooError
from reszoo.types import KerasModel
from reszoo.weights.catalogue import Preprocessing, Record, record
from reszoo.weights.origin import origin


def preprocessing(
    of: KerasModel | Record | Preprocessing | str, /, *, inside: bool = False, size: int | None = None
) -> KerasModel:
    """Returns the preprocessing of images for pretrained weights, as a model of stock Keras layers.

    The layers resize the shorter side, crop the center, scale, normalize, and convert RGB to BGR if the weights need
    it. Input: images of one size with values from 0 to 255, channels last, `(batch, height, width, 3)`, or 1 channel
    for gray. Calls with values that appear to be scaled or normalized already emit a warning.

    Example:
        >>> import reszoo
        >>> reszoo.preprocessing("resnet50.tv2_in1k").output_shape
        (None, 224, 224, 3)

    Args:
        of: a model with published weights or of a run (also after `replace_head`, surgery, saving and loading, or as a
            layer of a larger model), a record of published weights or its name, or a `Preprocessing`.
        inside: for a model: return the model with the preprocessing in front, which takes unprocessed images.
        size: side of the crop in pixels, by default the model's input size or else the record's; the size before the
            crop changes in proportion.

    Raises:
        ReszooError: the preprocessing for this model is unknown.
    """
    settings = _settings(of)
    if hasattr(of, "layers") and (layer := scaling_layer(of)):
        hint = "call the model with images of values from 0 to 255"
        name = cast(KerasModel, of).name
        raise ReszooError("preprocessing", got=f"{name}, whose layer {layer!r} scales images already", hint=hint)
    input_size = getattr(of, "input_shape", (None, None))[1] if hasattr(of, "layers") else None
    crop = size or input_size or settings.crop
    resize = round(settings.resize * crop / settings.crop)
    if inside and not hasattr(of, "layers"):
        raise ReszooError("preprocessing: inside", got=type(of).__name__, expected="a model")
    from reszoo.weights.preprocessing_layers import preprocess

    if inside:
        model = stock_model(cast(KerasModel, of))
        return preprocess(settings, resize, crop, model, name=f"{model.name}_with_preprocessing")
    return preprocess(settings, resize, crop, name="preprocessing")


def scaling_layer(model: KerasModel) -> str:
    """Returns the name of a layer that scales the inputs of a model, outside the network itself, or an empty string."""
    names = (layer.name for layer in model.layers if type(layer).__name__ in ("Rescaling", "Normalization"))
    return next(names, "")


def _settings(of: KerasModel | Record | Preprocessing | str) -> Preprocessing:
    if isinstance(of, Preprocessing):
        return of
    if isinstance(of, (str, Record)):
        return (record(of) if isinstance(of, str) else of).preprocessing
    source = origin(of) if hasattr(of, "layers") else None
    if source is not None and source.preprocessing is not None:
        return source.preprocessing
    expected = "a model with published weights, a record's name (reszoo.list_weights()), or a reszoo.Preprocessing"
    if not hasattr(of, "layers"):
        raise ReszooError("preprocessing", got=repr(of), expected=expected)
    hint = "" if source is None or source.record is None else f"reszoo.preprocessing({source.record.name!r})"
    if not hint and not holds_facts(of):
        hint = "with a bias in every layer only reszoo.save(model, path) keeps it, not model.save(path)"
    raise ReszooError("preprocessing", got=f"{of.name}, whose preprocessing is unknown", expected=expected, hint=hint)
