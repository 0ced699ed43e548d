"""What pretraining is worth: shipped weights fine-tuned on digits, beside random ones, and beside the plain twin."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from reszoo.arch import zoo
from reszoo.data.sources import Data
from reszoo.weights.catalogue import record

NETWORKS = ("resnet20_cifar", "plain20_cifar")
WEIGHTS = "fashion_mnist"
SIZE = 16
"""Side that the 8x8 digits are shown in, in pixels."""
RECIPE = {"batch": 64, "epochs": 3, "momentum": 0.9}
RATES = {"pretrained": 0.02, "from scratch": 0.1}
"""Greatest learning rate: random weights want a larger one."""


@dataclass(frozen=True, slots=True)
class Transferred:
    """One network after its training."""

    name: str
    start: str
    """pretrained or from scratch."""
    accuracies: tuple[float, ...]
    """Test accuracy after every epoch, in inference mode."""


def runs() -> Iterator[tuple[str, str]]:
    """Returns every network with every start, the ones with shortcuts first."""
    return ((name, start) for name in NETWORKS for start in RATES)


def transfer(name: str, start: str, data: Data, *, seed: int = 0, verbose: str | int = "auto") -> Transferred:
    """Returns what a network of the zoo reaches on digits with `fit()`.

    Args:
        name: with weights that are shipped.
        start: `pretrained` or `from scratch`.
        data: digits, shown at `SIZE` pixels.
        seed: of weights and data order.
        verbose: as in `fit()`.
    """
    import keras

    from reszoo.training.metadata import scaling_for

    keras.utils.set_random_seed(seed)
    scaled = replace(data, scaling=scaling_for(record(f"{name}.{WEIGHTS}"), data))
    spec = zoo.spec(name, input_shape=scaled.shape, classes=len(scaled.classes))
    model = _model(spec, start)
    x, y = scaled.arrays("train")
    batch, epochs = int(RECIPE["batch"]), int(RECIPE["epochs"])
    steps = epochs * -(-len(x) // batch)
    warmup = {"warmup_target": RATES[start], "warmup_steps": steps // 5}
    rate = keras.optimizers.schedules.CosineDecay(RATES[start] / 10, steps - steps // 5, **warmup)
    optimizer = keras.optimizers.SGD(rate, momentum=RECIPE["momentum"], nesterov=True)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    held = scaled.arrays("test")
    history = model.fit(x, y, batch_size=batch, epochs=epochs, validation_data=held, verbose=verbose).history
    return Transferred(name, start, tuple(history["val_accuracy"]))


def _model(spec: Any, start: str) -> Any:
    from reszoo.arch.build import build
    from reszoo.training.fine_tune import replace_head
    from reszoo.weights.load import pretrained

    if start == "from scratch":
        return build(spec)
    return replace_head(pretrained(spec, WEIGHTS), classes=spec.head.classes)
