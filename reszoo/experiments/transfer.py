"""The benefit of pretraining: shipped weights fine-tuned on digits, beside random weights and the plain twin."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from reszoo.arch import zoo
from reszoo.arch.spec import NetSpec
from reszoo.data.sources import Data
from reszoo.training.recipes import recipe
from reszoo.types import KerasModel
from reszoo.weights.catalogue import record

NETWORKS = ("resnet20_cifar", "plain20_cifar")
WEIGHTS = "fashion_mnist"
SIZE = 16
"""Side that the 8x8 digits are resized to, in pixels."""
RECIPES = {"pretrained": "transfer", "from scratch": "transfer_from_scratch"}
"""Start -> recipe: random weights need a larger learning rate."""


@dataclass(frozen=True, slots=True)
class Transferred:
    """Results of one trained network."""

    name: str
    start: str
    """pretrained or from scratch."""
    accuracies: tuple[float, ...]
    """Test accuracy after every epoch, in inference mode."""

    def __repr__(self) -> str:
        accuracy = f"{self.accuracies[-1]:.4f}" if self.accuracies else "none"
        return f"Transferred({self.name!r}, {self.start}: test accuracy {accuracy})"


def runs() -> Iterator[tuple[str, str]]:
    """Returns every network with every start, the residual ones first."""
    return ((name, start) for name in NETWORKS for start in RECIPES)


def transfer(name: str, start: str, data: Data, *, seed: int = 0, verbose: str | int = "auto") -> Transferred:
    """Returns the test accuracies of a network trained on digits with `fit()`.

    Args:
        name: of a network with shipped weights.
        start: `pretrained` or `from scratch`.
        data: digits, resized to `SIZE` pixels.
        seed: of weights and data order.
        verbose: as in `fit()`.
    """
    import keras

    from reszoo.training.callbacks import progress
    from reszoo.training.metadata import scaling_for
    from reszoo.training.optimizers import compile_for

    keras.utils.set_random_seed(seed)
    scaled = replace(data, scaling=scaling_for(record(f"{name}.{WEIGHTS}"), data))
    spec = zoo.spec(name, input_shape=scaled.shape, classes=len(scaled.classes))
    model = _model(spec, start, classes=len(scaled.classes))
    x, y = scaled.arrays("train")
    settings = recipe(RECIPES[start])
    steps = settings.epochs * -(-len(x) // settings.batch)
    compile_for(model, settings, steps=steps, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    held = scaled.arrays("test")
    fit = {"batch_size": settings.batch, "epochs": settings.epochs, "validation_data": held, **progress(verbose)}
    history = model.fit(x, y, **fit).history
    return Transferred(name, start, tuple(history["val_accuracy"]))


def _model(spec: NetSpec, start: str, *, classes: int) -> KerasModel:
    from reszoo.arch.build import build
    from reszoo.training.heads import replace_head
    from reszoo.weights.load import pretrained

    if start == "from scratch":
        return build(spec)
    return replace_head(pretrained(spec, WEIGHTS), classes=classes)
