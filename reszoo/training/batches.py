"""Batches for `fit()`: each depends on seed, epoch and index only, so that a resumed run sees the same batches."""

from __future__ import annotations

import threading

import keras
import numpy as np

from reszoo.data.sources import Examples, Scaling
from reszoo.training.devices import ONE, Devices
from reszoo.training.recipes import Augmentation
from reszoo.types import Array, KerasLayer


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
    ):
        # On several devices TensorFlow keeps reading from an iterator that fit() has dropped; with more than one worker
        # on one queue it would take the first batches of the next iterator.
        mirrored = devices.count > 1 and keras.backend.backend() == "tensorflow"
        super().__init__(workers=1 if mirrored else 2, max_queue_size=8)
        self._examples, self._scaling, self._classes, self._batch = examples, scaling, classes, batch
        self._seed, self.epoch, self._devices = seed, epoch, devices
        remainder, padding = len(examples) % devices.count, -len(examples) % devices.count
        self._rows = len(examples) + (padding if seed is None else -remainder)
        self._augmentation = augmentation or Augmentation()
        self._layers = _augmentation_layers(self._augmentation, scaling)
        self._layers_lock = threading.Lock()

    def __len__(self) -> int:
        return -(-self._rows // self._batch)

    def on_epoch_end(self) -> None:
        self.epoch += 1

    def __getitem__(self, index: int) -> tuple[Array, ...]:
        indices = self._order()[index * self._batch : (index + 1) * self._batch]
        local = self._devices.rows(len(indices))
        if self._seed is None:
            return self._in_order(indices[local])
        random, augmentation = np.random.default_rng([self._seed, self.epoch, index]), self._augmentation
        boxes = _random_crops(random, len(indices), augmentation.crop) if augmentation.crop else None
        shifts = random.integers(0, 2 * augmentation.shift + 1, (2, len(indices))) if augmentation.shift else None
        flips = random.random(len(indices)) < 0.5 if augmentation.flip else None
        # Keras' augmentation layers mix the rows of a batch and draw random numbers for the batch as a whole.
        rows = slice(None) if self._layers else local
        x = np.asarray(self._examples.take(indices[rows], None if boxes is None else boxes[rows]), "float32")
        labels = self._one_hot(indices[rows])
        if shifts is not None:
            x = _shift(x, shifts[:, rows], augmentation.shift)
        if flips is not None:
            x[flips[rows]] = x[flips[rows], :, ::-1]
        if self._layers:
            x, labels = (array[local] for array in self._apply_layers(random, x, labels))
        return self._scaling(x), labels

    def _in_order(self, indices: Array) -> tuple[Array, ...]:
        """Examples without augmentation; with several devices also sample weights, whose mean over all rows is 1."""
        count = len(self._examples)
        valid = np.minimum(indices, count - 1)
        x, labels = self._scaling(self._examples.take(valid)), self._one_hot(valid)
        if self._devices.count == 1:
            return x, labels
        return x, labels, np.where(indices < count, self._rows / count, 0).astype("float32")

    def _one_hot(self, indices: Array) -> Array:
        return np.eye(self._classes, dtype="float32")[self._examples.labels[indices]]

    def _order(self) -> Array:
        if self._seed is None:
            return np.arange(self._rows)
        return np.random.default_rng([self._seed, self.epoch]).permutation(len(self._examples))[: self._rows]

    def _apply_layers(self, random: np.random.Generator, x: Array, labels: Array) -> tuple[Array, Array]:
        """Keras' augmentation layers, with their generators seeded for this batch."""
        mixing = [layer for layer in self._layers if isinstance(layer, (keras.layers.MixUp, keras.layers.CutMix))]
        others = [layer for layer in self._layers if layer not in mixing]
        selected = [mixing[random.integers(len(mixing))]] if mixing else []
        batch = {"images": x, "labels": labels}
        with self._layers_lock:
            for layer in (*others, *selected):
                reseed(layer, random)
                batch = layer(batch, training=True)
        return keras.ops.convert_to_numpy(batch["images"]), keras.ops.convert_to_numpy(batch["labels"])


def reseed(layer: KerasLayer, random: np.random.Generator) -> None:
    """Seeds the random generators of a layer and of its sublayers."""
    for attribute in vars(layer).values():
        if isinstance(attribute, keras.random.SeedGenerator):
            attribute.state.assign(random.integers(0, 2**31, 2).astype("uint32"))
        elif isinstance(attribute, keras.layers.Layer):
            reseed(attribute, random)


def _augmentation_layers(augmentation: Augmentation, scaling: Scaling) -> list[KerasLayer]:
    layers, value_range = [], (0, scaling.scale)
    if augmentation.rand_augment:
        layers.append(keras.layers.RandAugment(value_range=value_range, factor=augmentation.rand_augment))
    if augmentation.erase:
        factor = (augmentation.erase, augmentation.erase)
        layers.append(keras.layers.RandomErasing(factor=factor, value_range=value_range))
    if augmentation.mixup:
        layers.append(keras.layers.MixUp(alpha=augmentation.mixup))
    if augmentation.cutmix:
        layers.append(keras.layers.CutMix(factor=augmentation.cutmix))
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
