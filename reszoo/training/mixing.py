"""MixUp and CutMix for a batch in memory. NumPy's generator decides, so that a batch is the same on every backend.

Keras' layers draw from a generator that the whole process shares on PyTorch: threads that prepare batches would take
numbers from each other.
"""

from __future__ import annotations

import numpy as np

from reszoo.types import Array

Batch = tuple[Array, Array]


def mix(random: np.random.Generator, x: Array, labels: Array, *, mixup: float, cutmix: float) -> Batch:
    """Returns a batch mixed by MixUp or CutMix; where both are in use, by one of them at random.

    Args:
        random: the generator of this batch.
        x: images or rows.
        labels: a row for each example.
        mixup: parameter of the beta distribution of the weights; 0 disables it.
        cutmix: parameter of the beta distribution of the areas; 0 disables it.
    """
    methods = [method for method, value in ((_mixup, mixup), (_cutmix, cutmix)) if value]
    if not methods:
        return x, labels
    method = methods[random.integers(len(methods))]
    return method(random, x, labels, mixup if method is _mixup else cutmix)


def _mixup(random: np.random.Generator, x: Array, labels: Array, alpha: float) -> Batch:
    """Weighted means of pairs of examples (Zhang 2018)."""
    others = random.permutation(len(x))
    weight = random.beta(alpha, alpha, len(x)).astype("float32")
    mixed = _blend(x, x[others], weight), _blend(labels, labels[others], weight)
    return mixed


def _cutmix(random: np.random.Generator, x: Array, labels: Array, alpha: float) -> Batch:
    """Images with a rectangle of another one, and labels in proportion to the areas (Yun 2019)."""
    if x.ndim != 4:
        return _mixup(random, x, labels, alpha)
    count, height, width = x.shape[:3]
    others, side = random.permutation(count), np.sqrt(1 - random.beta(alpha, alpha, count))
    center_y, center_x = random.random(count), random.random(count)

    def inside(center: Array, pixels: int) -> Array:
        low, high = np.round(np.clip([center - side / 2, center + side / 2], 0, 1) * pixels)
        positions = np.arange(pixels)
        within: Array = (positions >= low[:, None]) & (positions < high[:, None])
        return within

    mask = inside(center_y, height)[:, :, None] & inside(center_x, width)[:, None, :]
    weight = 1 - mask.mean(axis=(1, 2)).astype("float32")
    return np.where(mask[..., None], x[others], x), _blend(labels, labels[others], weight)


def _blend(one: Array, other: Array, weight: Array) -> Array:
    column = weight.reshape(-1, *[1] * (one.ndim - 1))
    blended: Array = column * one + (1 - column) * other
    return blended
