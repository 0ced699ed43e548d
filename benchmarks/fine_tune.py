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
"""Time limit of a contestant, in seconds."""
BATCH = 64


class Contestant:
    """A network on digits that trains one epoch at a time; its clock runs only during its own work.

    SGD at a learning rate; without one, Adam with Keras' defaults.
    """

    def __init__(self, build, data, rate):
        start = time.perf_counter()
        self.x, self.y = data.arrays("train")
        self.held = data.arrays("test")
        self.model = build(data)
        steps = -(-len(self.x) // BATCH)
        if rate:
            # Constant after two epochs of warm-up: no schedule may depend on when the goal is reached.
            schedule = keras.optimizers.schedules.PiecewiseConstantDecay([2 * steps], [rate / 4, rate])
            optimizer = keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True)
        else:
            optimizer = keras.optimizers.Adam()
        self.model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
        self.seconds = time.perf_counter() - start
        self.accuracies = []

    def epoch(self):
        start = time.perf_counter()
        self.model.fit(self.x, self.y, batch_size=BATCH, verbose=0)
        metrics = self.model.evaluate(*self.held, batch_size=256, verbose=0, return_dict=True)
        self.accuracies.append(metrics["accuracy"])
        self.seconds += time.perf_counter() - start


def ours(start):
    def build(data):
        spec = {"input_shape": data.shape}
        if start == "from scratch":
            return reszoo.resnet20_cifar(**spec)
        return reszoo.replace_head(reszoo.resnet20_cifar(weights="fashion_mnist", **spec), classes=10)

    return build


def theirs(data):
    return keras.applications.ResNet50(weights=None, input_shape=data.shape, classes=10)


def in_color(data):
    """Returns digits in three channels, which keras.applications requires."""
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
            theirs, in_color(reszoo.open_data("digits", size=32)), None
        ),
    }
    while running := [
        one for one in racing.values() if max(one.accuracies, default=0) < goal and one.seconds < LONGEST
    ]:
        for one in running:
            one.epoch()
    return racing


class Clock(keras.callbacks.Callback):
    """Records when epochs begin; what is written after an epoch counts as part of it."""

    def __init__(self):
        super().__init__()
        self.starts = []

    def on_epoch_begin(self, epoch, logs=None):
        self.starts.append(time.perf_counter())


def loop(data, epochs=4):
    """Returns the images per second of our loop and of Keras', without the first epoch, which traces."""
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
    return [len(x) / statistics.median(np.diff(one.starts[1:])) for one in (clock, plain)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--goal", type=float, default=0.95)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    describe("reszoo", "keras", "tensorflow")
    print(f"\nseconds to {arguments.goal:.0%} of the 359 test digits; epochs; one seed per round")
    for seed in range(arguments.rounds):
        for name, one in race(arguments.goal, seed).items():
            reached = one.accuracies[-1] >= arguments.goal
            result = f"{one.seconds:7.1f} s" if reached else f"not in {one.seconds:.0f} s, {max(one.accuracies):.1%}"
            print(f"  {name:44}{result}  {len(one.accuracies):3} epochs", flush=True)
    digits = in_color(reszoo.open_data("digits", size=32))
    times = 2
    tiled = replace(
        digits.train, x=np.tile(digits.train.x, (times, 1, 1, 1)), labels=np.tile(digits.train.labels, times)
    )
    digits = replace(digits, train=tiled)
    print(
        f"\nimages per second, ResNet-50 at 32x32, batch {BATCH}, {len(tiled):,} images an epoch, validation included"
    )
    rounds = np.array([loop(digits) for _ in range(arguments.rounds)])
    ours_, theirs_ = np.median(rounds, axis=0)
    print(f"  reszoo train, checkpoints and augmentation   {ours_:8.1f}")
    print(f"  keras.applications.ResNet50, fit()           {theirs_:8.1f}   ours over theirs {ours_ / theirs_:.2f}x")


if __name__ == "__main__":
    main()
