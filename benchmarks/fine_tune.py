"""Seconds to 95 % of scikit-learn's digits, and images per second of the whole training loop.

python benchmarks/fine_tune.py [--goal 0.95] [--rounds 2]

Seconds are counted from before the network is built until the first epoch whose test accuracy reaches the goal; the
contestants' epochs take turns. Loop: `reszoo train` (shuffling, augmenting, checkpoints after every epoch)
beside `fit()` of keras.applications.ResNet50 on arrays in memory, the same network on the same images.
"""

import argparse
import os
import statistics
import tempfile
import time
from dataclasses import replace

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras
import numpy as np
from machine import describe

import reszoo
from reszoo.training.metadata import scaling_for
from reszoo.training.run import run

LONGEST = 240
"""Seconds after which a contestant gives up."""
BATCH = 64


class Contestant:
    """A network on digits that trains an epoch at a time; its clock runs only while it does something.

    SGD at a rate, or without one Keras' Adam as it comes.
    """

    def __init__(self, make, data, rate):
        start = time.perf_counter()
        self.x, self.y = data.arrays("train")
        self.held = data.arrays("test")
        self.model = make(data)
        steps = -(-len(self.x) // BATCH)
        if rate:
            # Up after two epochs, then constant: no schedule may know when the goal is reached.
            rising = keras.optimizers.schedules.PiecewiseConstantDecay([2 * steps], [rate / 4, rate])
            optimizer = keras.optimizers.SGD(rising, momentum=0.9, nesterov=True)
        else:
            optimizer = keras.optimizers.Adam()
        self.model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
        self.seconds, self.accuracies = time.perf_counter() - start, []

    def epoch(self):
        start = time.perf_counter()
        self.model.fit(self.x, self.y, batch_size=BATCH, verbose=0)
        told = self.model.evaluate(*self.held, batch_size=256, verbose=0, return_dict=True)
        self.accuracies.append(told["accuracy"])
        self.seconds += time.perf_counter() - start


def ours(start):
    def make(data):
        spec = {"input_shape": data.shape}
        if start == "from scratch":
            return reszoo.resnet20_cifar(**spec)
        return reszoo.replace_head(reszoo.resnet20_cifar(weights="fashion_mnist", **spec), classes=10)

    return make


def theirs(data):
    return keras.applications.ResNet50(weights=None, input_shape=data.shape, classes=10)


def coloured(data):
    """Digits in three channels: keras.applications takes no other."""
    parts = {name: replace(getattr(data, name), x=np.repeat(getattr(data, name).x, 3, axis=-1)) for name in PARTS}
    return replace(data, scaling=reszoo.data.sources.Scaling(16.0, (0.3,) * 3, (0.38,) * 3), **parts)


PARTS = ("train", "validation", "test")


def race(goal, seed):
    keras.utils.set_random_seed(seed)
    gray = reszoo.open_data("digits", size=16)
    gray = replace(gray, scaling=scaling_for(reszoo.record("resnet20_cifar.fashion_mnist"), gray))
    racing = {
        "reszoo.resnet20_cifar, shipped weights": Contestant(ours("pretrained"), gray, 0.02),
        "reszoo.resnet20_cifar, from scratch": Contestant(ours("from scratch"), gray, 0.1),
        "keras.applications.ResNet50, from scratch": Contestant(
            theirs, coloured(reszoo.open_data("digits", size=32)), None
        ),
    }
    while left := [one for one in racing.values() if max(one.accuracies, default=0) < goal and one.seconds < LONGEST]:
        for one in left:
            one.epoch()
    return racing


class Clock(keras.callbacks.Callback):
    """Notes when epochs begin; what is written after one counts for it."""

    def __init__(self):
        super().__init__()
        self.begun = []

    def on_epoch_begin(self, epoch, logs=None):
        self.begun.append(time.perf_counter())


def loop(data, epochs=4):
    """Images per second of our loop and of Keras', without the epoch that traces."""
    spec = reszoo.spec("resnet50_v1", input_shape=data.shape, classes=10)
    recipe = reszoo.recipe("fast", batch=BATCH, epochs=epochs)
    clock, plain = Clock(), Clock()
    with tempfile.TemporaryDirectory() as folder:
        run(spec, data, recipe, f"{folder}/run", callbacks=(clock,), verbose=0)
    x, y = data.arrays("train")
    model = theirs(data)
    model.compile(
        keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    model.fit(
        x, y, batch_size=BATCH, epochs=epochs, validation_data=data.arrays("validation"), callbacks=[plain], verbose=0
    )
    return [len(x) / statistics.median(np.diff(one.begun[1:])) for one in (clock, plain)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--goal", type=float, default=0.95)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    describe("reszoo", "keras", "tensorflow")
    print(f"\nseconds to {arguments.goal:.0%} of the 359 test digits; epochs; every round another seed")
    for seed in range(arguments.rounds):
        for name, one in race(arguments.goal, seed).items():
            reached = one.accuracies[-1] >= arguments.goal
            told = f"{one.seconds:7.1f} s" if reached else f"not in {one.seconds:.0f} s, {max(one.accuracies):.1%}"
            print(f"  {name:44}{told}  {len(one.accuracies):3} epochs", flush=True)
    digits = coloured(reszoo.open_data("digits", size=32))
    times = 2
    more = replace(
        digits.train, x=np.tile(digits.train.x, (times, 1, 1, 1)), labels=np.tile(digits.train.labels, times)
    )
    digits = replace(digits, train=more)
    print(f"\nimages per second, ResNet-50 at 32x32, batch {BATCH}, {len(more):,} images an epoch, validation included")
    rounds = np.array([loop(digits) for _ in range(arguments.rounds)])
    ours_, theirs_ = np.median(rounds, axis=0)
    print(f"  reszoo train, checkpoints and augmentation   {ours_:8.1f}")
    print(f"  keras.applications.ResNet50, fit()           {theirs_:8.1f}   ours over theirs {ours_ / theirs_:.2f}x")


if __name__ == "__main__":
    main()
