"""Batches for `fit()`: what one holds depends on seed, epoch and its number alone, so a later run sees the same."""

from __future__ import annotations

import threading
from typing import Any

import keras
import numpy as np

from reszoo.data.sources import Examples, Scaling
from reszoo.training.devices import ONE, Devices
from reszoo.training.recipes import Augmentation


class Batches(keras.utils.PyDataset):
    """Examples in batches, shuffled and augmented anew in every epoch, or all in order.

    Of several machines each gets its rows of the same batches. Of examples that several devices cannot share evenly,
    an epoch of training leaves out the last few of its order (fewer than there are devices): filled up, they would
    count in the statistics of batch normalisation. In order, none is left out: the last batch is filled up with rows
    of no weight.
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
        # Over several devices TensorFlow reads on from an iterator that fit() has dropped: with workers, which fill one
        # queue, it would take the first batches of the next one.
        mirrored = devices.count > 1 and keras.backend.backend() == "tensorflow"
        super().__init__(workers=1 if mirrored else 2, max_queue_size=8)
        self._examples, self._scaling, self._classes, self._batch = examples, scaling, classes, batch
        self._seed, self.epoch, self._devices = seed, epoch, devices
        left_out, filled_up = len(examples) % devices.count, -len(examples) % devices.count
        self._rows = len(examples) + (filled_up if seed is None else -left_out)
        self._augmentation = augmentation or Augmentation()
        self._layers = _layers(self._augmentation, scaling)
        self._one_at_a_time = threading.Lock()

    def __len__(self) -> int:
        return -(-self._rows // self._batch)

    def on_epoch_end(self) -> None:
        self.epoch += 1

    def __getitem__(self, number: int) -> tuple[Any, ...]:
        order = self._order()[number * self._batch : (number + 1) * self._batch]
        own = self._devices.rows(len(order))
        if self._seed is None:
            return self._in_order(order[own])
        random, told = np.random.default_rng([self._seed, self.epoch, number]), self._augmentation
        boxes = _boxes(random, len(order), told.crop) if told.crop else None
        moves = random.integers(0, 2 * told.shift + 1, (2, len(order))) if told.shift else None
        turned = random.random(len(order)) < 0.5 if told.flip else None
        # Keras' augmentations mix the rows of a batch, and draw for all of them at once.
        made = slice(None) if self._layers else own
        x = np.asarray(self._examples.take(order[made], None if boxes is None else boxes[made]), "float32")
        labels = self._labels(order[made])
        if moves is not None:
            x = _shifted(x, moves[:, made], told.shift)
        if turned is not None:
            x[turned[made]] = x[turned[made], :, ::-1]
        if self._layers:
            x, labels = (every[own] for every in self._through_layers(random, x, labels))
        return self._scaling(x), labels

    def _in_order(self, order: Any) -> tuple[Any, ...]:
        """Examples as they are; with several devices, each has a weight, of which the mean over all rows is one."""
        count = len(self._examples)
        numbers = np.minimum(order, count - 1)
        x, labels = self._scaling(self._examples.take(numbers)), self._labels(numbers)
        if self._devices.count == 1:
            return x, labels
        return x, labels, np.where(order < count, self._rows / count, 0).astype("float32")

    def _labels(self, numbers: Any) -> Any:
        return np.eye(self._classes, dtype="float32")[self._examples.labels[numbers]]

    def _order(self) -> Any:
        if self._seed is None:
            return np.arange(self._rows)
        return np.random.default_rng([self._seed, self.epoch]).permutation(len(self._examples))[: self._rows]

    def _through_layers(self, random: Any, x: Any, labels: Any) -> tuple[Any, Any]:
        """Keras' augmentations, their generators set for this batch."""
        mixing = [layer for layer in self._layers if isinstance(layer, (keras.layers.MixUp, keras.layers.CutMix))]
        alone = [layer for layer in self._layers if layer not in mixing]
        chosen = [mixing[random.integers(len(mixing))]] if mixing else []
        made = {"images": x, "labels": labels}
        with self._one_at_a_time:
            for layer in (*alone, *chosen):
                reseed(layer, random)
                made = layer(made, training=True)
        return keras.ops.convert_to_numpy(made["images"]), keras.ops.convert_to_numpy(made["labels"])


def reseed(layer: Any, random: Any) -> None:
    """Sets the random generators of a layer and of the layers in it."""
    for part in vars(layer).values():
        if isinstance(part, keras.random.SeedGenerator):
            part.state.assign(random.integers(0, 2**31, 2).astype("uint32"))
        elif isinstance(part, keras.layers.Layer):
            reseed(part, random)


def _layers(told: Augmentation, scaling: Scaling) -> list[Any]:
    made: list[Any] = []
    if told.rand_augment:
        made.append(keras.layers.RandAugment(value_range=(0, scaling.scale), factor=told.rand_augment))
    if told.erase:
        made.append(keras.layers.RandomErasing(factor=(told.erase, told.erase), value_range=(0, scaling.scale)))
    if told.mixup:
        made.append(keras.layers.MixUp(alpha=told.mixup))
    if told.cutmix:
        made.append(keras.layers.CutMix(factor=told.cutmix))
    return made


def _shifted(x: Any, moves: Any, most: int) -> Any:
    """Images moved by up to `most` pixels either way, zeros coming in."""
    count, height, width = x.shape[:3]
    padded = np.pad(x, ((0, 0), (most, most), (most, most), (0, 0)))
    down, right = moves
    rows, columns = down[:, None] + np.arange(height), right[:, None] + np.arange(width)
    return padded[np.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]


def _boxes(random: Any, count: int, shares: tuple[float, ...]) -> Any:
    """Parts of images as shares of their sides: of random area, and a ratio of their sides from 3/4 to 4/3."""
    area, ratio = (
        random.uniform(shares[0], shares[1], count),
        np.exp(random.uniform(np.log(3 / 4), np.log(4 / 3), count)),
    )
    width, height = np.minimum(np.sqrt(area * ratio), 1), np.minimum(np.sqrt(area / ratio), 1)
    left, top = random.random(count) * (1 - width), random.random(count) * (1 - height)
    return np.stack([left, top, left + width, top + height], axis=1)
