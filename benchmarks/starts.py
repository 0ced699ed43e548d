"""Which start of the residual branches trains best: `block.start` over families, learning rates and seeds.

    python benchmarks/starts.py fashion_mnist_train.npz [--families cifar ...] [--data digits] [--seeds 3] [--epochs 5]

The recipe of `reszoo quickstart`'s second table: SGD with Nesterov momentum 0.9, batch 64, a warm-up over a fifth of
the steps, cosine decay; on scikit-learn's digits (1,295 to train, 502 to test) at 8x8 and on Fashion-MNIST (2,000 and
1,000) at 14x14. A start is the factor on the last scale of a branch (its last kernel where no norm follows), by what
the shortcut around it does: it is the identity, it pads channels with zeros, or it projects. The table has the mean
test accuracy over the seeds after every epoch, and the lowest last one.
"""

import argparse
import os
import statistics

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras
import numpy as np
from machine import describe
from sklearn.datasets import load_digits

import reszoo

RATES, BATCH = (0.02, 0.1, 0.4), 64
STARTS = {
    "random": (1, 1, 1),
    "scaled": ("scaled", "scaled", "scaled"),
    "zero everywhere": (0, 0, 0),
    "zero, padded blocks full scale": (0, 1, 0),
    "zero, padded blocks scaled": (0, "scaled", 0),
    "zero in identity blocks only": (0, 1, 1),
}
"""Factors where the shortcut is the identity, where it pads, where it projects."""
FREE = {"block": {"start": "random"}}
FAMILIES = {
    "cifar": ("resnet20_cifar", {"width_multiplier": 0.5}),
    "cifar, 56 layers": ("resnet56_cifar", {"width_multiplier": 0.5}),
    "cifar, 110 layers": ("resnet110_cifar", {"width_multiplier": 0.5}),
    "pre-activation, padded": ("preact_resnet110_cifar", {"width_multiplier": 0.5, "depths": 3}),
    "pre-activation, projected": ("preact_resnet164_cifar", {"width_multiplier": 0.5, "depths": 2}),
    "imagenet": ("resnet18", {"width_multiplier": 0.25, "stem": "cifar"}),
    "imagenet, bottlenecks": ("resnet50", {"width_multiplier": 0.25, "stem": "cifar", "depths": 2}),
    "dense": ("residual_mlp18", {}),
}


def digits():
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x = (x.reshape(-1, 8, 8, 1)[order] / 16).astype("float32")
    return (x[:1295], y[order][:1295]), (x[1295:], y[order][1295:])


def fashion(file):
    with np.load(file) as read:
        x, y = read["x"][:3000], read["y"][:3000]
    x = (x.reshape(-1, 14, 2, 14, 2).mean((2, 4))[..., None] / 255).astype("float32")
    return (x[:2000], y[:2000]), (x[2000:], y[2000:])


def kinds(spec):
    """Yields for every block the last layer with weights of its branch, and 0, 1 or 2: identity, padded, projected."""
    for block in reszoo.plan(spec).blocks:
        last = f"unit{len(spec.block.body)}_"
        op = next(op for op in reversed(block.ops) if op.weights and op.name.startswith(last))
        shortcut = [other for other in block.ops if other.name.startswith("shortcut_")]
        yield (
            block.prefix + op.name,
            2 if any(op.weights for op in shortcut) else int(any(op.kind == "pad" for op in shortcut)),
        )


class Contest:
    """One network on one data set, traced once."""

    def __init__(self, network, changes, data):
        (self.x, self.y), (self.x_test, self.y_test) = data
        name = network
        self.spec = reszoo.spec(name, **changes).replace(**FREE, classes=10)
        if self.spec.dense:
            self.x, self.x_test = (part.reshape(len(part), -1) for part in (self.x, self.x_test))
        self.spec = self.spec.replace(input_shape=self.x.shape[1:])
        mean, scale = self.x.mean(), self.x.std()
        self.x, self.x_test = (self.x - mean) / scale, (self.x_test - mean) / scale
        self.scaled = [*kinds(self.spec)]
        self.model = reszoo.create(self.spec)
        self.model.compile(keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True), "sparse_categorical_crossentropy")

    def run(self, start, rate, seed, epochs):
        keras.utils.set_random_seed(seed)
        fresh = reszoo.create(self.spec)
        for name, kind in self.scaled:
            factor = STARTS[start][kind]
            factor = len(self.scaled) ** -0.5 if factor == "scaled" else factor
            variable = fresh.get_layer(name).trainable_variables[0]
            variable.assign(variable * factor)
        self.model.set_weights(fresh.get_weights())
        optimizer = self.model.optimizer
        for variable in optimizer.variables:
            variable.assign(np.zeros(variable.shape, variable.dtype))
        random, steps = np.random.default_rng(seed), len(self.x) // BATCH
        total, warm = steps * epochs, steps * epochs // 5
        accuracies = []
        for epoch in range(epochs):
            order = random.permutation(len(self.x))
            for step in range(steps):
                number = epoch * steps + step
                share = (number - warm) / (total - warm)
                optimizer.learning_rate = rate * (
                    0.1 + 0.9 * number / warm if number < warm else 0.5 * (1 + np.cos(np.pi * share))
                )
                rows = order[step * BATCH : (step + 1) * BATCH]
                self.model.train_on_batch(self.x[rows], self.y[rows])
            scores = self.model.predict_on_batch(self.x_test)
            accuracies.append(float((scores.argmax(1) == self.y_test).mean()))
        return accuracies


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", help="Fashion-MNIST's training images: a .npz with x and y")
    parser.add_argument("--families", nargs="+", default=[*FAMILIES], choices=[*FAMILIES])
    parser.add_argument("--data", nargs="+", default=["digits", "fashion_mnist"], choices=["digits", "fashion_mnist"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=5)
    settings = parser.parse_args()
    describe("reszoo", "keras", keras.backend.backend())
    print(
        f"mean test accuracy in %, {settings.seeds} seeds, after epochs 1 to {settings.epochs}; the lowest seed's last"
    )
    for data_name in settings.data:
        data = digits() if data_name == "digits" else fashion(settings.file)
        for family in settings.families:
            contest = Contest(*FAMILIES[family], data)
            present = {kind for _, kind in contest.scaled}
            seen = set()
            for start, factors in STARTS.items():
                # Starts that give the same network run once.
                same = tuple(factors[kind] for kind in sorted(present))
                if same in seen:
                    continue
                seen.add(same)
                for rate in RATES:
                    runs = [contest.run(start, rate, seed, settings.epochs) for seed in range(settings.seeds)]
                    means = " ".join(f"{100 * statistics.mean(column):5.1f}" for column in zip(*runs, strict=True))
                    lowest = 100 * min(run[-1] for run in runs)
                    print(f"{data_name:14} {family:26} {start:31} rate {rate:<5}{means}   {lowest:5.1f}", flush=True)
            keras.backend.clear_session()


if __name__ == "__main__":
    main()
