"""The founding experiment (He 2015, Fig. 6) in two minutes: residual nets and their plain twins at two depths."""

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
from reszoo.training.recipes import Recipe, recipe as named

RECIPE = "quickstart"


@dataclass(frozen=True, slots=True)
class QuickstartRun:
    """One network after its training; losses are cross-entropies in nats, accuracies in [0, 1]."""

    name: str
    depth: int
    kind: str
    """plain or residual."""
    params: int
    losses: tuple[float, ...]
    """Mean training loss of every epoch, BatchNorm using the batch's own statistics."""
    batch_accuracy: float
    """Training accuracy over the last epoch, in the same mode."""
    train_accuracy: float
    """Training accuracy afterwards, BatchNorm using its moving statistics (inference mode)."""
    test_accuracy: float
    """Test accuracy, in inference mode."""


def specs(depths: Sequence[int], data: Data) -> list[NetSpec]:
    """Returns the narrow CIFAR form of every depth (6n + 2) and its plain twin: equal in parameters by option A.

    Raises:
        ReszooError: a depth that is not 6n + 2, or fewer than two depths.
    """
    found = []
    for depth in depths:
        if depth < 8 or (depth - 2) % 6 or len(set(depths)) < 2:
            raise ReszooError(
                "depths", got=tuple(depths), expected="two different depths of the form 6n + 2: 8, 14, 20, ..."
            )
        residual = zoo.spec(
            "resnet20_cifar",
            name=f"resnet{depth}",
            depths=(depth - 2) // 6,
            width_multiplier=0.5,
            input_shape=data.shape,
            classes=len(data.classes),
        )
        found += [residual.plain().replace(name=f"plain{depth}"), residual]
    return found


def run(
    spec: NetSpec, data: Data, *, recipe: str | Recipe = RECIPE, seed: int = 0, verbose: str | int = "auto"
) -> QuickstartRun:
    """Returns what a network reaches with a recipe, trained with `fit()`."""
    import keras

    from reszoo.arch.build import build
    from reszoo.training.optimizers import compile_for

    keras.utils.set_random_seed(seed)
    model = build(spec)
    x, y = data.arrays("train")
    how = named(recipe)
    steps = how.epochs * -(-len(x) // how.batch)
    compile_for(model, how, steps=steps, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    history: dict[str, Any] = model.fit(x, y, batch_size=how.batch, epochs=how.epochs, verbose=verbose).history
    counted = cost(plan(spec))
    return QuickstartRun(
        name=spec.name,
        depth=counted.depth,
        kind="plain" if spec.block.shortcut == "none" else "residual",
        params=counted.params,
        losses=tuple(history["loss"]),
        batch_accuracy=history["accuracy"][-1],
        train_accuracy=_accuracy(model, x, y),
        test_accuracy=_accuracy(model, *data.arrays("test")),
    )


def _accuracy(model: Any, x: Any, y: Any) -> float:
    """Accuracy in inference mode, without tracing one more graph for so few images."""
    import keras

    return float((keras.ops.convert_to_numpy(model(x, training=False)).argmax(axis=-1) == y).mean())


def reading(results: Sequence[QuickstartRun]) -> list[str]:
    """Returns what the numbers say, and what they do not."""
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
        f"BatchNorm: {gap.name} gets {gap.batch_accuracy:.1%} of its training images right with the batch's statistics "
        f"and {gap.train_accuracy:.1%} with the moving ones, after so short a run; the table has both",
        "One seed, one learning rate, a short run on small images: a mechanism, not a benchmark. A lower rate or "
        "another initialisation narrows the gap; that gradients vanish is not shown (He 2015, 4.1, says they do not)",
    ]
