"""The degradation experiment of He et al. (2015, Fig. 6) in two minutes: residual and plain nets at two depths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reszoo.arch import zoo
from reszoo.arch.cost import cost
from reszoo.arch.plan import plan
from reszoo.arch.spec import NetSpec
from reszoo.data.sources import Data
from reszoo.errors import ReszooError
from reszoo.training.recipes import Recipe, recipe as load_recipe
from reszoo.types import Array, KerasModel

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
    from reszoo.training.callbacks import progress
    from reszoo.training.optimizers import compile_for

    keras.utils.set_random_seed(seed)
    model = build(spec)
    x, y = data.arrays("train")
    settings = load_recipe(recipe)
    steps = settings.epochs * -(-len(x) // settings.batch)
    compile_for(model, settings, steps=steps, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    history: dict[str, Any] = model.fit(
        x, y, batch_size=settings.batch, epochs=settings.epochs, **progress(verbose)
    ).history
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
