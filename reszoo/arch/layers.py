"""A faster batch norm and convolution, activations and an additional initializer, all saved as the stock Keras classes.

To Keras, to pickle and in `type()` they are the stock classes: saved files open in plain Keras without reszoo and then
use the stock implementation. Copies, clones and loaded layers are stock layers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import sqrt
from types import MethodType
from typing import Any

import keras
from keras import initializers, ops

from reszoo.arch.ops import Op
from reszoo.types import KerasLayer, Tensor


def batch_normalization(**settings: Any) -> keras.layers.BatchNormalization:
    """Returns a Keras batch normalization layer, the fastest for the current backend.

    On TensorFlow this object calls the fused operation, which reads and writes half precision directly; the stock class
    computes moments and the affine map as separate operations in float32. Outputs, gradients and moving statistics are
    the same.

    Args:
        **settings: as for `keras.layers.BatchNormalization`.
    """
    layer = keras.layers.BatchNormalization(**settings)
    if keras.backend.backend() == "tensorflow":
        layer.call = MethodType(_call_fused_or_stock, layer)
    return layer


def initializer(op: Op) -> str | initializers.Initializer:
    """Returns the initializer of an operation's kernel, or of the scale of its norm."""
    if op.init == "looks_linear":
        # Without a rectifier the difference of a pair is twice its value.
        return LooksLinear(gain=0.5 if op.input_sign == "signed" else 1.0, paired_input=op.input_sign != "raw")
    if op.init == "orthogonal":
        return initializers.Orthogonal(gain=sqrt(2.0) * (1.0 if op.gain is None else op.gain))
    if op.gain is not None:
        if op.init == "one":
            return initializers.Constant(op.gain)
        scale, mode = {"he": (2.0, "fan_in"), "glorot": (1.0, "fan_avg")}[op.init]
        return initializers.VarianceScaling(scale * op.gain**2, mode, "uniform")
    # He's variance, drawn uniformly: normal draws would take a fifth of the time of building ResNet-50.
    return {"he": "he_uniform", "glorot": "glorot_uniform", "zero": "zeros", "one": "ones"}[op.init]


def activation(kind: str, slope: float = 0.0, *, name: str) -> keras.layers.Layer:
    """Returns the stock layer of an activation; a slope is that of a leaky one."""
    return keras.layers.LeakyReLU(slope, name=name) if slope else keras.layers.Activation(kind, name=name)


