"""Preprocessing as stock Keras layers."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from reszoo.arch.stock import saved_as
from reszoo.weights.catalogue import Preprocessing
from reszoo.weights.preprocessing import warn_of_range


@saved_as("keras", "Sequential")
class Preprocess(keras.Sequential):
    """keras.Sequential that looks at the range of what it is called with; saved as the stock one."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if args and (isinstance(args[0], np.ndarray) or _is_eager(args[0])):
            warn_of_range(args[0])
        return super().__call__(*args, **kwargs)

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(x, np.ndarray):
            warn_of_range(x)
        return super().predict(x, *args, **kwargs)


def _is_eager(value: Any) -> bool:
    return keras.ops.is_tensor(value) and hasattr(value, "numpy") and not hasattr(value, "graph")


def layers(of: Preprocessing, resize: int, crop: int) -> list[Any]:
    """Returns resize, crop, scale and normalisation as layers."""
    # Cutting out the square and then resizing it is what resizing the shorter side and then cropping shows.
    shown = {"interpolation": of.interpolation, "crop_to_aspect_ratio": True, "antialias": True}
    made: list[Any] = [keras.layers.Resizing(resize, resize, data_format="channels_last", name="resize", **shown)]
    if crop != resize:
        made.append(keras.layers.CenterCrop(crop, crop, data_format="channels_last", name="crop"))
    variance = [value**2 for value in of.std]
    made.append(keras.layers.Rescaling(1 / of.scale, name="rescale"))
    made.append(keras.layers.Normalization(axis=-1, mean=[*of.mean], variance=variance, name="normalize"))
    if of.channels == "bgr":
        made.append(_Reverse(3, 1, use_bias=False, trainable=False, data_format="channels_last", name="rgb_to_bgr"))
        made[-1].build((None, crop, crop, 3))
        made[-1].kernel.assign(np.eye(3, dtype="float32")[::-1][None, None])
    if keras.config.image_data_format() == "channels_first":
        made.append(keras.layers.Permute((3, 1, 2), name="channels_first"))
    return made


_Reverse = keras.layers.Conv2D
"""No stock layer turns channels round; a 1x1 convolution with the reversed identity does, exactly."""
