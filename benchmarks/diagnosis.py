"""The cost of diagnosis, and the savings of depth pruning.

    python benchmarks/diagnosis.py [--steps 50] [--rounds 15] [--train fashion_mnist_train.npz --test ..._test.npz]

Seconds of `reszoo.diagnose` for a compiled ResNet-50 at 224 (ours and keras.applications'), of the clock and of the
processor; the time of `fit()` with `GradientFlow` every 50 steps, and with `Doctor` on 64 examples, over that without,
in turns; and with the two files, `prune_depth` on the shipped ResNet-20: blocks are chosen and the result is validated
on held-out training images, then both networks are evaluated on the test images.
"""

import argparse
import os
import statistics
import tempfile
import time
from functools import partial

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras
import numpy as np
from machine import describe, interleave

import reszoo


def diagnose():
    """Prints the seconds of a diagnosis of networks of 224x224x3."""
    random = np.random.default_rng(0)
    x, y = random.normal(size=(64, 224, 224, 3)).astype("float32"), random.integers(1000, size=64)
    print("\nseconds of reszoo.diagnose, 64 images of 224x224, building not included")
    for name, model in (
        ("reszoo.resnet50", reszoo.resnet50()),
        ("keras.applications.ResNet50", keras.applications.ResNet50(weights=None)),
    ):
        model.compile("adam", "sparse_categorical_crossentropy")
        start = time.process_time()
        diagnosis = reszoo.diagnose(model, x, y)
        seconds, counts = time.process_time() - start, (len(diagnosis.results), len(diagnosis.causes))
        print(
            f"  {name:32}{diagnosis.seconds:6.1f} s ({seconds:.0f} of the processor)   measurements, causes: {counts}"
        )


def overhead(steps, rounds):
    """Prints the overhead of `GradientFlow` every 50 steps, and of `Doctor`."""
    random = np.random.default_rng(0)
    x, y = random.normal(size=(64 * 50, 32, 32, 3)).astype("float32"), random.integers(10, size=64 * 50)
    model = reszoo.resnet20_cifar()
    model.compile("sgd", "sparse_categorical_crossentropy")
    with tempfile.TemporaryDirectory() as folder:
        callbacks = {
            "GradientFlow": reszoo.GradientFlow(x[:16], y[:16], folder=folder, every=50),
            "Doctor": reszoo.Doctor(x[:64], y[:64], report=None),
        }
        settings = {"batch_size": 64, "epochs": steps // 50, "verbose": 0}
        model.fit(x, y, **settings | {"epochs": 1}, callbacks=[*callbacks.values()])
        fits = {name: partial(model.fit, x, y, **settings, callbacks=[one]) for name, one in callbacks.items()}
        seconds = interleave({"without": partial(model.fit, x, y, **settings), **fits}, rounds=rounds)
    print(f"\n{steps} steps of resnet20_cifar, batch 64, medians of {rounds} rounds; a profile every 50 steps")
    print(f"  without {statistics.median(seconds['without']):.2f} s")
    for name in callbacks:
        # Runs of one round are compared: over time, the speed of the machine drifts by more than the overhead.
        overheads = [a / b - 1 for a, b in zip(seconds[name], seconds["without"], strict=True)]
        print(f"  with {name}: overhead {statistics.median(overheads):+.1%}", flush=True)


def pruning(train, test):
    """Prints accuracy and cost of the shipped ResNet-20 before and after depth pruning."""
    # The weights were trained with this split, so the validation images are new to them.
    data = reszoo.open_data(train, test=test, seed=1)
    model = reszoo.resnet20_cifar(weights="fashion_mnist", input_shape=(28, 28, 1))
    start = time.perf_counter()
    pruned = reszoo.prune_depth(model, data, epochs=1)
    seconds = time.perf_counter() - start
    x, y = data.arrays("test")
    before, after = ((one.predict(x, verbose=0).argmax(axis=1) == y).mean() for one in (model, pruned.model))
    print(f"\nprune_depth on resnet20_cifar.fashion_mnist, {seconds:.0f} s; removed: {', '.join(pruned.dropped)}")
    print(f"  MACs {pruned.macs[0]:,} to {pruned.macs[1]:,}: {pruned.macs_saved:.1%} saved")
    print(
        f"  validation accuracy {pruned.accuracy:.2%}, without the blocks {pruned.accuracy_cut:.2%}, "
        f"fine-tuned {pruned.accuracy_after:.2%}"
    )
    print(f"  test accuracy {before:.2%} to {after:.2%}: {100 * (after - before):+.2f} points")
    print(f"  seconds per batch {pruned.seconds[0]:.4f} to {pruned.seconds[1]:.4f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--train")
    parser.add_argument("--test")
    arguments = parser.parse_args()
    describe("reszoo", "keras", "tensorflow")
    diagnose()
    overhead(arguments.steps, arguments.rounds)
    if arguments.train and arguments.test:
        pruning(arguments.train, arguments.test)


if __name__ == "__main__":
    main()
