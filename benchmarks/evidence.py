"""The claims on residual networks, with fixed seeds: gradients, accuracy by depth, the degradation gap, lesions.

    python benchmarks/evidence.py [--seeds 3] [--deepest 1000] [--skip convolutional]

Each line is one figure of the documentation and the tests: the measured value, and the expected one.
"""

import argparse
import os
import time

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
from machine import describe

import reszoo
from reszoo import diagnosis

DENSE = {"width_multiplier": 0.25}
DATA = reszoo.open_data("digits")
PLAIN = {"shortcut": "none", "norm": "none"}
HE = "plain, He, no norm"


def print_line(name, value, expected, start):
    """Prints one figure."""
    print(f"{name:72} {value:28} expected {expected:18} {time.perf_counter() - start:5.0f} s", flush=True)


def rows():
    """Returns 256 digits as rows of 64 numbers, and their classes."""
    x, y = DATA.arrays("train")
    return x[:256].reshape(256, -1), y[:256]


def dense_of_100_layers(changes):
    """Returns a network whose initial weights are the same in every run."""
    keras.utils.set_random_seed(0)
    return reszoo.create("residual_mlp18", input_shape=(64,), classes=10, depths=50, **DENSE, **changes)


def initialization():
    """Prints gradients and information of dense networks of 100 layers before training."""
    x, y = rows()
    nets = {
        "plain, glorot": ({**PLAIN, "init": "glorot"}, "below 1e-6"),
        "residual, zero-scaled": ({}, "0.999 to 1.001"),
        "residual, full-scale branches": ({"block": {"start": "random"}}, "10 to 100"),
    }
    for name, (changes, expected) in nets.items():
        start = time.perf_counter()
        model = dense_of_100_layers(changes)
        profile = diagnosis.gradient_profile(model, x, y)
        print_line(f"activation-gradient ratio, 100 layers, {name}", f"{profile.ratio:.4g}", expected, start)
    nets = {"plain, He": (PLAIN, "below 0.2"), "residual": ({}, "above 0.7")}
    nets["residual, scaled, no norm"] = ({"norm": "none", "block": {"start": "scaled"}}, "above 0.7")
    for name, (changes, expected) in nets.items():
        start = time.perf_counter()
        model = dense_of_100_layers(changes)
        readout = diagnosis.information(model, x, y, places=3).readouts[-1]
        print_line(f"R2 of the input at the last block, 100 layers, {name}", f"{readout.r2:.2f}", expected, start)


def steps(comparison):
    """Returns the training of every network in words."""
    budget = comparison.budget
    rates = ", ".join(f"{rate:g}" for rate in budget.rates)
    return f"{budget.steps} steps, learning rates {rates}, seeds {', '.join(map(str, budget.seeds))}"


def dense(layers, shallow, seeds, against, **budget):
    """Prints the training accuracy of every family at two depths."""
    start = time.perf_counter()
    comparison = reszoo.compare(
        "residual_mlp18",
        DATA,
        against=against,
        depths=layers // 2,
        shallow=shallow // 2,
        seeds=seeds,
        measure=(),
        **DENSE,
        **budget,
    )
    expected = {
        "residual": "above 0.98",
        "plain twin": "below 0.6",
        HE: "below 0.6",
        "plain, looks-linear": "above 0.9 at 100",
    }
    print(f"dense, width 64; {steps(comparison)}")
    for one in (*comparison.shallow, *comparison.contestants):
        accuracies = ", ".join(f"{run.batch_accuracy:.3f}" for run in comparison.of(one.family, one.depth))
        deep = expected.get(one.family, "") if one in comparison.contestants else ""
        print_line(f"training accuracy, {one.depth - 2} layers, {one.family}", accuracies, deep, start)


def convolutional(seeds):
    """Prints the degradation gap and the lesion study of narrow convolutional networks."""
    start = time.perf_counter()
    comparison = reszoo.compare(
        "resnet56_cifar", DATA, width_multiplier=0.5, rates=(0.1, 0.03, 0.01), seeds=seeds, measure=["lesion study"]
    )
    print(f"convolutional, widths 8/16/32; {steps(comparison)}")
    for gap in comparison.gaps:
        expected = {"plain twin": "clearly positive", "residual": "near zero"}.get(gap.family, "")
        print_line(
            f"training-loss gap, {gap.family}", f"{gap.gap:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]", expected, start
        )
    for one in comparison.measured:
        for study in one.results:
            share = f"{study.mean:.3f} of {study.accuracy:.3f}"
            expected = {"plain": "below 0.3", "residual": "above 0.9"}.get(one.kind, "")
            print_line(f"accuracy without one block (mean), {one.family}", share, expected, start)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--deepest", type=int, default=1000)
    parser.add_argument("--skip", choices=("dense", "convolutional", "nothing"), default="nothing")
    arguments = parser.parse_args()
    describe("reszoo", "keras", "tensorflow")
    seeds = range(arguments.seeds)
    initialization()
    if arguments.skip != "dense":
        dense(100, 50, seeds, ("plain twin", HE, "plain, looks-linear"))
        dense(arguments.deepest, 100, seeds[:1], (), steps=100, rates=(3e-4,))
    if arguments.skip != "convolutional":
        convolutional(seeds)


if __name__ == "__main__":
    main()
