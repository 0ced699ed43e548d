"""Networks made less deep: blocks that are not missed are taken out, and the rest learns to do without them."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

import keras
import numpy as np

from reszoo.arch.cost import cost
from reszoo.arch.plan import plan
from reszoo.arch.recover import spec_of
from reszoo.data.sources import Data, open_data
from reszoo.diagnosis.anatomy import take_apart, untouched
from reszoo.diagnosis.measures.lesion import accuracy_without, removable
from reszoo.errors import ReszooError
from reszoo.surgery import drop_blocks, fixed
from reszoo.training.batches import Batches
from reszoo.training.optimizers import compile_for, loss
from reszoo.training.recipes import Recipe, recipe as named

HOPE = 0.4
"""How much accuracy a cut may cost for fine-tuning to make up for it."""


@dataclass(frozen=True)
class Pruned:
    """A network made less deep, and what that cost and saved."""

    model: Any
    """Fine-tuned."""
    dropped: tuple[str, ...]
    """Blocks that were taken out."""
    accuracy: float
    """Of the network given, on the examples held out."""
    accuracy_cut: float
    """Without the blocks, before fine-tuning."""
    accuracy_after: float
    """After fine-tuning."""
    macs: tuple[int, int]
    """Multiply-accumulates before and after."""
    params: tuple[int, int]
    """Trainable parameters before and after."""
    seconds: tuple[float, float]
    """Median time of a batch of the examples held out, before and after."""

    @property
    def macs_saved(self) -> float:
        """Share of the multiply-accumulates that is saved."""
        return 1 - self.macs[1] / self.macs[0]


def prune_depth(
    model: Any,
    data: Any,
    /,
    *,
    keep_accuracy: float = 0.005,
    recipe: str | Recipe = "prune",
    epochs: int | None = None,
    learning_rate: float | None = None,
    batch: int | None = None,
    examples: int = 512,
    seed: int = 0,
) -> Pruned:
    """Returns the network without the blocks that are not missed, fine-tuned (Veit 2016; lesion study).

    Blocks are taken out one by one, each time the one whose absence costs least on training examples, as long as
    fine-tuning can be hoped to make up for it (the cut costs at most forty points); then the network learns on. Where
    the accuracy on the examples held out falls by more than `keep_accuracy`, a third fewer are taken out, and so on.

    Args:
        model: a trained network that reszoo built; it stays as it is.
        data: what it was trained on (`open_data`), or a source for that.
        keep_accuracy: how much accuracy may be lost, as a share: 0.005 is half a point.
        recipe: of fine-tuning, or its name.
        epochs: of fine-tuning, by default the recipe's.
        learning_rate: the greatest, by default the recipe's.
        batch: examples of a step, by default the recipe's.
        examples: how many the lesion study looks at.
        seed: of the order of examples.

    Raises:
        ReszooError: the model is not one of reszoo's, is plain, or has no block that can be taken out.
    """
    source = data if isinstance(data, Data) else open_data(data, seed=seed)
    if not keep_accuracy >= 0:
        raise ReszooError(
            "prune_depth.keep_accuracy", got=keep_accuracy, expected="a share of at least 0, such as 0.005"
        )
    how = named(recipe, **({"batch": batch} if batch else {}))
    if learning_rate is not None:
        how = named(how, learning_rate={"peak": learning_rate})
    epochs = how.epochs if epochs is None else epochs
    settings: dict[str, Any] = {"batch": how.batch, "classes": len(source.classes), "scaling": source.scaling}
    logits = spec_of(model).head.activation == "linear"
    held = Batches(source.validation, **settings)
    intact = _accuracy(model, held)
    order = _order(model, source, examples, seed)
    found, accuracy, accuracy_cut, made = len(order), intact, intact, model
    while found:
        made = drop_blocks(model, order[:found])
        accuracy_cut = _accuracy(made, held)
        train = Batches(source.train, seed=seed, augmentation=how.augmentation, **settings)
        compile_for(made, how, steps=max(epochs * len(train), 1), loss=loss(how, from_logits=logits))
        made.fit(train, epochs=epochs, shuffle=False, verbose="auto")
        accuracy = _accuracy(made, held)
        if accuracy >= intact - keep_accuracy:
            break
        found = found * 2 // 3
    if not found:
        made, accuracy, accuracy_cut = drop_blocks(model, ()), intact, intact
    costs = [cost(plan(spec_of(one))) for one in (model, made)]
    x = held[0][0]
    return Pruned(
        model=made,
        dropped=tuple(order[:found]),
        accuracy=intact,
        accuracy_cut=accuracy_cut,
        accuracy_after=accuracy,
        macs=(costs[0].macs, costs[1].macs),
        params=(costs[0].params, costs[1].params),
        seconds=(_seconds(model, x), _seconds(made, x)),
    )


def _order(model: Any, source: Data, examples: int, seed: int) -> list[str]:
    """Blocks in the order in which they are missed least, given that those before are gone, while there is hope."""
    network = take_apart(model)
    held = {*fixed(spec_of(model))}
    left = [block for block in removable(network) if block.residual and block.name not in held]
    if not left:
        raise ReszooError("prune_depth", got="no block that can be taken out", expected="blocks with free shortcuts")
    numbers = np.random.default_rng(seed).permutation(len(source.train))[:examples]
    x, labels = source.scaling(source.train.take(numbers)), source.train.labels[numbers]
    gone: list[Any] = []
    with untouched(model):
        intact = accuracy_without(network, x, labels, ())
        # A stage keeps at least one block.
        stages = {part: len(at) for part, at in network.parts.items()}
        while candidates := [block for block in left if stages[block.part] > 1]:
            scores = [accuracy_without(network, x, labels, [*gone, block]) for block in candidates]
            best = int(np.argmax(scores))
            if scores[best] < intact - HOPE:
                break
            gone.append(candidates[best])
            stages[candidates[best].part] -= 1
            left.remove(candidates[best])
    return [block.name for block in gone]


def _accuracy(model: Any, batches: Any) -> float:
    right = count = 0
    for number in range(len(batches)):
        x, y = batches[number]
        taken = keras.ops.convert_to_numpy(model.predict_on_batch(x)).argmax(axis=1)
        right, count = right + int((taken == y.argmax(axis=1)).sum()), count + len(y)
    return right / count


def _seconds(model: Any, x: Any) -> float:
    def once() -> float:
        begun = perf_counter()
        model.predict_on_batch(x)
        return perf_counter() - begun

    once()
    return median(once() for _ in range(5))
