"""Builds preprocessing from stock Keras layers."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import keras
import numpy as np

from reszoo.types import Array, KerasModel, Tensor
from reszoo.weights.catalogue import Preprocessing


def with_range_check(model: KerasModel) -> KerasModel:
    """Makes this object check the range of its inputs; its saved and copied versions are stock models without it."""
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
    return keras.ops.is_tensor(value) and hasattr(value, "numpy") and not hasattr(value, "graph")


def preprocess(of: Preprocessing, resize: int, crop: int, then: KerasModel | None = None, *, name: str) -> KerasModel:
    """Returns resize, crop, scale and normalization as a model, followed by the model `then` if there is one."""
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
