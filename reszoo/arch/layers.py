"""Stock Keras parts that compute faster, or begin otherwise, than Keras has them.

To Keras, pickle and whoever asks for their class they are the stock parts: a file that holds them opens in plain Keras,
where the stock part takes over, and reszoo need not be installed. A copy, a clone and a loaded layer is all stock.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import keras
from keras import ops


def batch_normalization(**settings: Any) -> keras.layers.BatchNormalization:
    """Returns a batch normalisation layer, the fastest of the current backend.

    It is Keras' own layer. On TensorFlow this one object calls the fused operation, which reads and writes half
    precision directly, where the class computes moments and the affine map as separate operations in float32. Both give
    the same numbers: forward, gradients, moving statistics.
    """
    layer = keras.layers.BatchNormalization(**settings)
    if keras.backend.backend() == "tensorflow":
        layer.call = MethodType(_fused_or_stock, layer)
    return layer


def _fused_or_stock(layer: Any, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
    """The layer's `call`: the fused operation where it computes what the layer's settings ask for."""
    if mask is not None or not _is_fusible(layer, inputs):
        return type(layer).call(layer, inputs, training=training, mask=mask)
    return _fused(layer, inputs, learning=bool(training and layer.trainable))


def _is_fusible(layer: Any, inputs: Any) -> bool:
    axis, rank = layer.axis % len(inputs.shape), len(inputs.shape)
    # Batch renormalisation is younger than the oldest Keras that reszoo runs on.
    if layer.synchronized or getattr(layer, "renorm", False):
        return False
    if not (axis == rank - 1 and rank in (2, 4)) and not (axis == 1 and rank == 4 and _has_gpu()):
        return False
    # It takes images in half precision, but scale, offset and statistics in float32 alone.
    variables = {keras.backend.standardize_dtype(variable.dtype) for variable in layer.weights}
    return variables == {"float32"} and keras.backend.standardize_dtype(inputs.dtype) in _IMAGES


_IMAGES = ("float32", "bfloat16", "float16")
"""Types of the images that the fused operation takes."""


def _has_gpu() -> bool:
    """Whether TensorFlow has a GPU: on the CPU its fused operation takes channels last only."""
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


def _fused(layer: Any, inputs: Any, *, learning: bool) -> Any:
    import tensorflow as tf

    rank, width = len(inputs.shape), inputs.shape[layer.axis]
    # Dense activations are images of one pixel.
    image = tf.reshape(inputs, (-1, 1, 1, width)) if rank == 2 else inputs
    outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=image,
        scale=layer.gamma if layer.scale else tf.ones((width,)),
        offset=layer.beta if layer.center else tf.zeros((width,)),
        mean=tf.zeros((0,)) if learning else layer.moving_mean,
        variance=tf.zeros((0,)) if learning else layer.moving_variance,
        epsilon=layer.epsilon,
        data_format="NHWC" if layer.axis % rank == rank - 1 else "NCHW",
        is_training=learning,
    )
    if learning:
        # The fused operation gives the unbiased variance; Keras keeps the biased one.
        variance -= variance * width / tf.cast(tf.size(image), variance.dtype)
        layer.moving_mean.assign(layer.moving_mean * layer.momentum + mean * (1.0 - layer.momentum))
        layer.moving_variance.assign(layer.moving_variance * layer.momentum + variance * (1.0 - layer.momentum))
    outputs = tf.reshape(outputs, (-1, width)) if rank == 2 else outputs
    return ops.cast(outputs, layer.compute_dtype)


class LooksLinear(keras.initializers.Orthogonal):
    """Kernels with which a network of rectifiers computes a linear, orthogonal map at first (Balduzzi et al. 2017, 4).

    Features come in pairs (z, -z): after a rectifier the difference of a pair is z again. With Q orthogonal, a kernel
    that reads pairs is [[Q, -Q], [-Q, Q]]; one that reads the network's input is [Q, -Q]. Saved as Orthogonal of the
    same gain.
    """

    # Keras asks an object for its `__class__` when it writes it down; pickle asks `type()`, which is the real one.
    __class__ = property(lambda self: keras.initializers.Orthogonal)

    def __init__(self, gain: float = 1.0, seed: int | None = None, paired_input: bool = True):
        super().__init__(gain=gain, seed=seed)
        self._paired_input = paired_input

    def __reduce__(self) -> tuple[Any, ...]:
        return LooksLinear, (), vars(self)

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
