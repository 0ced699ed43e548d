"""A trial: a copy of the program trains for a few steps at several learning rates, from the same weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from math import isfinite
from time import perf_counter, process_time
from typing import Any

import numpy as np
from keras import ops

from reszoo.diagnosis.autodiff import without_gradient
from reszoo.diagnosis.copies import optimizer_of
from reszoo.diagnosis.flatten import flatten
from reszoo.diagnosis.losses import constant_loss
from reszoo.diagnosis.objective import compiled_loss_weights, compiled_losses
from reszoo.diagnosis.output import Output
from reszoo.diagnosis.program import Program
from reszoo.types import Array, KerasModel, Tensor

STEPS = 40
"""Steps at each rate, if time allows; at least `FEWEST`."""
FEWEST = 10
BATCH = 64
"""Greatest batch of a trial."""
EXAMPLES = 256
"""Examples on which the loss is measured before and after."""
SECONDS = 6.0
"""Time for all rates together."""
RATES = 6
NOTHING = 0.05
"""Share of a constant prediction's loss below which a gain counts as nothing."""


@dataclass(frozen=True)
class Run:
    """A short training at one learning rate."""

    rate: float
    losses: tuple[float, ...]
    """Loss of every training step."""
    end: float
    """Loss afterwards on the fixed examples; infinity if training diverged."""

    @property
    def swing(self) -> float:
        """Returns the mean rise of the loss from one step to the next, relative to the loss of the first step."""
        rises = np.diff(self.losses).clip(0)
        return float(rises.mean() / abs(self.losses[0])) if len(rises) and self.losses[0] else 0.0


@dataclass(frozen=True)
class OneBatch:
    """A training on a few examples alone, again and again: a network that learns at all can fit them."""

    rows: tuple[int, ...]
    """Indices of the examples; their inputs differ."""
    rate: float
    steps: int
    gain: float
    """Share of the loss of the best constant prediction that is gone afterwards."""


