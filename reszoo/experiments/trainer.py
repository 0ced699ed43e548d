"""Short runs under one budget: every network sees the same examples in the same order, for the same number of steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any

import keras
import numpy as np
from pydantic import Field, Strict, field_validator

from reszoo.arch.build import build, refuse_channels_first
from reszoo.arch.cost import cost
from reszoo.arch.plan import plan
from reszoo.arch.spec import Count, NetSpec
from reszoo.config import FrozenModel
from reszoo.data.arrays import Arrays
from reszoo.data.sources import Data, Scaling
from reszoo.experiments.looped import Looped
from reszoo.training.optimizers import optimizer
from reszoo.training.recipes import Positive, Recipe, recipe as named

LAST = 0.1
"""Share of the steps, at the end, whose mean is the training loss of a run."""
SCORED = 2048
"""Examples at most that accuracies are measured on."""


class TrainingBudget(FrozenModel):
    """What every network gets."""

    recipe: Recipe
    """Optimiser and batch; its rate and its epochs are those here."""
    steps: Count
    rates: Annotated[tuple[Positive, ...], Strict(False), Field(min_length=1)]
    """Learning rates that are tried with the first seed: the best counts, and is that of the other seeds."""
    seeds: Annotated[tuple[int, ...], Strict(False), Field(min_length=1)]
    """Of initial weights and data order."""

    @field_validator("recipe", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        return named(value) if isinstance(value, str) else value

    @property
    def summary(self) -> str:
        """The budget in words."""
        rates = ", ".join(f"{rate:g}" for rate in self.rates)
        chosen = f"best of learning rates {rates} for the first seed"
        many = chosen if len(self.rates) > 1 else f"learning rate {rates}"
        return (
            f"{self.steps} steps of {self.recipe.optimizer.kind}, batch {self.recipe.batch}, {many}, "
            f"{len(self.seeds)} seed{'s' * (len(self.seeds) > 1)}"
        )


@dataclass(frozen=True, slots=True)
class Run:
    """One network after its training; losses are cross-entropies in nats, accuracies in [0, 1]."""

    network: str
    depth: int
    """Weighted layers."""
    params: int
    rate: float
    seed: int
    losses: tuple[float, ...]
    """Of every step, batch norms using the batch's own statistics."""
    batch_accuracy: float
    """Training accuracy afterwards, in the same mode."""
    moving_loss: float
    """Training loss afterwards, batch norms using their moving statistics (inference mode)."""
    moving_accuracy: float
    """Training accuracy in inference mode."""
    test_accuracy: float | None
    """Test accuracy in inference mode, where the data has a test part."""

    @property
    def loss(self) -> float:
        """Training loss: the mean of the last tenth of the steps; infinite where it is no number any more."""
        mean = float(np.mean(self.losses[-max(1, round(LAST * len(self.losses))) :]))
        return mean if np.isfinite(mean) else float("inf")


