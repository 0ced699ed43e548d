"""A pre-activation network of 1,001 layers (He 2016) beside its plain twin, trained as loops over equal blocks.

    python benchmarks/thousand_layers.py fashion_mnist_train.npz [--output runs/thousand_layers] [--epochs 8]
    KERAS_BACKEND=jax python benchmarks/thousand_layers.py ... --width 1 --examples 20000   # on an accelerator

By default: Fashion-MNIST at 14x14, a quarter of the width. The order of the data is the same for all; SGD with Nesterov
momentum 0.9, a warm-up over an eighth of the steps, cosine decay. The twin is trained with a tenth of the learning
rate, too. Each network keeps its weights and its optimizer's state in the output folder after every epoch; the same
command continues there. The table has loss and accuracy on the training examples, as the epoch went on, and accuracy on
validation examples after it. Weights that are no longer finite are marked.

Before that, the growth of the gradient towards the input is measured on untrained networks of a sixth of the blocks,
and extended to all of them: float32 ends at 3.4e38.
"""

import argparse
import json
import math
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras
import numpy as np
from machine import describe

import reszoo
from reszoo.files import atomic_write
from reszoo.report.lines import Line, draw_lines


def images(file, train, validation, pixels):
    """Returns two pairs of images and classes, standardized by the training images."""
    with np.load(file) as read:
        x, y = read["x"][: train + validation], read["y"][: train + validation]
    x = x.reshape(-1, pixels, 28 // pixels, pixels, 28 // pixels).mean((2, 4))[..., None].astype("float32")
    x = (x - x[:train].mean()) / x[:train].std()
    return (x[:train], y[:train]), (x[train:], y[train:])


class Contestant:
    """One network, and what it reached after every epoch."""

    def __init__(self, name, kind, spec, settings, rate):
        self.name, self.kind, self.seed = name, kind, settings.seed
        keras.utils.set_random_seed(settings.seed)
        self.model = reszoo.create(spec, loops=True)
        self.batch = settings.batch
        steps = settings.examples // self.batch * settings.epochs
        warm = steps // 8
        schedule = keras.optimizers.schedules.CosineDecay(0.0, steps - warm, warmup_target=rate, warmup_steps=warm)
        optimizer = keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True)
        self.model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
        optimizer.build(self.model.trainable_variables)
        self.file = settings.output / f"{name.replace(', ', '_')}.npz"
        self.settings = {name: str(value) for name, value in vars(settings).items() if name != "output"}
        self.epochs = []
        if self.file.exists():
            with np.load(self.file) as kept:
                before, self.epochs = json.loads(str(kept["run"]))
                if before != self.settings:
                    raise SystemExit(f"{self.file} is of a run with {before}; choose another --output")
                for index, variable in enumerate(self._variables()):
                    variable.assign(kept[str(index)])

    def _variables(self):
        return [*self.model.variables, *self.model.optimizer.variables]

    def train(self, train, validation):
        """Trains one epoch and keeps the result."""
        start = time.process_time()
        x, y = train
        order = np.random.default_rng([self.seed, len(self.epochs)]).permutation(len(x))
        history = self.model.fit(x[order], y[order], batch_size=self.batch, shuffle=False, verbose=0).history
        scores = self.model.evaluate(*validation, batch_size=250, verbose=0, return_dict=True)
        epoch = {name: values[0] for name, values in history.items()} | {"validation": scores["accuracy"]}
        epoch["finite"] = all(np.isfinite(keras.ops.convert_to_numpy(v)).all() for v in self.model.variables)
        self.epochs.append(epoch | {"seconds": time.process_time() - start})
        values = {str(index): keras.ops.convert_to_numpy(v) for index, v in enumerate(self._variables())}
        with atomic_write(self.file) as temporary, temporary.open("wb") as stream:
            np.savez(stream, run=json.dumps([self.settings, self.epochs]), **values)


def print_growth(spec, x, y):
    """Prints how gradients grow towards the input in untrained networks of a sixth of the blocks."""
    blocks = sum(stage.depth for stage in spec.stages)
    shallow = spec.replace(depths=[-(-stage.depth // 6) for stage in spec.stages])
    for name, network in (("residual", shallow), ("plain", shallow.plain())):
        profile = reszoo.diagnosis.gradient_profile(reszoo.create(network), x[:50], y[:50])
        decades = math.log10(profile.gain) * blocks
        growth = (
            f"gradients grow by {profile.gain:.3f} a block towards the input; over {blocks} blocks by 1e{decades:.0f}"
        )
        print(f"{name}, {reszoo.cost(network).depth} layers: {growth}")


def draw(contestants, file, network):
    """Writes the accuracies as a picture."""
    lines = []
    for contestant in contestants:
        for key, name, weight in (("accuracy", "training", "normal"), ("validation", "validation", "bold")):
            values = [100 * epoch[key] for epoch in contestant.epochs]
            lines.append(Line(f"{contestant.name}: {name}", values, kind=contestant.kind, weight=weight))
    caption = f"Accuracy of {network} and its plain twin by epoch; dotted: chance."
    settings = {"xlabel": "epoch", "ylabel": "accuracy in %", "reference": 10.0}
    draw_lines(lines, name=file.stem, title="1,001 layers", caption=caption, **settings).save(file)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", help="Fashion-MNIST's training images: a .npz with x and y")
    parser.add_argument("--output", type=Path, default=Path("runs/thousand_layers"))
    parser.add_argument("--network", default="preact_resnet1001_cifar")
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--pixels", type=int, default=14, choices=(7, 14, 28))
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--validation", type=int, default=500)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--rate", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    settings = parser.parse_args()
    settings.output.mkdir(parents=True, exist_ok=True)
    describe("reszoo", "keras", keras.backend.backend())
    train, validation = images(settings.file, settings.examples, settings.validation, settings.pixels)
    spec = reszoo.spec(settings.network, input_shape=train[0].shape[1:], width_multiplier=settings.width, classes=10)
    print_growth(spec, *train)
    contestants = []
    for name, kind, network, rate in (
        ("residual", "residual", spec, settings.rate),
        ("plain", "plain", spec.plain(), settings.rate),
        ("plain, low rate", "control", spec.plain(), settings.rate / 10),
    ):
        cost = reszoo.cost(network)
        print(f"{name}: {cost.depth:,} layers, {cost.params:,} parameters, learning rate {rate:g}")
        contestants.append(Contestant(name, kind, network, settings, rate))
    print("epoch  network          training loss  accuracy  validation  seconds of CPU", flush=True)
    for number in range(settings.epochs):
        for contestant in contestants:
            if len(contestant.epochs) == number:
                contestant.train(train, validation)
            epoch = contestant.epochs[number]
            accuracies = f"{100 * epoch['accuracy']:7.1f}%  {100 * epoch['validation']:9.1f}%"
            losses = f"{number + 1:5}  {contestant.name:15}  {epoch['loss']:13.4f}"
            remark = "" if epoch["finite"] else "  weights are not finite"
            print(f"{losses}  {accuracies}  {epoch['seconds']:14.0f}{remark}", flush=True)
    print("chance: 10.0%, loss 2.3026")
    draw(contestants, settings.output / "thousand_layers.png", settings.network)


if __name__ == "__main__":
    main()
