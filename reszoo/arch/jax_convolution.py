"""A convolution whose gradients are fast inside a loop of JAX on the CPU.

The gradients that JAX derives are convolutions with exchanged axes. In the body of a `while`, XLA runs these 10 to 20
times slower than outside of one on the CPU (https://github.com/jax-ml/jax/issues/12868). Here both gradients are
convolutions with channels last, as the convolution itself.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from reszoo.types import KerasLayer, Tensor

Pairs = tuple[tuple[int, int], ...]


def quicken(layer: KerasLayer) -> None:
    """Gives a Conv2D layer gradients that are fast in a loop, on JAX without an accelerator.

    The layer stays the stock class, with the same outputs; saved files, copies and clones are stock layers. Other
    layers, strided and grouped convolutions, and channels first stay as they are.
    """
    import keras

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
    """The convolution of images (NHWC) with a kernel (HWIO), of stride 1."""
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
