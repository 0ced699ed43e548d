"""A callback that reports during `fit()` when something goes wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from math import hypot, isfinite, isnan, sqrt
from threading import Lock
from time import perf_counter
from typing import Any

import keras

from reszoo.diagnosis.causes import Cause
from reszoo.diagnosis.examine import read_causes
from reszoo.diagnosis.flatten import flatten, functional
from reszoo.diagnosis.program import Program, read_program
from reszoo.diagnosis.units import units_of
from reszoo.errors import ReszooError
from reszoo.training.callbacks import non_finite_weights
from reszoo.types import Tensor

DEAD = 0.25
"""Rise of the share of dead units since the start of training at which it is reported."""
STILL = 1e-3
"""Relative change of the loss over three epochs below which it stands still."""
WINDOW, NOISE = 6, 4.0
"""Epochs over which a loss goes up and down, and standard errors that a rise has to exceed."""
RISE = 2.0
"""Factor over the loss of the first epoch at which training diverges."""


class Doctor(keras.callbacks.Callback):
    """Prints one line when something goes wrong during training: each kind of cause once.

    Always: a loss or weights that are NaN or infinite; a loss that rises, goes up and down, or stands still. With a few
    examples also, before the first step, everything that can be read from the program and the data, and after every
    epoch units that have died. It takes the losses that Keras reports anyway, and one inference of the examples an
    epoch; training itself is unchanged.

    Example:
        >>> import keras, numpy as np, reszoo
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, "softmax")])
        >>> model.compile("adam", "binary_crossentropy")
        >>> x, y = np.eye(2, dtype="float32"), np.arange(2)
        >>> _ = model.fit(x, y, verbose=0, callbacks=[doctor := reszoo.Doctor(x, y, report=None)])
        >>> doctor
        Doctor(1 cause: output_activation)
    """

    def __init__(
        self,
        x: Tensor = None,
        y: Tensor = None,
        *,
        report: Callable[[str], object] | None = print,
        share: float = 0.02,
    ) -> None:
        """Creates the callback.

        Args:
            x: a few inputs, 64 to 512; optional.
            y: their true values, as for `fit`.
            report: is called with every line; None for silence.
            share: of the time of training that looking at the examples may take; epochs are left out for it.

        Raises:
            ReszooError: only one of `x` and `y`.
        """
        super().__init__()
        if (x is None) != (y is None):
            raise ReszooError("Doctor", got="one of x and y", expected="both, or neither")
        self._x, self._y = x, y
        self._report = report
        self._share, self._spent, self._begun = share, 0.0, 0.0
        self._program: Program | None = None
        self._read: Any = None
        self._dead = 0.0
        self._step = 0
        self._losses: list[float] = []
        self._errors: list[float] = []
        self._means: dict[int, float] = {}
        self._lock = Lock()
        # Keras need not wait for the numbers of a batch: batches may come in any order, and from several threads.
        self.async_safe = True
        self.history: list[tuple[int, Cause]] = []
        """Step and cause, in the order in which they came up."""

    def __repr__(self) -> str:
        kinds = ", ".join(cause.kind for _, cause in self.history)
        count = len(self.history)
        return f"Doctor({count or 'no'} cause{'s' * (count != 1)}{': ' * bool(kinds)}{kinds})"

    def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:
        self._losses, self._errors = [], []
        if self._x is None:
            return
        self._spent, self._begun = 0.0, perf_counter()
        self._read = self.model
        settings = {"loss": None, "batch_size": None, "epochs": self.params.get("epochs")}
        self._program = replace(read_program(self.model, self._x, self._y, **settings), steps=self.params.get("steps"))
        for cause in read_causes(self._program):
            self._add(cause)
        self._dead = self._dead_share()
        self._spent = perf_counter() - self._begun

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self._means = {}

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        self._means[batch + 1] = loss = float((logs or {}).get("loss", 0.0))
        if not isfinite(loss):
            step = self._step + batch + 1
            self._add(_diverged(f"the loss is {'NaN' if isnan(loss) else 'infinite'} at step {step}"), step)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self._step += max(self._means, default=0)
        loss = (logs or {}).get("loss")
        if loss is None or not isfinite(loss):
            return
        # Fused kernels of TensorFlow on CPUs drop NaN: the loss of such a network is a usual number.
        paths = non_finite_weights(self.model)
        if paths:
            self._add(
                _diverged(f"{len(paths)} variables hold NaN or infinity after epoch {epoch + 1}: {paths[0]}, ...")
            )
            return
        self._losses.append(float(loss))
        self._errors.append(_standard_error(_losses_of_batches(self._means)))
        for cause in self._of_losses():
            self._add(cause)
        begun = perf_counter()
        if self._program is not None and self._spent <= self._share * (begun - self._begun):
            share = self._dead_share()
            if share - self._dead > DEAD:
                self._add(_died(share, self._dead))
            self._spent += perf_counter() - begun

    def _of_losses(self) -> Iterator[Cause]:
        first, last = self._losses[0], self._losses[-1]
        if last > RISE * abs(first) and last > min(self._losses):
            yield _diverged(f"the loss of epoch {len(self._losses)} is {last:.3g}, that of the first one {first:.3g}")
        yield from swings(self._losses, self._errors)
        recent = self._losses[-4:]
        # Only from the start: a loss that stands still later on has converged.
        if len(self._losses) == 4 and max(recent) - min(recent) < STILL * abs(first):
            yield Cause(
                "learning_rate",
                f"the loss stands still at {last:.4g} since the first epoch",
                "nothing is learned: the learning rate is far too low, or no gradient arrives",
                "reszoo.diagnose(model, x, y)",
                certain=False,
                evidence={"first epoch": first, "this epoch": last},
            )

    def _dead_share(self) -> float:
        # On JAX, reading self.model updates its variables to the last step.
        model = self.model
        assert self._program is not None
        graph = self._program.graph if self._read is model else flatten(functional(model, self._x))
        units = [*units_of(graph, self._x, [], duplicates=False)]
        return sum(layer.dead for layer in units) / max(sum(layer.count for layer in units), 1)

    def _add(self, cause: Cause, step: int | None = None) -> None:
        step = self._step if step is None else step
        with self._lock:
            if any(cause.kind == other.kind for _, other in self.history):
                return
            self.history.append((step, cause))
        if self._report is not None:
            self._report(f"Doctor, step {step}: {cause.kind}: {cause.seen}. {' '.join(cause.remedy.split())}")


def swings(losses: Sequence[float], errors: Sequence[float]) -> Iterator[Cause]:
    """Yields a loss that goes up and down: over six epochs it rises by more than half of all that was ever gained.

    Rises within four standard errors of the mean over an epoch's batches are noise, and do not count.

    Args:
        losses: of every epoch.
        errors: the standard errors of these means.
    """
    first = len(losses) - WINDOW
    if first < 0:
        return
    rises = {}
    for epoch in range(max(first, 1), len(losses)):
        rise = losses[epoch] - losses[epoch - 1]
        if rise > NOISE * hypot(errors[epoch], errors[epoch - 1]):
            rises[epoch + 1] = rise
    gained = losses[0] - min(losses)
    if len(rises) < 2 or sum(rises.values()) < max(0.5 * gained, 0.02 * abs(losses[0])):
        return
    epoch, rise = next(iter(rises.items()))
    yield Cause(
        "learning_rate",
        f"the loss goes up and down: it rises in {len(rises)} of the last {WINDOW} epochs, first by {rise:.3g} in "
        f"epoch {epoch}, by more than {NOISE:g} standard errors each; it has gained {gained:.3g} since the first epoch",
        "the steps overshoot: the learning rate is too high",
        "a third of the learning rate",
        certain=False,
        evidence={"rises": sum(rises.values()), "gained since the first epoch": gained},
    )


def _losses_of_batches(means: Mapping[int, float]) -> list[float]:
    """Returns the loss of every batch, or mean of a few, from the means of an epoch so far, which Keras reports."""
    counts = sorted(means)
    sums = [0.0, *(count * means[count] for count in counts)]
    pairs = zip(pairwise(sums), pairwise([0, *counts]), strict=True)
    return [(after - before) / (last - first) for (before, after), (first, last) in pairs]


def _standard_error(values: Sequence[float]) -> float:
    """Returns the standard error of the mean of an epoch's batches; 0 for fewer than two."""
    count = len(values)
    mean = sum(values) / max(count, 1)
    return sqrt(sum((value - mean) ** 2 for value in values) / (count - 1) / count) if count > 1 else 0.0


def _diverged(seen: str) -> Cause:
    return Cause(
        "learning_rate",
        seen,
        "a step was too large: the learning rate is too high, or a number in the data is not finite",
        "a tenth of the learning rate",
        certain=False,
    )


def _died(share: float, before: float) -> Cause:
    return Cause(
        "dead_units",
        f"{share:.0%} of the units are zero for every example; {before:.0%} at the start",
        "they get no gradient and never change again",
        "a lower learning rate",
        evidence={"dead": share, "at the start": before},
    )