@dataclass(frozen=True)
class Trial:
    """Short trainings of one program at several learning rates."""

    rate: float
    """The program's own learning rate."""
    runs: tuple[Run, ...]
    """Sorted by rate."""
    start: float
    """Loss before, on the fixed examples."""
    constant: float
    """Loss of the best constant prediction on them."""
    steps: int
    batch: int
    rows: Array
    """Indices of the training examples of every step, one row a step."""
    one_batch: OneBatch | None = None
    """A training on a few examples alone, where the runs learned little."""

    @property
    def own(self) -> Run:
        """Returns the run at the program's own rate."""
        return next(run for run in self.runs if run.rate == self.rate)

    @property
    def best(self) -> Run:
        """Returns the run with the least loss afterwards."""
        return min(self.runs, key=lambda run: run.end)

    @property
    def advised(self) -> Run:
        """Returns the run at the least rate that gains nearly as much (nine tenths) as the best."""
        return next(run for run in self.runs if self.gain(run) >= 0.9 * self.gain(self.best))

    def gain(self, run: Run) -> float:
        """Returns the share of the constant prediction's loss that a run gets below it; at least 0."""
        return self.gain_of(run.end)

    def gain_of(self, loss: float) -> float:
        """Returns the share of the constant prediction's loss that a loss is below it; at least 0."""
        size = abs(self.constant) or 1.0
        return max(0.0, (self.constant - loss) / size) if isfinite(loss) else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Returns the rates and losses as plain data."""
        ends = [run.end if isfinite(run.end) else str(run.end) for run in self.runs]
        return {
            "rate": self.rate,
            "rates": [run.rate for run in self.runs],
            "loss_after": ends,
            "loss_before": self.start,
            "loss_of_a_constant": self.constant,
            "steps": self.steps,
            "batch_size": self.batch,
            "swings": [run.swing if isfinite(run.swing) else str(run.swing) for run in self.runs],
            "one_batch": None if self.one_batch is None else asdict(self.one_batch),
        }


class Trainee:
    """A compiled copy of a program that trains from the same weights again and again."""

    def __init__(self, program: Program, copy: KerasModel, *, rate: float, loss: Any, seed: int, optimizer: Any = None):
        self.model, self.rate = copy, rate
        self._program = program
        settings = {"loss": loss, "loss_weights": compiled_loss_weights(program.model), "jit_compile": False}
        copy.compile(optimizer or optimizer_of(program.model, rate=rate), **settings)
        copy.optimizer.build(copy.trainable_variables)
        self._variables = [*copy.variables, *copy.optimizer.variables]
        self._before = [np.array(ops.convert_to_numpy(variable)) for variable in self._variables]
        valid = program.finite_rows
        self.batch = min(program.batch_size or 32, BATCH, len(valid))
        random = np.random.default_rng(seed)
        laps = 1 + 4 * STEPS * self.batch // len(valid)
        order = np.concatenate([random.permutation(valid) for _ in range(laps)])
        self._order = order[: len(order) // self.batch * self.batch].reshape(-1, self.batch)
        graphs = [flatten(copy, output=number) for number in range(len(program.outputs))]
        losses = zip(graphs, compiled_losses(copy), program.outputs, strict=True)
        self._outputs = [replace(output, loss=loss, graph=graph) for graph, loss, output in losses]
        self.fixed = np.unique(self._order[:STEPS])[:EXAMPLES]
        self.seconds = 0.0

    def start(self, *, rate: float) -> None:
        """Restores the first weights and the state of the optimizer, and sets the rate."""
        for variable, value in zip(self._variables, self._before, strict=True):
            variable.assign(value)
        self.model.optimizer.learning_rate = rate

    def train(self, steps: int, *, first: int = 0) -> list[float]:
        """Returns the losses of the next steps; stops early where one is not finite."""
        losses = []
        for rows in self._order[np.arange(first, first + steps) % len(self._order)]:
            losses.append(self.step(rows))
            if not isfinite(losses[-1]):
                break
        return losses

    def advance(self, first: int, last: int, *, time_left: Callable[[], bool]) -> tuple[int, bool]:
        """Trains from one step to another while there is time; returns the step reached, and whether that is finite."""
        reached = first
        while reached < last and time_left():
            losses = self.train(min(10, last - reached), first=reached)
            reached += len(losses)
            if not isfinite(losses[-1]):
                return reached, False
        return reached, True

    def step(self, rows: Array) -> float:
        """Returns the loss of a training step on some examples."""
        elapsed = stopwatch()
        y = [output.y[rows] for output in self._outputs]
        weights = self._weights(rows)
        result = self.model.train_on_batch(self._program.inputs(rows), y if len(y) > 1 else y[0], weights)
        self.seconds = elapsed()
        return float(np.ravel(result)[0])

    def _weights(self, rows: Array) -> Any:
        """Returns the weights of some examples in the form of `train_on_batch`."""
        weights = [output.weights_of(rows) for output in self._outputs]
        if all(one is None for one in weights):
            return None
        filled = [np.ones(len(rows), "float32") if one is None else one for one in weights]
        return filled if len(filled) > 1 else filled[0]

    def rows(self, steps: int) -> Array:
        """Returns the examples of the first steps."""
        return self._order[np.arange(steps) % len(self._order)]

    def loss(self) -> float:
        """Returns the loss of the fixed examples: no dropout, norms with the statistics of these examples."""
        return self.scores()[0]

    def scores(self, rows: Array | None = None) -> tuple[float, float]:
        """Returns the loss of the fixed or of other examples, and that of the best constant prediction."""
        rows = self.fixed if rows is None else rows
        with without_gradient():
            total = sum(self._loss(output, values, rows) for output, values in self._values(rows))
        trained = [output for output in self._outputs if output.loss is not None]
        constant = sum(constant_loss(output, output.y[rows], output.weights_of(rows)) for output in trained)
        return (total if isfinite(total) else float("inf")), constant

    def _values(self, rows: Array) -> Iterator[tuple[Output, Tensor]]:
        x = self._program.inputs(rows)
        for output in self._outputs:
            if output.loss is not None:
                graph = output.graph
                yield output, graph.run(x, outputs=[graph.output], statistics="batch")[graph.output]

    @staticmethod
    def _loss(output: Output, values: Tensor, rows: Array) -> float:
        return float(ops.convert_to_numpy(output.objective(output.y[rows], values, output.weights_of(rows))))


def stopwatch() -> Callable[[], float]:
    """Returns a function that returns the seconds since now: of the clock or of the processor, whichever are fewer.

    Trials are cut off by it, so that other programs on a busy machine change no verdict.

    Example:
        >>> seconds = stopwatch()
        >>> 0 <= seconds() < 60
        True
    """
    wall, processor = perf_counter(), process_time()
    return lambda: min(perf_counter() - wall, process_time() - processor)


def sweep(trainee: Trainee, *, seconds: float = SECONDS) -> Trial:
    """Returns short trainings at the program's own rate, ten times and a tenth of it, and further where those help."""
    rate = trainee.rate
    start, constant = trainee.scores()
    elapsed = stopwatch()
    trainee.start(rate=rate)
    trainee.train(2)
    steps = int(np.clip(seconds / RATES / max(trainee.seconds, 1e-4), FEWEST, STEPS))
    runs: dict[float, Run] = {}

    def run(factor: float) -> Run:
        trainee.start(rate=rate * factor)
        losses = trainee.train(steps)
        end = trainee.loss() if len(losses) == steps and isfinite(losses[-1]) else float("inf")
        return runs.setdefault(factor, Run(rate * factor, tuple(losses), end))

    for factor in (1.0, 10.0, 0.1):
        run(factor)
    while len(runs) < RATES and elapsed() < 2 * seconds:
        best = min(runs, key=lambda factor: runs[factor].end)
        if isfinite(runs[1.0].end) and constant - runs[1.0].end > (constant - runs[best].end) / 2 > 0:
            break
        nothing = not constant - runs[best].end > NOTHING * abs(constant)
        if best == min(runs) or not isfinite(runs[best].end):
            run(min(runs) / 10)
        elif best == max(runs):
            # Where even a hundred times the rate learns nothing, in larger strides.
            run(best * (30 if nothing and best >= 100 else 10))
        elif (above := min(factor for factor in runs if factor > best)) > 20 * best:
            # The large stride went too far.
            run((best * above) ** 0.5)
        elif nothing:
            # A rate that kills every unit ends as a constant: lower ones may get there more slowly.
            run(min(runs) / 10)
        else:
            break
    ordered = tuple(runs[factor] for factor in sorted(runs))
    return Trial(rate, ordered, start, constant, steps, trainee.batch, trainee.rows(steps))
