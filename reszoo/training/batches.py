"""Batches for `fit()`: each depends on seed, epoch and index only, so that a resumed run sees the same batches."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import keras
import numpy as np

from reszoo.data.sources import Examples, Scaling
from reszoo.training.devices import ONE, Devices
from reszoo.training.losses import Targets
from reszoo.training.recipes import Augmentation
from reszoo.types import Array, KerasLayer

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


MIN_LAST = 8
"""Examples below which the last training batch of an epoch is left out: the statistics of batch normalization would
follow these few (Wu & He 2018, Fig. 1)."""
WORKERS, DEPTH = 2, 8
"""Threads that prepare batches, and batches prepared ahead."""


class Ahead:
    """Prepares batches in threads before they are asked for.

    A batch belongs to an epoch and an index, and nothing else determines which one is returned: Keras' own queue hands
    batches that were left over from one pass to the next one.

    Args:
        prepare: returns the batch of an epoch and an index; called in several threads.
        length: batches of an epoch.
    """

    def __init__(self, prepare: Callable[[int, int], tuple[Array, ...]], length: int):
        self._prepare, self._length = prepare, length
        self._pool = ThreadPoolExecutor(WORKERS, "reszoo-batches")
        self._lock = threading.Lock()
        self._futures: dict[tuple[int, int], Future[tuple[Array, ...]]] = {}

    def take(self, epoch: int, index: int) -> tuple[Array, ...]:
        """Returns a batch, and prepares those after it."""
        window = [(epoch, each) for each in range(index, min(index + DEPTH, self._length))]
        with self._lock:
            for key in [key for key in self._futures if key not in window]:
                self._futures.pop(key).cancel()
            for key in window:
                if key not in self._futures:
                    self._futures[key] = self._pool.submit(self._prepare, *key)
            future = self._futures.pop((epoch, index))
        return future.result()


class Batches(keras.utils.PyDataset):
    """Examples in batches: shuffled and augmented differently in every epoch, or in order.

    With several machines each one gets its rows of the same batches. If the number of examples is not a multiple of
    the number of devices, a training epoch drops the last few of its order: padding rows would count in the statistics
    of batch normalization. In order, no example is dropped: the last batch is padded with rows of weight zero.

    Args:
        examples: to take batches from.
        scaling: applied to every batch.
        classes: number of columns of the one-hot labels.
        batch: rows per batch.
        seed: of order and augmentation; None keeps the examples in order, without augmentation.
        augmentation: of training images.
        epoch: the first epoch, counted from 0.
        devices: that share every batch.
        targets: what the labels become; by default one-hot rows.
        class_weights: weight of the examples of every class, in the order of the columns; training only.
        white: pixel value of white; by default that of the scaling.
    """

    def __init__(
        self,
        examples: Examples,
        scaling: Scaling,
        classes: int,
        *,
        batch: int,
        seed: int | None = None,
        augmentation: Augmentation | None = None,
        epoch: int = 0,
        devices: Devices = ONE,
        targets: Targets | None = None,
        class_weights: Array | None = None,
        white: float | None = None,
    ):
        # One worker: this class prepares batches ahead itself (`Ahead`).
        super().__init__(workers=1)
        self._examples, self._scaling, self._batch = examples, scaling, batch
        self._targets = targets or Targets("classification", classes)
        self._class_weights = class_weights
        self._weights: Array | None = getattr(examples, "weights", None)
        self._seed, self.epoch, self._devices = seed, epoch, devices
        remainder, padding = len(examples) % devices.count, -len(examples) % devices.count
        self._rows = len(examples) + (padding if seed is None else -remainder)
        last = self._rows % batch
        if seed is not None and self._rows > batch and 0 < last < MIN_LAST:
            self._rows -= last
        self._augmentation = augmentation or Augmentation()
        self._layers = _augmentation_layers(self._augmentation, white or scaling.scale)
        self._layers_lock = threading.Lock()
        self._ahead = Ahead(self.batch, len(self))

    def __len__(self) -> int:
        return -(-self._rows // self._batch)

    def on_epoch_end(self) -> None:
        self.epoch += 1

    def __getitem__(self, index: int) -> tuple[Array, ...]:
        return self._ahead.take(self.epoch, index)

    def batch(self, epoch: int, index: int) -> tuple[Array, ...]:
        """Returns a batch of an epoch: inputs, labels and, where there are any, weights of the rows."""
        indices = self._order(epoch)[index * self._batch : (index + 1) * self._batch]
        local = self._devices.rows(len(indices))
        if self._seed is None:
            return self._in_order(indices[local])
        random, augmentation = np.random.default_rng([self._seed, epoch, index]), self._augmentation
        boxes = _random_crops(random, len(indices), augmentation.crop) if augmentation.crop else None
        shifts = random.integers(0, 2 * augmentation.shift + 1, (2, len(indices))) if augmentation.shift else None
        flips = random.random(len(indices)) < 0.5 if augmentation.flip else None
        # Mixing needs all rows of a batch, and Keras' layers draw random numbers for the batch as a whole.
        whole = bool(self._layers or augmentation.mixup or augmentation.cutmix)
        rows = slice(None) if whole else local
        weights = None if self._weights is None else self._weights[indices[rows]]
        x = np.asarray(self._examples.take(indices[rows], None if boxes is None else boxes[rows]), "float32")
        labels = self._targets(self._examples.labels[indices[rows]])
        if shifts is not None:
            x = _shift(x, shifts[:, rows], augmentation.shift)
        if flips is not None:
            x[flips[rows]] = x[flips[rows], :, ::-1]
        if self._layers:
            x = self._apply_layers(random, x)
        if weights is not None:
            # Mixed like the labels, in a column beside them.
            labels = np.concatenate([labels, weights[:, None]], axis=1)
        x, labels = mix(random, x, labels, mixup=augmentation.mixup, cutmix=augmentation.cutmix)
        if weights is not None:
            labels, weights = labels[:, :-1], labels[:, -1]
        if self._class_weights is not None:
            by_class = labels @ self._class_weights
            weights = by_class if weights is None else by_class * weights
        if whole:
            x, labels = x[local], labels[local]
            weights = None if weights is None else weights[local]
        return (self._scaling(x), labels) + (() if weights is None else (weights.astype("float32"),))

    def _in_order(self, indices: Array) -> tuple[Array, ...]:
        """Examples without augmentation; with several devices also sample weights, whose mean over all rows is 1."""
        count = len(self._examples)
        valid = np.minimum(indices, count - 1)
        x, labels = self._scaling(self._examples.take(valid)), self._targets(self._examples.labels[valid])
        if self._devices.count == 1:
            return (x, labels) if self._weights is None else (x, labels, self._weights[valid])
        return x, labels, np.where(indices < count, self._rows / count, 0).astype("float32")

    def _order(self, epoch: int) -> Array:
        if self._seed is None:
            return np.arange(self._rows)
        return np.random.default_rng([self._seed, epoch]).permutation(len(self._examples))[: self._rows]

    def _apply_layers(self, random: np.random.Generator, x: Array) -> Array:
        """Keras' augmentation layers, with their generators seeded for this batch."""
        images: Any = x
        with self._layers_lock:
            for layer in self._layers:
                reseed(layer, random)
                images = layer(images, training=True)
        return np.asarray(keras.ops.convert_to_numpy(images))


