"""Depth pruning: the least important blocks are removed, and fine-tuning recovers the accuracy."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

import keras
import numpy as np

from reszoo.arch.cost import cost
from reszoo.arch.plan import plan
from reszoo.arch.recover import spec_of, stock_model
from reszoo.data.sources import Data, open_data
from reszoo.diagnosis.anatomy import preserve_variables, take_apart
from reszoo.diagnosis.blocks import Block
from reszoo.diagnosis.measures.lesion import accuracy_without, removable
from reszoo.errors import ReszooError
from reszoo.notebook import html_table
from reszoo.surgery import drop_blocks, fixed_blocks
from reszoo.training.batches import Batches
from reszoo.training.callbacks import progress
from reszoo.training.losses import loss
from reszoo.training.optimizers import compile_for
from reszoo.training.recipes import Recipe, recipe as recipe_by_name
from reszoo.types import KerasModel, Tensor

MAX_RECOVERABLE_DROP = 0.4
"""Greatest drop in accuracy by a cut from which fine-tuning may recover."""


@dataclass(frozen=True, repr=False)
class Pruned:
    """A network with fewer blocks, and its accuracy and cost before and after."""

    model: KerasModel
    """The smaller network, fine-tuned."""
    dropped: tuple[str, ...]
    """Names of the removed blocks."""
    accuracy: float
    """Accuracy of the original network on the validation examples."""
    accuracy_cut: float
    """Accuracy without the blocks, before fine-tuning."""
    accuracy_after: float
    """Accuracy after fine-tuning."""
    macs: tuple[int, int]
    """Multiply-accumulates before and after."""
    params: tuple[int, int]
    """Trainable parameters before and after."""
    seconds: tuple[float, float]
    """Median time of a batch of validation examples, before and after."""

    def __repr__(self) -> str:
        savings = f"{len(self.dropped)} blocks removed, {self.macs_saved:.1%} of MACs saved"
        return f"Pruned({self.model.name}: {savings}, accuracy {self.accuracy:.1%} to {self.accuracy_after:.1%})"

    def _repr_html_(self) -> str:
        rows = [
            ("validation accuracy", f"{self.accuracy:.2%}", f"{self.accuracy_after:.2%}"),
            ("MACs", *self.macs),
            ("parameters", *self.params),
            ("seconds per batch", *(f"{seconds:.4f}" for seconds in self.seconds)),
        ]
        note = f"Removed blocks: {', '.join(self.dropped) or 'none'}"
        return html_table(("", "before", "after"), rows, title=f"{self.model.name}, pruned", note=note)

    @property
    def macs_saved(self) -> float:
        """Returns the share of the multiply-accumulates that is saved."""
        return 1 - self.macs[1] / self.macs[0]


def prune_depth(
    model: KerasModel,
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
    verbose: str | int = "auto",
) -> Pruned:
    """Returns the network without its least important blocks, fine-tuned (Veit 2016; lesion study).

    Blocks are removed one by one, each time the one whose removal costs least on training examples, as long as
    fine-tuning may recover the loss (the cut costs at most forty points). Then the network is fine-tuned. If the
    validation accuracy falls by more than `keep_accuracy`, a third fewer blocks are removed, and so on.

    Example:
        >>> import numpy as np, reszoo
        >>> x = np.random.default_rng(0).normal(size=(80, 8)).astype("float32")
        >>> model = reszoo.create("residual_mlp18", input_shape=(8,), width_multiplier=1 / 32, classes=2)
        >>> y = (x[:, 0] > 0).astype(int)
        >>> small = reszoo.prune_depth(model, (x, y), epochs=1, keep_accuracy=1.0, verbose=0)
        >>> small.params[1] < small.params[0]
        True

    Args:
        model: a trained network that reszoo built; it is not changed.
        data: the data it was trained on (`open_data`), or a source of them.
        keep_accuracy: greatest loss of accuracy, as a share: 0.005 is half a point.
        recipe: the recipe of fine-tuning, or its name.
        epochs: epochs of fine-tuning, by default the recipe's.
        learning_rate: peak learning rate, by default the recipe's.
        batch: examples per step, by default the recipe's.
        examples: number of training examples for the lesion study.
        seed: random seed of the order of examples.
        verbose: as in `fit()`.

    Raises:
        ReszooError: the model is not a reszoo network, is plain, or has no removable block.
    """
    source = data if isinstance(data, Data) else open_data(data, seed=seed)
    source.check_classes("prune_depth")
    if not keep_accuracy >= 0:
        raise ReszooError(
            "prune_depth.keep_accuracy", got=keep_accuracy, expected="a share of at least 0, such as 0.005"
        )
    recipe = recipe_by_name(recipe, **({"batch": batch} if batch else {}))
    if learning_rate is not None:
        recipe = recipe_by_name(recipe, learning_rate={"peak": learning_rate})
    epochs = recipe.epochs if epochs is None else epochs
    settings: dict[str, Any] = {"batch": recipe.batch, "classes": len(source.classes), "scaling": source.scaling}
    model = stock_model(model)
    logits = spec_of(model).head.activation == "linear"
    validation = Batches(source.validation, **settings)
    intact = _accuracy(model, validation)
    order = _order(model, source, examples, seed)
    count = len(order)
    pruned, accuracy, accuracy_cut = model, intact, intact
    while count:
        pruned = drop_blocks(model, order[:count])
        accuracy_cut = _accuracy(pruned, validation)
        train = Batches(source.train, seed=seed, augmentation=recipe.augmentation, **settings)
        compile_for(pruned, recipe, steps=max(epochs * len(train), 1), loss=loss(recipe, from_logits=logits))
        pruned.fit(train, epochs=epochs, shuffle=False, **progress(verbose))
        accuracy = _accuracy(pruned, validation)
        if accuracy >= intact - keep_accuracy:
            break
        count = count * 2 // 3
    if not count:
        pruned, accuracy, accuracy_cut = drop_blocks(model, ()), intact, intact
    before, after = (cost(plan(spec_of(network))) for network in (model, pruned))
    x = validation[0][0]
    return Pruned(
        model=pruned,
        dropped=tuple(order[:count]),
        accuracy=intact,
        accuracy_cut=accuracy_cut,
        accuracy_after=accuracy,
        macs=(before.macs, after.macs),
        params=(before.params, after.params),
        seconds=(_seconds(model, x), _seconds(pruned, x)),
    )


def _order(model: KerasModel, source: Data, examples: int, seed: int) -> list[str]:
    """Returns blocks in the order of removal: each is the least important without those before it.

    The order ends where the accuracy falls by more than `MAX_RECOVERABLE_DROP`.
    """
    network = take_apart(model)
    immovable = {*fixed_blocks(spec_of(model))}
    remaining = [block for block in removable(network) if block.residual and block.name not in immovable]
    if not remaining:
        raise ReszooError("prune_depth", got="no removable block", expected="blocks with identity shortcuts")
    rows = np.random.default_rng(seed).permutation(len(source.train))[:examples]
    x, labels = source.scaling(source.train.take(rows)), source.train.labels[rows]
    order: list[Block] = []
    with preserve_variables(model):
        intact = accuracy_without(network, x, labels, ())
        # A stage keeps at least one block.
        depths = {part: len(indices) for part, indices in network.parts.items()}
        while candidates := [block for block in remaining if depths[block.part] > 1]:
            scores = [accuracy_without(network, x, labels, [*order, block]) for block in candidates]
            best = int(np.argmax(scores))
            if scores[best] < intact - MAX_RECOVERABLE_DROP:
                break
            order.append(candidates[best])
            depths[candidates[best].part] -= 1
            remaining.remove(candidates[best])
    return [block.name for block in order]


def _accuracy(model: KerasModel, batches: Batches) -> float:
    correct = count = 0
    for index in range(len(batches)):
        x, y = batches[index]
        predictions = keras.ops.convert_to_numpy(model.predict_on_batch(x)).argmax(axis=1)
        correct += int((predictions == y.argmax(axis=1)).sum())
        count += len(y)
    return correct / count


def _seconds(model: KerasModel, x: Tensor) -> float:
    def once() -> float:
        start = perf_counter()
        model.predict_on_batch(x)
        return perf_counter() - start

    once()
    return median(once() for _ in range(5))
