"""What a search costs: training compute until it is as good as the best of 20 random trials of full length.

    python benchmarks/search.py fashion_mnist_train.npz [--seeds 3] [--images 1200]

On a subset of Fashion-MNIST at 14x14, over one space of residual and plain nets: keras_tuner.RandomSearch (20 trials),
keras_tuner.Hyperband, `reszoo.search`, all with the same network builder, recipe and examples; then keras_tuner's own
HyperResNet for as long as RandomSearch took. Compute is epochs times MACs, counted in the order of training until the
accuracy is reached, and does not depend on the machine. Before it: feasible networks a second in every space that
comes with the package, under a budget that leaves out half of those that exist.
"""

import argparse
import contextlib
import os
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from itertools import islice

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras
import keras_tuner
import numpy as np
from machine import describe

import reszoo
from reszoo.tuning.budget import Budget, Feasible

TRIALS, EPOCHS, BATCH, SIDE = 20, 18, 64, 14
OURS = 30
"""Trials of `reszoo.search`; most are ended early."""
SPACE = reszoo.Space(
    name="benchmark",
    network="resnet20_cifar",
    size={"depths": (1, 2), "width": (0.25, 0.5, 0.75, 1.0, 1.5)},
    net={"shortcut": ("pad", "none")},
    recipe={
        "learning_rate.peak": {"low": 1e-3, "high": 1.0, "scale": "log"},
        "optimizer.weight_decay": {"low": 1e-5, "high": 1e-2, "scale": "log"},
    },
)
RECIPE = reszoo.recipe("fast", batch=BATCH, epochs=EPOCHS, augmentation={"shift": 0, "flip": False})


@dataclass
class Told:
    """What a search trained, in order: MACs of a network and its validation accuracy after every epoch."""

    trials: list = field(default_factory=list)
    seconds: float = 0.0

    def best(self):
        return max((max(curve) for _, curve in self.trials if curve), default=0.0)

    def spent(self, goal=2.0):
        """Epochs times MACs until the goal is reached (by default: never), and whether it was."""
        total = 0.0
        for macs, curve in self.trials:
            for accuracy in curve:
                total += macs
                if accuracy >= goal:
                    return total, True
        return total, False


class Recorded(reszoo.HyperResNet):
    """Our hypermodel, writing down what is trained."""

    told: Told

    def fit(self, hp, model, *arguments, **named):
        history = super().fit(hp, model, *arguments, **named)
        self.told.trials.append((reszoo.cost(reszoo.spec_of(model)).macs, history.history["val_accuracy"]))
        return history


class Over(BaseException):
    """The time is over; keras-tuner catches every Exception."""


class Deadline(keras.callbacks.Callback):
    """Ends a search after some seconds."""

    def __init__(self, seconds):
        super().__init__()
        self.ends = time.monotonic() + seconds

    def on_train_batch_end(self, batch, logs=None):
        if time.monotonic() > self.ends:
            raise Over


