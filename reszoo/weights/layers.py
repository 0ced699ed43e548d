"""Preprocessing as stock Keras layers."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from reszoo.weights.catalogue import Preprocessing
from reszoo.weights.preprocessing import warn_of_range


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
