"""The experiments of the quickstart: degradation (He et al. 2015, Fig. 6), and the benefit of pretraining."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from reszoo.arch import zoo
from reszoo.arch.cost import cost
from reszoo.arch.plan import plan
from reszoo.arch.spec import NetSpec
from reszoo.data.sources import Data
from reszoo.errors import ReszooError
from reszoo.training.recipes import Recipe, recipe as load_recipe
from reszoo.types import Array, KerasModel
from reszoo.weights.catalogue import record

RECIPE = "quickstart"


@dataclass(frozen=True, slots=True)
class QuickstartRun:
    """Results of one trained network; losses are cross-entropies in nats, accuracies in [0, 1]."""

    name: str
    depth: int
    kind: str
    """plain or residual."""
    params: int
    losses: tuple[float, ...]
    """Mean training loss of every epoch, with batch statistics in BatchNorm."""
    batch_accuracy: float
    """Training accuracy over the last epoch, in the same mode."""
    train_accuracy: float
    """Training accuracy after training, with moving statistics in BatchNorm (inference mode)."""
    test_accuracy: float
    """Test accuracy, in inference mode."""

    def __repr__(self) -> str:
        return f"QuickstartRun({self.name[:40]!r}: loss {self.losses[-1]:.3f}, test accuracy {self.test_accuracy:.4f})"


def specs(depths: Sequence[int], data: Data) -> list[NetSpec]:
    """Returns the narrow CIFAR ResNet of every depth (6n + 2) and its plain twin, with equal parameters (option A).

    Raises:
        ReszooError: a depth that is not 6n + 2, or fewer than two depths.
    """
    specs = []
    for depth in depths:
        if depth < 8 or (depth - 2) % 6 or len(set(depths)) < 2:
            expected = "two different depths of the form 6n + 2: 8, 14, 20, ..."
            raise ReszooError("depths", got=tuple(depths), expected=expected)
        residual = zoo.spec(
            "resnet20_cifar",
            name=f"resnet{depth}",
            depths=(depth - 2) // 6,
            width_multiplier=0.5,
            input_shape=data.shape,
            classes=len(data.classes),
        )
        specs += [residual.plain().replace(name=f"plain{depth}"), residual]
    return specs


def run(
    spec: NetSpec, data: Data, *, recipe: str | Recipe = RECIPE, seed: int = 0, verbose: str | int = "auto"
) -> QuickstartRun:
    """Returns the results of a network trained with a recipe and `fit()`; without a terminal it prints few lines."""
    import keras

    from reszoo.arch.build import build

    keras.utils.set_random_seed(seed)
    model = build(spec)
    x, y = data.arrays("train")
    history = _fit(model, x, y, load_recipe(recipe), verbose)
    total = cost(plan(spec))
    return QuickstartRun(
        name=spec.name,
        depth=total.depth,
        kind="plain" if spec.block.shortcut == "none" else "residual",
        params=total.params,
        losses=tuple(history["loss"]),
        batch_accuracy=history["accuracy"][-1],
        train_accuracy=_accuracy(model, x, y),
        test_accuracy=_accuracy(model, *data.arrays("test")),
    )


def _fit(
    model: KerasModel, x: Array, y: Array, settings: Recipe, verbose: str | int, **options: Any
) -> dict[str, list[float]]:
    """The history of training a model by a recipe; `options` are those of `fit()`."""
    from reszoo.training.callbacks import progress
    from reszoo.training.optimizers import compile_for

    steps = settings.epochs * -(-len(x) // settings.batch)
    compile_for(model, settings, steps=steps, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    options |= {"batch_size": settings.batch, "epochs": settings.epochs, **progress(verbose)}
    history: dict[str, list[float]] = model.fit(x, y, **options).history
    return history


def _accuracy(model: KerasModel, x: Array, y: Array) -> float:
    """Accuracy in inference mode, without tracing another graph for a few images."""
    import keras

    return float((keras.ops.convert_to_numpy(model(x, training=False)).argmax(axis=-1) == y).mean())


def reading(results: Sequence[QuickstartRun]) -> list[str]:
    """Returns the interpretation of the results, with its limits."""
    lines = []
    for kind in ("plain", "residual"):
        shallow, *_, deep = sorted((item for item in results if item.kind == kind), key=lambda item: item.depth)
        change = deep.losses[-1] - shallow.losses[-1]
        verdict = "deeper is worse in training: degradation" if change > 0.1 else "deeper is no worse in training"
        lines.append(
            f"{kind}: training loss {shallow.losses[-1]:.3f} at {shallow.depth} layers, {deep.losses[-1]:.3f} at "
            f"{deep.depth} ({change:+.3f}): {verdict}"
        )
    gap = max(results, key=lambda item: abs(item.batch_accuracy - item.train_accuracy))
    return [
        *lines,
        f"BatchNorm: after this short run the training accuracy of {gap.name} is {gap.batch_accuracy:.1%} with batch "
        f"statistics and {gap.train_accuracy:.1%} with moving ones; the table shows both",
        "One seed and one learning rate, short runs on small images: a demonstration, not a benchmark. A lower rate or "
        "another initialization narrows the gap; it is no evidence of vanishing gradients (see He 2015, 4.1)",
    ]


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


def transfer(name: str, start: str, data: Data, *, seed: int = 0) -> Transferred:
    """Returns the test accuracies of a network trained on digits with `fit()`.

    Args:
        name: of a network with shipped weights.
        start: `pretrained` or `from scratch`.
        data: digits, resized to `SIZE` pixels.
        seed: of weights and data order.
    """
    import keras

    from reszoo.training.metadata import scaling_for

    keras.utils.set_random_seed(seed)
    scaled = replace(data, scaling=scaling_for(record(f"{name}.{WEIGHTS}"), data))
    spec = zoo.spec(name, input_shape=scaled.shape, classes=len(scaled.classes))
    model = _model(spec, start, classes=len(scaled.classes))
    x, y = scaled.arrays("train")
    history = _fit(model, x, y, load_recipe(RECIPES[start]), "auto", validation_data=scaled.arrays("test"))
    return Transferred(name, start, tuple(history["val_accuracy"]))


def _model(spec: NetSpec, start: str, *, classes: int) -> KerasModel:
    from reszoo.arch.build import build
    from reszoo.training.heads import replace_head
    from reszoo.weights.load import pretrained

    if start == "from scratch":
        return build(spec)
    return replace_head(pretrained(spec, WEIGHTS), classes=classes)
