"""What looking at networks costs, and what taking blocks out of one saves.

    python benchmarks/diagnosis.py [--steps 50] [--rounds 15] [--train fashion_mnist_train.npz --test ..._test.npz]

The doctor's seconds for ResNet-50 at 224 (ours and keras.applications'); the time of `fit()` with `GradientFlow` every
50 steps over that without, taking turns; and with the two files `prune_depth` on the shipped ResNet-20: blocks are
chosen and the result is judged on held-out training images, then both networks are evaluated on the test images.
"""

import argparse
import os
import statistics
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras
import numpy as np
from machine import describe, interleave

import reszoo


def doctor():
    """Seconds of the doctor for a network of 224x224x3."""
    random = np.random.default_rng(0)
    x, y = random.normal(size=(16, 224, 224, 3)).astype("float32"), np.arange(16)
    print("\nseconds of reszoo.diagnose, 16 images of 224x224, the model built before")
    for name, model in (
        ("reszoo.resnet50", reszoo.resnet50()),
        ("keras.applications.ResNet50", keras.applications.ResNet50(weights=None)),
    ):
        found = reszoo.diagnose(model, x, y)
        print(f"  {name:32}{found.seconds:6.1f} s   {len(found.results)} measurements", flush=True)


def overhead(steps, rounds):
    """The share by which watching the gradient every 50 steps lengthens training."""
    random = np.random.default_rng(0)
    x, y = random.normal(size=(64 * 50, 32, 32, 3)).astype("float32"), random.integers(10, size=64 * 50)
    model = reszoo.resnet20_cifar()
    model.compile("sgd", "sparse_categorical_crossentropy")
    with tempfile.TemporaryDirectory() as folder:
        watch = reszoo.GradientFlow(x[:16], y[:16], folder=folder, every=50)
        settings = {"batch_size": 64, "epochs": steps // 50, "verbose": 0}
        model.fit(x, y, **settings | {"epochs": 1}, callbacks=[watch])
        seconds = interleave(
            {
                "watched": lambda: model.fit(x, y, **settings, callbacks=[watch]),
                "alone": lambda: model.fit(x, y, **settings),
            },
            rounds=rounds,
        )
    watched, alone = (statistics.median(seconds[name]) for name in ("watched", "alone"))
    # Neighbours in time are compared: the machine's speed drifts by more than is to be measured.
    more = statistics.median(one / other - 1 for one, other in zip(seconds["watched"], seconds["alone"], strict=True))
    print(f"\n{steps} steps of resnet20_cifar, batch 64, medians of {rounds} rounds; a profile every 50 steps")
    print(f"  alone {alone:.2f} s, with GradientFlow {watched:.2f} s; of a round {more:+.1%}", flush=True)


def pruning(train, test):
    """The shipped ResNet-20 with fewer blocks."""
    # The split is the one that the weights were trained with, so that what is held out was never learnt.
    data = reszoo.open_data(train, test=test, seed=1)
    model = reszoo.resnet20_cifar(weights="fashion_mnist", input_shape=(28, 28, 1))
    start = time.perf_counter()
    found = reszoo.prune_depth(model, data, epochs=1)
    seconds = time.perf_counter() - start
    x, y = data.arrays("test")
    before, after = ((one.predict(x, verbose=0).argmax(axis=1) == y).mean() for one in (model, found.model))
    print(f"\nprune_depth on resnet20_cifar.fashion_mnist, {seconds:.0f} s; taken out: {', '.join(found.dropped)}")
    print(f"  MACs {found.macs[0]:,} to {found.macs[1]:,}: {found.macs_saved:.1%} saved")
    print(
        f"  held-out accuracy {found.accuracy:.2%}, cut {found.accuracy_cut:.2%}, fine-tuned {found.accuracy_after:.2%}"
    )
    print(f"  test accuracy {before:.2%} to {after:.2%}: {100 * (after - before):+.2f} points")
    print(f"  seconds of a batch {found.seconds[0]:.4f} to {found.seconds[1]:.4f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--train")
    parser.add_argument("--test")
    asked = parser.parse_args()
    describe("reszoo", "keras", "tensorflow")
    doctor()
    overhead(asked.steps, asked.rounds)
    if asked.train and asked.test:
        pruning(asked.train, asked.test)


if __name__ == "__main__":
    main()
