"""Short runs under one budget: every network sees the same examples in the same order for equally many steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from reszoo.arch.build import build, refuse_channels_first
from reszoo.arch.cost import cost
from reszoo.arch.loops import Looped
from reszoo.arch.plan import plan
from reszoo.arch.recover import stock_model
from reszoo.arch.spec import NetSpec
from reszoo.arch.stacked_optimizers import innermost, steps_by_element
from reszoo.data.arrays import Arrays
from reszoo.data.sources import Data, Examples, Scaling
from reszoo.experiments.contestants import TrainingBudget
from reszoo.training.optimizers import optimizer
from reszoo.types import Array, KerasModel

LAST = 0.1
"""Fraction of the steps, at the end, whose mean is the training loss of a run."""
SCORED = 2048
"""Maximum number of examples for accuracies."""


@dataclass(frozen=True, slots=True)
class Run:
    """Results of one training; losses are cross-entropies in nats, accuracies in [0, 1]."""

    network: str
    depth: int
    """Weighted layers."""
    params: int
    rate: float
    seed: int
    losses: tuple[float, ...]
    """Of every step, with batch statistics in batch norms."""
    batch_accuracy: float
    """Training accuracy after training, in the same mode."""
    moving_loss: float
    """Training loss after training, with moving statistics in batch norms (inference mode)."""
    moving_accuracy: float
    """Training accuracy in inference mode."""
    test_accuracy: float | None
    """Test accuracy in inference mode, where the data has a test part."""

    def __repr__(self) -> str:
        name = f"{self.network[:40]!r}, {self.depth} layers, rate {self.rate:g}, seed {self.seed}"
        return f"Run({name}: loss {self.loss:.4f}, accuracy {self.moving_accuracy:.4f})"

    @property
    def loss(self) -> float:
        """Training loss: the mean over the last tenth of the steps; infinite if that is NaN or infinite."""
        mean = float(np.mean(self.losses[-max(1, round(LAST * len(self.losses))) :]))
        return mean if np.isfinite(mean) else float("inf")


class Trainer:
    """Trains one network repeatedly, traced once; every run starts from new weights."""

    def __init__(self, spec: NetSpec, data: Data, budget: TrainingBudget):
        """Prepares the runs of a network.

        Args:
            spec: with the data's input shape and classes; it is trained on logits, without its softmax.
            data: examples.
            budget: of every run.

        Raises:
            ReszooError: Keras is set to `channels_first`.
        """
        refuse_channels_first(spec)
        self.spec = spec.replace(classifier_activation=None)
        self._budget, self._data = budget, data
        self._cost = cost(plan(self.spec))
        self._network: KerasModel | None = None

    def run(self, *, rate: float, seed: int) -> Run:
        """Returns the results of one training."""
        network = self._prepare(rate, seed)
        x, y = self._data.arrays("train")
        losses = []
        for indices in _order(len(y), self._budget.recipe.batch, self._budget.steps, seed):
            network.reset_metrics()
            losses.append(float(network.train_on_batch(x[indices], y[indices])))
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

    def initial_model(self, seed: int) -> KerasModel:
        """Returns the network before training as an ordinary model, without its softmax."""
        keras.utils.set_random_seed(seed)
        return build(self.spec)

    def model(self) -> KerasModel:
        """Returns the network of the last run as an ordinary model, without its softmax."""
        assert self._network is not None, "no run yet"
        return stock_model(self._network)

    def _prepare(self, rate: float, seed: int) -> KerasModel:
        """The network before its first step."""
        if self._network is None:
            recipe = self._budget.recipe
            constant = recipe.learning_rate.model_copy(update={"kind": "constant", "warmup": 0.0, "peak": rate})
            recipe = recipe.model_copy(update={"learning_rate": constant})
            exact = all(steps_by_element(each) for each in innermost(optimizer(recipe, 1, None)))
            self._network = Looped(self.spec) if exact else build(self.spec)
            method = optimizer(recipe, self._budget.steps, self._network)
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            self._network.compile(method, loss, jit_compile=_jit_compile(self.spec))
            method.build(self._network.trainable_variables)
        keras.utils.set_random_seed(seed)
        if isinstance(self._network, Looped):
            self._network.draw()
        else:
            self._network.set_weights(build(self.spec).get_weights())
        for variable in self._network.optimizer.variables:
            variable.assign(keras.ops.zeros(variable.shape, dtype=variable.dtype))
        self._network.optimizer.learning_rate = rate
        return self._network

    def _score(self, x: Array, y: Array, *, training: bool) -> tuple[float, float]:
        """Loss and accuracy; the stateless forward pass changes no variable in either mode."""
        assert self._network is not None
        weights = (
            [v.value for v in self._network.trainable_variables],
            [v.value for v in self._network.non_trainable_variables],
        )
        logits, _ = self._network.stateless_call(*weights, x, training=training)
        logits = keras.ops.convert_to_numpy(logits).astype("float64")
        shifted = logits - logits.max(axis=1, keepdims=True)
        losses = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(y)), y]
        return float(losses.mean()), float((logits.argmax(axis=1) == y).mean())


def _jit_compile(spec: NetSpec) -> bool | str:
    """Returns whether XLA compiles the training step.

    Loops over small dense layers are four times faster with XLA, compilation included; convolutions on a CPU are
    slower. Keras' default leaves it off on TensorFlow without a GPU; on PyTorch the argument means another compiler.
    """
    return True if spec.dense and keras.backend.backend() == "tensorflow" else "auto"


def rows(data: Data) -> Data:
    """Returns the data with every example flattened and scaled, as dense networks need it."""

    def flat(part: Examples | None) -> Arrays | None:
        if part is None:
            return None
        x = data.scaling(part.take(range(len(part))))
        return Arrays(x.reshape(len(x), -1), part.labels)

    parts: dict[str, Any] = {name: flat(getattr(data, name)) for name in ("train", "validation", "test")}
    return replace(data, scaling=Scaling(1.0, (0.0,), (1.0,)), **parts)


def _order(count: int, batch: int, steps: int, seed: int) -> Iterator[Array]:
    """Indices of the examples of every step: passes in random order, cut into full batches."""
    random, batch = np.random.default_rng(seed), min(batch, count)
    queue = random.permutation(count)
    for _ in range(steps):
        if len(queue) < batch:
            queue = np.concatenate([queue, random.permutation(count)])
        yield queue[:batch]
        queue = queue[batch:]
