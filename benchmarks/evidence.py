"""What is claimed of residual networks, with fixed seeds: gradients, accuracy by depth, the degradation gap, lesions.

    python benchmarks/evidence.py [--seeds 3] [--deepest 1000] [--skip convolutional]

Each line is one of the figures that the README and the tests rest on: found, and what it has to be.
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


def say(what, found, wanted, started):
    """Prints one line."""
    print(f"{what:72} {found:28} wanted {wanted:18} {time.perf_counter() - started:5.0f} s", flush=True)


def rows():
    """256 digits as rows of 64 numbers, and their classes."""
    x, y = DATA.arrays("train")
    return x[:256].reshape(256, -1), y[:256]


def dense_of_100_layers(changes):
    """A network with initial weights that are the same in every run."""
    keras.utils.set_random_seed(0)
    return reszoo.create("residual_mlp18", input_shape=(64,), classes=10, depths=50, **DENSE, **changes)


def at_start():
    """Gradients and information of dense networks of 100 layers."""
    x, y = rows()
    nets = {
        "plain, glorot": ({**PLAIN, "init": "glorot"}, "below 1e-6"),
        "residual, zero-scaled": ({}, "0.999 to 1.001"),
        "residual, full-scale branches": ({"block": {"start": "random"}}, "10 to 100"),
    }
    for name, (changes, wanted) in nets.items():
        started = time.perf_counter()
        model = dense_of_100_layers(changes)
        profile = diagnosis.gradient_profile(model, x, y)
        say(f"activation-gradient ratio, 100 layers, {name}", f"{profile.ratio:.4g}", wanted, started)
    nets = {"plain, He": (PLAIN, "below 0.2"), "residual": ({}, "above 0.7")}
    nets["residual, scaled, no norm"] = ({"norm": "none", "block": {"start": "scaled"}}, "above 0.7")
    for name, (changes, wanted) in nets.items():
        started = time.perf_counter()
        model = dense_of_100_layers(changes)
        found = diagnosis.information(model, x, y, places=3).found[-1]
        say(f"R2 of the input at the last block, 100 layers, {name}", f"{found.r2:.2f}", wanted, started)


def dense(layers, shallow, seeds, against, **budget):
    """Training accuracy of every family at two depths."""
    started = time.perf_counter()
    found = reszoo.compare(
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
    wanted = {
        "residual": "above 0.98",
        "plain twin": "below 0.6",
        HE: "below 0.6",
        "plain, looks-linear": "above 0.9 at 100",
    }
    print(f"dense, width 64; {found.budget.description}")
    for one in (*found.shallow, *found.contestants):
        accuracies = ", ".join(f"{run.batch_accuracy:.3f}" for run in found.of(one.family, one.depth))
        deep = wanted.get(one.family, "") if one in found.contestants else ""
        say(f"training accuracy, {one.depth - 2} layers, {one.family}", accuracies, deep, started)


def convolutional(seeds):
    """Degradation and lesions of narrow convolutional networks."""
    started = time.perf_counter()
    found = reszoo.compare(
        "resnet56_cifar", DATA, width_multiplier=0.5, rates=(0.1, 0.03, 0.01), seeds=seeds, measure=["lesion study"]
    )
    print(f"convolutional, widths 8/16/32; {found.budget.description}")
    for gap in found.gaps:
        wanted = {"plain twin": "clearly positive", "residual": "near zero"}.get(gap.family, "")
        say(f"training-loss gap, {gap.family}", f"{gap.gap:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]", wanted, started)
    for one in found.measured:
        for study in one.results:
            share = f"{study.mean:.3f} of {study.accuracy:.3f}"
            wanted = {"plain": "below 0.3", "residual": "above 0.9"}.get(one.kind, "")
            say(f"accuracy without one block (mean), {one.family}", share, wanted, started)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--deepest", type=int, default=1000)
    parser.add_argument("--skip", choices=("dense", "convolutional", "nothing"), default="nothing")
    asked = parser.parse_args()
    describe("reszoo", "keras", "tensorflow")
    seeds = range(asked.seeds)
    at_start()
    if asked.skip != "dense":
        dense(100, 50, seeds, ("plain twin", HE, "plain, looks-linear"))
        dense(asked.deepest, 100, seeds[:1], (), steps=100, rates=(3e-4,))
    if asked.skip != "convolutional":
        convolutional(seeds)


if __name__ == "__main__":
    main()