def _call_fused_or_stock(layer: Any, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
    """The `call` of the layer: the fused operation where it supports the settings, else the stock implementation."""
    if mask is not None or not _is_fusible(layer, inputs):
        return type(layer).call(layer, inputs, training=training, mask=mask)
    return _fused_norm(layer, inputs, learning=bool(training and layer.trainable))


def _is_fusible(layer: Any, inputs: Any) -> bool:
    rank = len(inputs.shape)
    axis = layer.axis % rank
    # The oldest supported Keras has no batch renormalization.
    if layer.synchronized or getattr(layer, "renorm", False):
        return False
    if not (axis == rank - 1 and rank in (2, 4)) and not (axis == 1 and rank == 4 and _has_gpu()):
        return False
    # Images may be in half precision; scale, offset and statistics must be in float32.
    variables = {keras.backend.standardize_dtype(variable.dtype) for variable in layer.weights}
    return variables == {"float32"} and keras.backend.standardize_dtype(inputs.dtype) in _IMAGES


_IMAGES = ("float32", "bfloat16", "float16")
"""Image types that the fused operation supports."""


def _has_gpu() -> bool:
    """Whether TensorFlow has a GPU: on the CPU its fused operation supports only channels last."""
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


def _fused_norm(layer: Any, inputs: Any, *, learning: bool) -> Any:
    import tensorflow as tf

    rank, width = len(inputs.shape), inputs.shape[layer.axis]
    # Dense activations are treated as images of one pixel.
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
        # The fused operation returns the unbiased variance; Keras averages the biased one.
        variance -= variance * width / tf.cast(tf.size(image), variance.dtype)
        layer.moving_mean.assign(layer.moving_mean * layer.momentum + mean * (1.0 - layer.momentum))
        layer.moving_variance.assign(layer.moving_variance * layer.momentum + variance * (1.0 - layer.momentum))
    outputs = tf.reshape(outputs, (-1, width)) if rank == 2 else outputs
    return ops.cast(outputs, layer.compute_dtype)


class LooksLinear(keras.initializers.Orthogonal):
    """Kernels that make a ReLU network compute a linear, orthogonal map at the start (Balduzzi et al. 2017, section 4).

    Features come in pairs (z, -z): after a rectifier the difference of a pair is z again. With Q orthogonal, a kernel
    that reads pairs is [[Q, -Q], [-Q, Q]]; one that reads the input of the network is [Q, -Q]. Saved as Orthogonal of
    the same gain.

    Args:
        gain: factor on Q.
        seed: random seed.
        paired_input: whether the input features come in pairs.
    """

    # Keras serializes the `__class__` of an object; pickle uses `type()`, which is this class.
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
        # With an odd width one feature has no partner: it starts at zero.
        odd = [(0, 0)] * len(window) + [(0, fan_in - kernel.shape[-2]), (0, width - kernel.shape[-1])]
        return ops.pad(kernel, odd)


Pairs = tuple[tuple[int, int], ...]


def quicken(layer: KerasLayer) -> None:
    """Gives a Conv2D layer gradients that are fast in a loop, on JAX without an accelerator.

    The layer stays the stock class, with the same outputs; saved files, copies and clones are stock layers. Other
    layers, strided and grouped convolutions, and channels first stay as they are.
    """
    if keras.backend.backend() != "jax" or not isinstance(layer, keras.layers.Conv2D):
        return
    import jax

    is_plain = layer.groups == 1 and max(layer.strides) == 1 and layer.data_format == "channels_last"
    if not is_plain or jax.default_backend() != "cpu":
        return
    convolution = _convolution()
    reach = [dilation * (size - 1) for size, dilation in zip(layer.kernel_size, layer.dilation_rate, strict=True)]
    padding = tuple((n // 2, n - n // 2) if layer.padding == "same" else (0, 0) for n in reach)

    def convolution_op(inputs: Tensor, kernel: Any) -> Tensor:
        kernel = keras.ops.convert_to_tensor(kernel)
        return convolution(keras.ops.cast(inputs, kernel.dtype), kernel, padding, tuple(layer.dilation_rate))

    layer.convolution_op = convolution_op


@cache
def _convolution() -> Callable[[Tensor, Tensor, Pairs, tuple[int, ...]], Tensor]:
    """The convolution of images (NHWC) with a kernel (HWIO), of stride 1, whose gradients have channels last as well.

    The gradients that JAX derives are convolutions with exchanged axes. In the body of a `while`, XLA runs these 10 to
    20 times slower than outside of one on the CPU (https://github.com/jax-ml/jax/issues/12868).
    """
    import jax
    from jax import lax, numpy

    barrier: Callable[[Any], Any] = lax.optimization_barrier

    def forward(x: Tensor, kernel: Tensor, padding: Pairs, dilation: tuple[int, ...]) -> Tensor:
        return convolve(x, kernel, padding, (1, 1), dilation)

    def convolve(x: Tensor, kernel: Tensor, padding: Pairs, strides: Any, dilation: Any) -> Tensor:
        axes = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(x, kernel, strides, padding, rhs_dilation=dilation, dimension_numbers=axes)

    def backward(padding: Pairs, dilation: tuple[int, ...], saved: tuple[Tensor, Tensor], dy: Tensor) -> Any:
        x, kernel = saved
        reach = [d * (size - 1) for size, d in zip(kernel.shape, dilation, strict=False)]
        opposite = tuple((n - before, n - after) for n, (before, after) in zip(reach, padding, strict=True))
        # Without the barriers XLA folds the transpositions into the convolutions, which then have exchanged axes again.
        turned = barrier(numpy.flip(kernel, (0, 1)).swapaxes(2, 3))
        dx = convolve(dy, turned, opposite, (1, 1), dilation)
        if max(kernel.shape[:2]) == 1:
            return dx, (x.reshape(-1, x.shape[-1]).T @ dy.reshape(-1, dy.shape[-1]))[None, None]
        images, window = barrier((x.transpose(3, 1, 2, 0), dy.transpose(1, 2, 0, 3)))
        return dx, barrier(convolve(images, window, padding, dilation, (1, 1))).transpose(1, 2, 0, 3)

    convolution = jax.custom_vjp(forward, nondiff_argnums=(2, 3))
    convolution.defvjp(lambda x, kernel, *settings: (forward(x, kernel, *settings), (x, kernel)), backward)
    return convolution
