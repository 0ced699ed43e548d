"""ResNet50, ResNet101 and ResNet152 as in `keras.applications.resnet`."""

from __future__ import annotations

from typing import Any

from reszoo.applications.imagenet import CLASSES, Application, application, decode_predictions
from reszoo.models import create
from reszoo.types import KerasModel, Tensor

__all__ = ["ResNet50", "ResNet101", "ResNet152", "decode_predictions", "preprocess_input"]

KERAS_WEIGHTS = "keras_in1k"
"""The tag of the files of `keras.applications`: `preprocess_input` belongs to them."""
START: dict[str, Any] = {"init": "glorot", "block": {"start": "random"}}
"""Random weights as Keras draws them; the zoo's networks start otherwise."""


def _application(title: str) -> Application:
    network = f"{title.lower()}_v1"

    def build(weights: Any, classes: int, name: str, **arguments: Any) -> KerasModel:
        tag = f"{network}.{KERAS_WEIGHTS}" if weights == "imagenet" else weights
        # With as many classes as in the file, the file's classifier is loaded.
        width = None if classes == CLASSES else classes
        return create(network, weights=tag, classes=width, name=name, **arguments, **START)

    return application(title, f"`{network}` of the zoo, with the same outputs for the same weights", build)


ResNet50 = _application("ResNet50")
ResNet101 = _application("ResNet101")
ResNet152 = _application("ResNet152")


def preprocess_input(x: Tensor, data_format: str | None = None) -> Tensor:
    """Returns images from 0 to 255 as these networks take them, by Keras' own function: blue first, means subtracted.

    Args:
        x: one image or several, RGB; an array of floats is changed in place, as by Keras.
        data_format: `channels_first` or `channels_last`; by default Keras' setting.
    """
    import keras

    return keras.applications.resnet.preprocess_input(x, data_format=data_format)
