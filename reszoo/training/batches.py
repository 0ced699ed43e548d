"""Batches for `fit()`: what one holds depends on seed, epoch and its number alone, so a later run sees the same."""

from __future__ import annotations

import threading
from typing import Any

import keras
import numpy as np

from reszoo.training.data import Examples, Scaling
from reszoo.training.recipes import Augmentation


class Batches(keras.utils.PyDataset):
    """Examples in batches, shuffled and augmented anew in every epoch, or all in order."""

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
    ):
        super().__init__(workers=2, max_queue_size=8)
        self._examples, self._scaling, self._classes, self._batch = examples, scaling, classes, batch
        self._seed, self.epoch = seed, epoch
        self._augmentation = augmentation or Augmentation()
        self._layers = _layers(self._augmentation, scaling)
        self._one_at_a_time = threading.Lock()

    def __len__(self) -> int:
        return -(-len(self._examples) // self._batch)

    def on_epoch_end(self) -> None:
        self.epoch += 1

    def __getitem__(self, number: int) -> tuple[Any, Any]:
        numbers = self._order()[number * self._batch : (number + 1) * self._batch]
        labels = np.eye(self._classes, dtype="float32")[self._examples.labels[numbers]]
        if self._seed is None:
            return self._scaling(self._examples.take(numbers)), labels
        random = np.random.default_rng([self._seed, self.epoch, number])
        told = self._augmentation
        boxes = _boxes(random, len(numbers), told.crop) if told.crop else None
        x = np.asarray(self._examples.take(numbers, boxes), "float32")
        if told.shift:
            x = _shifted(random, x, told.shift)
        if told.flip:
            turned = random.random(len(x)) < 0.5
            x[turned] = x[turned, :, ::-1]
        if self._layers:
            x, labels = self._through_layers(random, x, labels)
        return self._scaling(x), labels

    def _order(self) -> Any:
        if self._seed is None:
            return np.arange(len(self._examples))
        return np.random.default_rng([self._seed, self.epoch]).permutation(len(self._examples))

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


def _shifted(random: Any, x: Any, most: int) -> Any:
    """Images moved by up to `most` pixels either way, zeros coming in."""
    count, height, width = x.shape[:3]
    padded = np.pad(x, ((0, 0), (most, most), (most, most), (0, 0)))
    down, right = random.integers(0, 2 * most + 1, (2, count))
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