def theirs(tuner, seed, data, **settings):
    """Runs one of keras-tuner's searches over our space."""
    told, start = Told(), time.perf_counter()
    steps = -(-len(data.train) // BATCH) * EPOCHS
    made = Recorded(SPACE.fitted(input_shape=data.shape, classes=len(data.classes)), RECIPE, steps=steps)
    made.told = told
    x, y = data.arrays("train")
    with tempfile.TemporaryDirectory() as folder:
        search = tuner(made, objective="val_accuracy", seed=seed, directory=folder, **settings)
        epochs = {"epochs": EPOCHS} if tuner is keras_tuner.RandomSearch else {}
        search.search(x, y, batch_size=BATCH, validation_data=data.arrays("validation"), verbose=0, **epochs)
    told.seconds = time.perf_counter() - start
    return told


def ours(seed, source):
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        study = reszoo.search(SPACE, source, folder=folder, recipe=RECIPE, seed=seed, trials=OURS)
        told = Told([(t.costs["macs"], [row["val_accuracy"] for row in t.history]) for t in study.trials])
    told.seconds = time.perf_counter() - start
    return told


def its_own(seconds, seed, data):
    """What keras_tuner's HyperResNet finds in some seconds, on the same images at the least size it can shrink."""
    told, start = Told(), time.perf_counter()

    def shown(part):
        x, y = data.arrays(part)
        x = keras.ops.convert_to_numpy(keras.ops.image.resize(np.repeat(x, 3, axis=-1), (32, 32)))
        return x, keras.utils.to_categorical(y, len(data.classes))

    class Curve(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            told.trials.append((0.0, []))

        def on_epoch_end(self, epoch, logs=None):
            told.trials[-1][1].append(logs["val_accuracy"])

    x, y = shown("train")
    with tempfile.TemporaryDirectory() as folder:
        made = keras_tuner.applications.HyperResNet(input_shape=x.shape[1:], classes=len(data.classes))
        search = keras_tuner.RandomSearch(
            made, objective="val_accuracy", max_trials=TRIALS, seed=seed, directory=folder
        )
        watch = [Curve(), Deadline(seconds)]
        with contextlib.suppress(Over):
            search.search(
                x, y, epochs=EPOCHS, batch_size=BATCH, validation_data=shown("validation"), callbacks=watch, verbose=0
            )
    told.seconds = time.perf_counter() - start
    return told


def feasible():
    """Networks within budget a second, on one core, where the budget leaves out half of those that exist."""
    print("\nfeasible networks a second of one core; share of draws that exist; of those, within the budget")
    for name in reszoo.list_spaces():
        space = reszoo.space(name)
        known = [cost for point in islice(space.sample(seed=1), 2000) if (cost := space.cost(point))]
        budget = Budget(macs=statistics.median(cost.macs for cost in known))
        found, start, drawn = Feasible(space, budget), time.process_time(), 20_000
        fit = sum(found.has(point) for point in islice(space.sample(seed=2), drawn))
        rate, exist = fit / (time.process_time() - start), len(known) / 2000
        print(f"  {name:20}{rate:8,.0f} a second   {exist:4.0%}   {fit / drawn / exist:4.0%}")


def show(seed, name, told, goal):
    """Prints what one search came to."""
    spent, reached = told.spent(goal)
    whole, epochs = told.spent()[0], sum(len(curve) for _, curve in told.trials)
    until = f"{spent / 1e9:10.3f}" if reached else f"{'never':>10}"
    costs = f"{whole / 1e9:12.3f}{until}" if whole else f"{'':22}"
    print(f"{seed}  {name:26}{told.best():6.2%}{len(told.trials):6}{epochs:8}{costs}{told.seconds:10.0f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", help="Fashion-MNIST's training images: a .npz with x and y")
    parser.add_argument("--seeds", type=int, default=3, help="0 counts feasible networks only")
    parser.add_argument("--images", type=int, default=1200, help="a third of which are for validation")
    asked = parser.parse_args()
    describe("reszoo", "keras", "tensorflow", "keras-tuner", "optuna")
    feasible()
    if not asked.seeds:
        return
    with np.load(asked.file) as file:
        x, y = file["x"][: asked.images], file["y"][: asked.images]
    held = asked.images // 3
    source = reszoo.open_data((x[held:], y[held:]), size=SIDE, validation=(x[:held], y[:held]))
    print(f"\n{asked.images - held:,} images for training, {held:,} for validation; full length {EPOCHS} epochs")
    print("seed                      best  trials  epochs  compute (G)  until goal   seconds")
    shares = {"RandomSearch": [], "RandomSearch, all of it": [], "Hyperband": []}
    for seed in range(asked.seeds):
        random = theirs(keras_tuner.RandomSearch, seed, source, max_trials=TRIALS)
        goal = random.best()
        show(seed, "keras_tuner.RandomSearch", random, goal)
        band = theirs(keras_tuner.Hyperband, seed, source, max_epochs=EPOCHS, factor=3)
        show(seed, "keras_tuner.Hyperband", band, goal)
        found = ours(seed, source)
        show(seed, "reszoo.search", found, goal)
        show(seed, "keras_tuner.HyperResNet", its_own(random.seconds, seed, source), goal)
        mine, reached = found.spent(goal)
        mine = mine if reached else float("inf")
        shares["RandomSearch"].append(mine / random.spent(goal)[0])
        shares["RandomSearch, all of it"].append(mine / random.spent()[0])
        shares["Hyperband"].append(mine / band.spent(goal)[0])
    print("\ncompute of reszoo.search until the goal over that of another, by seed, and the median")
    for name, found in shares.items():
        print(f"  {name:26}{', '.join(f'{share:.2f}' for share in found)}; median {statistics.median(found):.2f}")


if __name__ == "__main__":
    main()
