"""Preprocessing as stock Keras layers."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import keras
import numpy as np

from reszoo.weights.catalogue import Preprocessing


def _watched(model: keras.Model) -> keras.Model:
    """Lets this one model look at the range of what it is called with; saved, copied and loaded it is the stock one."""
    call, predict = model.call, model.predict

    def watched_call(inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(inputs, np.ndarray) or _is_eager(inputs):
            warn_of_range(inputs)
        return call(inputs, *args, **kwargs)

    def watched_predict(x: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(x, np.ndarray):
            warn_of_range(x)
        return predict(x, *args, **kwargs)

    model.call, model.predict = watched_call, watched_predict
    return model


def _is_eager(value: Any) -> bool:
    return keras.ops.is_tensor(value) and hasattr(value, "numpy") and not hasattr(value, "graph")


def preprocess(of: Preprocessing, resize: int, crop: int, then: Any = None, *, name: str) -> keras.Model:
    """Returns resize, crop, scale and normalisation as a model, with another model after it if there is one."""
    inputs = keras.Input((None, None, len(of.mean)), name="images")
    # Cutting out the square and then resizing it is what resizing the shorter side and then cropping shows.
    shown = {"interpolation": of.interpolation, "crop_to_aspect_ratio": True, "antialias": True}
    resized = keras.layers.Resizing(resize, resize, data_format="channels_last", name="resize", **shown)
    # Unless told otherwise this layer takes every call for training, and all layers after it follow: the statistics of
    # a network would change whenever it is called.
    x = resized(inputs, training=False)
    if crop != resize:
        before = (resize - crop) // 2
        margin = (before, resize - crop - before)
        x = keras.layers.Cropping2D((margin, margin), data_format="channels_last", name="crop")(x)
    x = keras.layers.Rescaling(1 / of.scale, name="rescale")(x)
    variance = [value**2 for value in of.std]
    x = keras.layers.Normalization(axis=-1, mean=[*of.mean], variance=variance, name="normalize")(x)
    if of.channels == "bgr":
        # No stock layer turns channels round; a 1x1 convolution with the reversed identity does, exactly.
        turned = keras.layers.Conv2D(
            3, 1, use_bias=False, trainable=False, data_format="channels_last", name="rgb_to_bgr"
        )
        x = turned(x)
        turned.kernel.assign(np.eye(3, dtype="float32")[::-1][None, None])
    if keras.config.image_data_format() == "channels_first":
        x = keras.layers.Permute((3, 1, 2), name="channels_first")(x)
    return _watched(keras.Model(inputs, then(x) if then is not None else x, name=name))


def warn_of_range(images: Any) -> None:
    """Warns when numbers that should be pixel values from 0 to 255 clearly are not."""
    values = np.asarray(images)
    if values.dtype.kind != "f" or not values.size:
        return
    low, high = float(values.min()), float(values.max())
    if low < -1.0 or (low < 0 and high <= 16):
        told = "normalised already"
    elif 0 < high <= 1.5:
        told = "scaled to 0..1 already"
    elif high > 300:
        told = "more than 8 bits a channel"
    else:
        return
    message = f"preprocessing: images from {low:.3g} to {high:.3g}; expected 0 to 255 ({told}?)"
    warnings.warn(message, stacklevel=_stacklevel())


def _stacklevel() -> int:
    """The `stacklevel`, seen from the caller, of the first frame that is neither Keras' nor reszoo's."""
    frame, level = sys._getframe(1), 1
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in ("keras", "reszoo"):
        frame, level = frame.f_back, level + 1
    return level