class Trainer:
    """Trains one network again and again, traced once: a new seed or rate starts from new weights."""

    def __init__(self, spec: NetSpec, data: Data, budget: TrainingBudget):
        """Takes note of what is trained.

        Args:
            spec: of the data's input shape and classes; its softmax is left to the loss.
            data: examples.
            budget: what a run may use.

        Raises:
            ReszooError: Keras is set to `channels_first`.
        """
        refuse_channels_first(spec)
        self.spec = spec.replace(classifier_activation=None)
        self._budget, self._data = budget, data
        self._cost = cost(plan(self.spec))
        self._looped: Looped | None = None

    def run(self, *, rate: float, seed: int) -> Run:
        """Returns what one training leads to."""
        looped = self._started(rate, seed)
        x, y = self._data.arrays("train")
        losses = []
        for numbers in _order(len(y), self._budget.recipe.batch, self._budget.steps, seed):
            looped.reset_metrics()
            losses.append(float(looped.train_on_batch(x[numbers], y[numbers])))
        moving_loss, moving_accuracy = self._score(x[:SCORED], y[:SCORED], training=False)
        _, batch_accuracy = self._score(x[:SCORED], y[:SCORED], training=True)
        held = None if self._data.test is None else self._data.arrays("test")
        return Run(
            network=self.spec.name,
            depth=self._cost.depth,
            params=self._cost.params,
            rate=rate,
            seed=seed,
            losses=tuple(losses),
            batch_accuracy=batch_accuracy,
            moving_loss=moving_loss,
            moving_accuracy=moving_accuracy,
            test_accuracy=None if held is None else self._score(held[0][:SCORED], held[1][:SCORED], training=False)[1],
        )

    def fresh(self, seed: int) -> Any:
        """Returns the network before its training as an ordinary model, without its softmax."""
        made = build(self.spec)
        Looped(self.spec, seed=seed).give(made)
        return made

    def model(self) -> Any:
        """Returns the network of the last run as an ordinary model, without its softmax."""
        assert self._looped is not None, "nothing was run yet"
        made = build(self.spec)
        self._looped.give(made)
        return made

    def _started(self, rate: float, seed: int) -> Looped:
        """The network before its first step."""
        # Dropout and the like, where the network has them.
        keras.utils.set_random_seed(seed)
        if self._looped is None:
            self._looped = Looped(self.spec, seed=seed)
            told = self._budget.recipe
            constant = told.learning_rate.model_copy(update={"kind": "constant", "warmup": 0.0, "peak": rate})
            made = optimizer(told.model_copy(update={"learning_rate": constant}), self._budget.steps, self._looped)
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            self._looped.compile(made, loss, jit_compile=_compiled(self.spec))
            made.build(self._looped.trainable_variables)
        self._looped.draw(seed)
        for variable in self._looped.optimizer.variables:
            variable.assign(keras.ops.zeros_like(variable))
        self._looped.optimizer.learning_rate = rate
        return self._looped

    def _score(self, x: Any, y: Any, *, training: bool) -> tuple[float, float]:
        """Loss and accuracy; a forward pass writes nothing, whichever the mode."""
        assert self._looped is not None
        weights = (
            [v.value for v in self._looped.trainable_variables],
            [v.value for v in self._looped.non_trainable_variables],
        )
        logits, _ = self._looped.stateless_call(*weights, x, training=training)
        logits = keras.ops.convert_to_numpy(logits).astype("float64")
        shifted = logits - logits.max(axis=1, keepdims=True)
        losses = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(y)), y]
        return float(losses.mean()), float((logits.argmax(axis=1) == y).mean())


def _compiled(spec: NetSpec) -> bool | str:
    """Whether XLA compiles a training step.

    Loops over small dense layers are four times faster with it, even after its compilation; convolutions on a CPU are
    slower. Keras' own choice leaves it off on TensorFlow without a GPU; on PyTorch it would be another compiler.
    """
    return True if spec.dense and keras.backend.backend() == "tensorflow" else "auto"


def rows(data: Data) -> Data:
    """Returns the data with every example as a row of numbers, scaled: what a dense network reads."""

    def flat(part: Any) -> Any:
        if part is None:
            return None
        x = data.scaling(part.take(range(len(part))))
        return Arrays(x.reshape(len(x), -1), part.labels)

    parts = {name: flat(getattr(data, name)) for name in ("train", "validation", "test")}
    return replace(data, scaling=Scaling(1.0, (0.0,), (1.0,)), **parts)


def _order(count: int, batch: int, steps: int, seed: int) -> Iterator[Any]:
    """Numbers of the examples of every step: whole passes in a new order each, cut into full batches."""
    random, batch = np.random.default_rng(seed), min(batch, count)
    left = random.permutation(count)
    for _ in range(steps):
        if len(left) < batch:
            left = np.concatenate([left, random.permutation(count)])
        yield left[:batch]
        left = left[batch:]
