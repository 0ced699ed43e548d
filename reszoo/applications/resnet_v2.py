"""ResNet50V2, ResNet101V2 and ResNet152V2 as in `keras.applications.resnet_v2`, built by Keras.

They stride in the last block of a stage, behind a maximum pooling of the shortcut, and some of their convolutions have
a bias; the paper's pre-activation networks are `reszoo.preact_resnet50`, ...
"""

from __future__ import annotations

from typing import Any

from reszoo.applications.imagenet import Application, application, decode_predictions
from reszoo.errors import ReszooError
from reszoo.types import KerasModel, Tensor
from reszoo.weights.download import keras_home

__all__ = ["ResNet50V2", "ResNet101V2", "ResNet152V2", "decode_predictions", "preprocess_input"]


def _application(title: str) -> Application:
    def build(**arguments: Any) -> KerasModel:
        import keras

        try:
            return getattr(keras.applications, title)(**arguments)
        except Exception as error:
            if "URL fetch failure" not in str(error):
                raise
            hint = f"a machine with internet writes the file to {keras_home() / 'models'}; copy it there"
            got = f"no connection ({' '.join(str(error).split())})"
            raise ReszooError(f"{title}.weights", got=got, expected="a download of Keras' file", hint=hint) from None

    return application(title, "the network that Keras builds", build)


ResNet50V2 = _application("ResNet50V2")
ResNet101V2 = _application("ResNet101V2")
ResNet152V2 = _application("ResNet152V2")


def preprocess_input(x: Tensor, data_format: str | None = None) -> Tensor:
    """Returns images from 0 to 255 as these networks take them, by Keras' own function: from -1 to 1.

    Args:
        x: one image or several, RGB; an array of floats is changed in place, as by Keras.
        data_format: `channels_first` or `channels_last`; by default Keras' setting.
    """
    import keras

    return keras.applications.resnet_v2.preprocess_input(x, data_format=data_format)