def reseed(layer: KerasLayer, random: np.random.Generator) -> None:
    """Seeds the random generators of a layer and of its sublayers."""
    for attribute in vars(layer).values():
        if isinstance(attribute, keras.random.SeedGenerator):
            attribute.state.assign(random.integers(0, 2**31, 2).astype("uint32"))
        elif isinstance(attribute, keras.layers.Layer):
            reseed(attribute, random)


def _augmentation_layers(augmentation: Augmentation, white: float) -> list[KerasLayer]:
    layers, value_range = [], (0, white)
    if augmentation.rand_augment:
        layers.append(keras.layers.RandAugment(value_range=value_range, factor=augmentation.rand_augment))
    if augmentation.erase:
        factor = (augmentation.erase, augmentation.erase)
        layers.append(keras.layers.RandomErasing(factor=factor, value_range=value_range))
    return layers


def _shift(x: Array, offsets: Array, limit: int) -> Array:
    """Images shifted by `offsets - limit` pixels (down, right), filled with zeros."""
    count, height, width = x.shape[:3]
    padded = np.pad(x, ((0, 0), (limit, limit), (limit, limit), (0, 0)))
    down, right = offsets
    rows, columns = down[:, None] + np.arange(height), right[:, None] + np.arange(width)
    result: Array = padded[np.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]
    return result


def _random_crops(random: np.random.Generator, count: int, limits: tuple[float, ...]) -> Array:
    """Crops as fractions of the sides, of random area and an aspect ratio from 3/4 to 4/3."""
    area = random.uniform(limits[0], limits[1], count)
    ratio = np.exp(random.uniform(np.log(3 / 4), np.log(4 / 3), count))
    width, height = np.minimum(np.sqrt(area * ratio), 1), np.minimum(np.sqrt(area / ratio), 1)
    left, top = random.random(count) * (1 - width), random.random(count) * (1 - height)
    return np.stack([left, top, left + width, top + height], axis=1)
