"""ResNet50 as in `keras.applications.resnet50`."""

from reszoo.applications.resnet import ResNet50, decode_predictions, preprocess_input

__all__ = ["ResNet50", "decode_predictions", "preprocess_input"]
