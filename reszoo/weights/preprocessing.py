"""The preprocessing of images that belongs to pretrained weights, as a model of stock Keras layers."""

from __future__ import annotations

import sys
import warnings
from typing import Any, cast

from reszoo.arch.facts import holds_facts
from reszoo.arch.recover import stock_model
from reszoo.errors import ReszooError
from reszoo.types import Array, KerasModel, Tensor
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


def with_range_check(model: KerasModel) -> KerasModel:
    """Makes this object check the range of its inputs; its saved and copied versions are stock models without it."""
    import numpy as np

    call, predict = model.call, model.predict

    def checked_call(inputs: Tensor, *args: Any, **kwargs: Any) -> Any:
        if isinstance(inputs, np.ndarray) or _is_eager(inputs):
            warn_of_range(inputs)
        return call(inputs, *args, **kwargs)

    def checked_predict(x: Tensor, *args: Any, **kwargs: Any) -> Any:
        if isinstance(x, np.ndarray):
            warn_of_range(x)
        return predict(x, *args, **kwargs)

    model.call, model.predict = checked_call, checked_predict
    return model


def _is_eager(value: Any) -> bool:
    import keras

    return keras.ops.is_tensor(value) and hasattr(value, "numpy") and not hasattr(value, "graph")


def preprocess(of: Preprocessing, resize: int, crop: int, then: KerasModel | None = None, *, name: str) -> KerasModel:
    """Returns resize, crop, scale and normalization as a model, followed by the model `then` if there is one."""
    import keras
    import numpy as np

    inputs = keras.Input((None, None, len(of.mean)), name="images")
    # Cropping to a square and then resizing gives the same image as resizing the shorter side and then cropping.
    settings = {"interpolation": of.interpolation, "crop_to_aspect_ratio": True, "antialias": True}
    resized = keras.layers.Resizing(resize, resize, data_format="channels_last", name="resize", **settings)
    # By default this layer assumes training=True in every call, and all layers after it follow: the running statistics
    # of a network would change whenever it is called.
    x = resized(inputs, training=False)
    if crop != resize:
        before = (resize - crop) // 2
        margin = (before, resize - crop - before)
        x = keras.layers.Cropping2D((margin, margin), data_format="channels_last", name="crop")(x)
    x = keras.layers.Rescaling(1 / of.scale, name="rescale")(x)
    variance = [value**2 for value in of.std]
    x = keras.layers.Normalization(axis=-1, mean=[*of.mean], variance=variance, name="normalize")(x)
    if of.channels == "bgr":
        # No stock layer reverses channels; a 1x1 convolution with a reversed identity matrix does so exactly.
        reverse = keras.layers.Conv2D(
            3, 1, use_bias=False, trainable=False, data_format="channels_last", name="rgb_to_bgr"
        )
        x = reverse(x)
        reverse.kernel.assign(np.eye(3, dtype="float32")[::-1][None, None])
    if keras.config.image_data_format() == "channels_first":
        x = keras.layers.Permute((3, 1, 2), name="channels_first")(x)
    return with_range_check(keras.Model(inputs, then(x) if then is not None else x, name=name))


def warn_of_range(images: Array) -> None:
    """Warns if the range of values is not plausible for pixel values from 0 to 255."""
    import numpy as np

    values = np.asarray(images)
    if values.dtype.kind != "f" or not values.size:
        return
    low, high = float(values.min()), float(values.max())
    if low < -1.0 or (low < 0 and high <= 16):
        reason = "normalized already"
    elif 0 < high <= 1.5:
        reason = "scaled to 0..1 already"
    elif high > 300:
        reason = "more than 8 bits per channel"
    else:
        return
    message = f"preprocessing: got images with values from {low:.3g} to {high:.3g}; expected 0 to 255 ({reason}?)"
    warnings.warn(message, stacklevel=_stacklevel())


def _stacklevel() -> int:
    """Returns the `stacklevel`, relative to the caller, of the first frame outside Keras and reszoo."""
    frame, level = sys._getframe(1), 1
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in ("keras", "reszoo"):
        frame, level = frame.f_back, level + 1
    return level
