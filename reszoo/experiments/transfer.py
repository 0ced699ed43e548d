"""What pretraining is worth: shipped weights fine-tuned on digits, beside random ones, and beside the plain twin."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from reszoo.arch import zoo
from reszoo.data.sources import Data
from reszoo.training.recipes import recipe
from reszoo.weights.catalogue import record

NETWORKS = ("resnet20_cifar", "plain20_cifar")
WEIGHTS = "fashion_mnist"
SIZE = 16
"""Side that the 8x8 digits are shown in, in pixels."""
RECIPES = {"pretrained": "transfer", "from scratch": "transfer_from_scratch"}
"""Start -> recipe: random weights want a larger learning rate."""


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
    return ((name, start) for name in NETWORKS for start in RECIPES)


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
    from reszoo.training.optimizers import compile_for

    keras.utils.set_random_seed(seed)
    scaled = replace(data, scaling=scaling_for(record(f"{name}.{WEIGHTS}"), data))
    spec = zoo.spec(name, input_shape=scaled.shape, classes=len(scaled.classes))
    model = _model(spec, start)
    x, y = scaled.arrays("train")
    how = recipe(RECIPES[start])
    steps = how.epochs * -(-len(x) // how.batch)
    compile_for(model, how, steps=steps, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    held = scaled.arrays("test")
    fitted = model.fit(x, y, batch_size=how.batch, epochs=how.epochs, validation_data=held, verbose=verbose)
    history = fitted.history
    return Transferred(name, start, tuple(history["val_accuracy"]))


def _model(spec: Any, start: str) -> Any:
    from reszoo.arch.build import build
    from reszoo.training.fine_tune import replace_head
    from reszoo.weights.load import pretrained

    if start == "from scratch":
        return build(spec)
    return replace_head(pretrained(spec, WEIGHTS), classes=spec.head.classes)
