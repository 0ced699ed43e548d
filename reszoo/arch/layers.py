"""Stock Keras parts with one method replaced, which are saved as the stock parts they stand for.

A file that holds them opens in plain Keras, where the stock part takes over: reszoo need not be installed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import keras
from keras import ops

Kind = TypeVar("Kind", bound=type)


def saved_as(module: str, name: str) -> Callable[[Kind], Kind]:
    """Makes Keras serialise a subclass under the public name of the stock class it extends."""

    def rename(kind: Kind) -> Kind:
        kind.__module__ = module
        kind.__name__ = kind.__qualname__ = name
        return kind

    return rename


@saved_as("keras.layers", "BatchNormalization")
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """keras.layers.BatchNormalization on TensorFlow's fused operation; on other backends, the stock layer.

    The stock layer computes moments and the affine map as separate operations, always in float32. The fused one reads
    and writes half precision directly. Both give the same numbers: forward, gradients, moving statistics.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        axis = self.axis % len(inputs.shape)
        fusible = (len(inputs.shape) == 4 and axis in (1, 3)) or (len(inputs.shape) == 2 and axis == 1)
        half_or_single = keras.backend.standardize_dtype(inputs.dtype) in ("float32", "bfloat16", "float16")
        # Batch renormalisation is younger than the oldest Keras that reszoo runs on.
        special = mask is not None or self.synchronized or getattr(self, "renorm", False)
        if special or not (fusible and half_or_single):
            return super().call(inputs, training=training, mask=mask)
        return self._fused(
            inputs, learning=bool(training and self.trainable), channels_first=len(inputs.shape) == 4 and axis == 1
        )

    def _fused(self, inputs: Any, *, learning: bool, channels_first: bool) -> Any:
        import tensorflow as tf

        width = inputs.shape[1 if channels_first else -1]
        # Dense activations are images of one pixel.
        image = tf.reshape(inputs, (-1, 1, 1, width)) if len(inputs.shape) == 2 else inputs
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=image,
            scale=self.gamma if self.scale else tf.ones((width,)),
            offset=self.beta if self.center else tf.zeros((width,)),
            mean=tf.zeros((0,)) if learning else self.moving_mean,
            variance=tf.zeros((0,)) if learning else self.moving_variance,
            epsilon=self.epsilon,
            data_format="NCHW" if channels_first else "NHWC",
            is_training=learning,
        )
        if learning:
            # The fused operation gives the unbiased variance; Keras keeps the biased one.
            variance -= variance * width / tf.cast(tf.size(image), variance.dtype)
            self.moving_mean.assign(self.moving_mean * self.momentum + mean * (1.0 - self.momentum))
            self.moving_variance.assign(self.moving_variance * self.momentum + variance * (1.0 - self.momentum))
        outputs = tf.reshape(outputs, (-1, width)) if len(inputs.shape) == 2 else outputs
        return ops.cast(outputs, self.compute_dtype)


def batch_normalization(**settings: Any) -> keras.layers.BatchNormalization:
    """Returns a batch normalisation layer, the fastest of the current backend."""
    kind = FusedBatchNormalization if keras.backend.backend() == "tensorflow" else keras.layers.BatchNormalization
    return kind(**settings)


@saved_as("keras.initializers", "Orthogonal")
class LooksLinear(keras.initializers.Orthogonal):
    """Kernels with which a network of rectifiers computes a linear, orthogonal map at first (Balduzzi et al. 2017, 4).

    Features come in pairs (z, -z): after a rectifier the difference of a pair is z again. With Q orthogonal, a kernel
    that reads pairs is [[Q, -Q], [-Q, Q]]; one that reads the network's input is [Q, -Q]. Saved as Orthogonal of the
    same gain.
    """

    def __init__(self, gain: float = 1.0, seed: int | None = None, paired_input: bool = True):
        super().__init__(gain=gain, seed=seed)
        self._paired_input = paired_input

    def clone(self) -> LooksLinear:
        return LooksLinear(self.gain, self.seed, self._paired_input)

    def __call__(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        *window, fan_in, width = shape
        if width == 1 or (self._paired_input and fan_in == 1):
            return super().__call__(shape, dtype=dtype)
        half_in, half_out = (fan_in // 2 if self._paired_input else fan_in), width // 2
        q = super().__call__((*window, half_in, half_out), dtype=dtype)
        kernel = ops.concatenate([q, -q], axis=-1)
        if self._paired_input:
            kernel = ops.concatenate([kernel, -kernel], axis=-2)
        # Odd widths leave a feature without a partner: it starts silent.
        odd = [(0, 0)] * len(window) + [(0, fan_in - kernel.shape[-2]), (0, width - kernel.shape[-1])]
        return ops.pad(kernel, odd)
