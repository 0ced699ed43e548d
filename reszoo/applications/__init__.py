"""The ResNets of `keras.applications` under their own names: only the import line changes.

`from reszoo.applications import ResNet50` and `from reszoo.applications.resnet50 import preprocess_input`: the
arguments, their defaults and the outputs are those of `keras.applications.resnet` and `resnet_v2`. What is built is a
network of the zoo, so that layers have the zoo's names (`stage4_block3_out`, not `conv5_block3_out`), and everything of
the package works on it. The networks of version 2 are Keras' own: they stride in the last block of a stage, as no
network of the zoo does.
"""

from reszoo.applications import resnet, resnet50, resnet_v2
from reszoo.applications.resnet import ResNet50, ResNet101, ResNet152
from reszoo.applications.resnet_v2 import ResNet50V2, ResNet101V2, ResNet152V2

__all__ = [
    "ResNet50",
    "ResNet50V2",
    "ResNet101",
    "ResNet101V2",
    "ResNet152",
    "ResNet152V2",
    "resnet",
    "resnet50",
    "resnet_v2",
]
