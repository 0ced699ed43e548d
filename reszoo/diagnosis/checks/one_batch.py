"""A training on a few examples alone: a network that cannot even fit those learns nothing from many."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import zip_longest
from math import isfinite
from typing import Any

import keras
import numpy as np
from keras import tree

from reszoo.diagnosis.causes import Cause
from reszoo.diagnosis.checks.data import HIDDEN, features_of
from reszoo.diagnosis.examples import class_numbers
from reszoo.diagnosis.program import Program
from reszoo.diagnosis.trial import OneBatch, Trainee, Trial, stopwatch
from reszoo.types import Array, KerasModel

COUNT = 16
"""Examples of the batch."""
STEPS = 150
FEWEST = 60
"""Fewest steps after which anything is said."""
SECONDS = 3.0
FITS = 0.5
"""Share of a constant prediction's loss that has to go for a batch to count as fit."""
FAILS = 0.15
"""Share below which it counts as not fit; between the two nothing is said."""
LITTLE = 0.2
"""Gain of the best rate over many examples from which on no training on a few is needed."""
UNITS = 64


def one_batch(program: Program, trial: Trial, trainee: Trainee) -> OneBatch | None:
    """Returns a training on 16 different examples from the same weights; None if there is no need or no time for it.

    The rate is the best one of the trial; where that fails, the program's own and a tenth of the best are tried too.
    """
    rows = _rows(program)
    if trial.gain(trial.best) >= LITTLE or rows is None:
        return None
    runs = []
    for rate in dict.fromkeys((trial.advised.rate, trial.rate, trial.advised.rate / 10)):
        run = _fit(trainee, rows, rate)
        if run is None or run.gain >= FITS:
            return run
        runs.append(run)
    return max(runs, key=lambda run: run.gain)


def batch_rate_causes(program: Program, run: OneBatch, trial: Trial, trainee: Trainee) -> Iterator[Cause]:
    """Yields a rate that is too high: at it a few examples are not fit, which are at a lower one in the same steps."""
    if run.gain < FITS or run.rate >= trial.rate:
        return
    own = _fit(trainee, np.array(run.rows), trial.rate)
    if own is None or own.gain >= FAILS:
        return
    yield Cause(
        "learning_rate",
        f"{len(run.rows)} examples alone are not fit in {own.steps} steps at the rate {trial.rate:g}: the loss falls "
        f"{own.gain:.0%} below that of the best constant prediction; at {run.rate:.3g} {run.gain:.0%} in {run.steps}",
        "the learning rate is too high",
        f"optimizer=keras.optimizers.{type(program.optimizer).__name__}({run.rate:.3g})",
        certain=False,
        evidence={"gain": own.gain, "gain at the lower rate": run.gain, "lower rate": run.rate},
    )


def one_batch_causes(
    program: Program,
    run: OneBatch,
    *,
    relaxed: Callable[[], Trainee],
    other: Callable[[], Trainee],
    control: Callable[[], Trainee | None],
) -> Iterator[Cause]:
    """Yields why a network cannot fit a few examples.

    Args:
        program: the program.
        run: its training on them.
        relaxed: returns the program without dropout and weight penalties.
        other: returns the program with the optimizer of the control.
        control: returns a network of one hidden layer, for the same examples; None if there is none for such inputs.
    """
    if run.gain >= FAILS:
        return
    rows = np.array(run.rows)
    seen = (
        f"{len(rows)} examples alone are not fit in {run.steps} steps: the loss falls {run.gain:.0%} below that of the "
        "best constant prediction"
    )
    if _restrains(program.model):
        free = _fit(relaxed(), rows, run.rate)
        if free is not None and free.gain >= FITS:
            yield Cause(
                "regularization",
                f"{seen}; without dropout and weight penalties {free.gain:.0%}",
                "what is learned is taken away again",
                "keras.layers.Dropout(0.2)  # and kernel_regularizer=None",
                certain=False,
                evidence={"gain": run.gain, "without": free.gain},
            )
            return
    network = control()
    plain = None if network is None else _fit(network, np.arange(len(rows)), network.rate)
    if plain is None or plain.gain < FITS:
        return
    same = other()
    for rate in (same.rate, same.rate / 10):
        adam = _fit(same, rows, rate)
        if adam is not None and adam.gain >= FITS:
            yield Cause(
                "optimizer",
                f"{seen}; with Adam at {rate:g} in place of {_described(program.optimizer)} {adam.gain:.0%}",
                "the steps are too small or in a useless direction, at every learning rate that was tried",
                f"optimizer=keras.optimizers.Adam({rate:g})",
                certain=False,
                evidence={"gain": run.gain, "with Adam": adam.gain},
            )
            return
    shallow = len(program.weighted) < 2
    yield Cause(
        "layers" if shallow else "layer_properties",
        f"{seen}; a network of one hidden layer of {UNITS} units gets {plain.gain:.0%} below it",
        "a hidden layer is missing" if shallow else "a layer lets too little pass, or the wrong thing",
        HIDDEN if shallow else "wider layers: the narrowest one decides what the last one can tell apart",
        certain=False,
        evidence={"gain": run.gain, "one hidden layer": plain.gain},
    )


def with_adam(program: Program, copy: KerasModel, seed: int) -> Trainee:
    """Returns a copy of a program, or another network in its place, that trains with Adam at 0.01."""
    optimizer = keras.optimizers.Adam(0.01)
    return Trainee(program, copy, rate=0.01, loss=program.outputs[0].loss, seed=seed, optimizer=optimizer)


def reference(program: Program, rows: Array, seed: int) -> Trainee | None:
    """Returns a network of one hidden layer that reads some examples as rows and has the program's output and loss."""
    output = program.outputs[0]
    features, shape = features_of(program, rows), tuple(side or 0 for side in output.shape)
    if features is None or len(program.outputs) > 1 or 0 in shape:
        return None
    start = keras.initializers.HeNormal(seed)
    inputs = keras.Input(features.shape[1:])
    x = keras.layers.Dense(UNITS, "relu", kernel_initializer=start)(inputs)
    x = keras.layers.Dense(int(np.prod(shape)), kernel_initializer=keras.initializers.GlorotUniform(seed))(x)
    x = keras.layers.Reshape(shape)(x)
    model = keras.Model(inputs, keras.layers.Activation(output.activation)(x))
    few = replace(output, y=output.y[rows], weights=output.weights_of(rows))
    alone = replace(program, x=features.astype("float32"), outputs=(few,))
    return with_adam(alone, model, seed)


def _described(optimizer: Any) -> str:
    """Returns the class of an optimizer with what limits its steps: `SGD(clipnorm=1e-06)`."""
    limits = {name: getattr(optimizer, name, None) for name in ("clipnorm", "clipvalue", "global_clipnorm")}
    text = ", ".join(f"{name}={value:g}" for name, value in limits.items() if value is not None)
    return f"{type(optimizer).__name__}{f'({text})' if text else ''}"


def _fit(trainee: Trainee, rows: Array, rate: float) -> OneBatch | None:
    """Returns a training on some examples; None if the time is not enough, or the loss is still falling."""
    # Repeated to the usual size of a batch, for which the step is compiled already.
    batch = np.resize(rows, max(trainee.batch, len(rows)))
    trainee.start(rate=rate)
    trainee.step(batch)
    trainee.start(rate=rate)
    elapsed, gain, before = stopwatch(), 0.0, 0.0
    for step in range(1, STEPS + 1):
        if not isfinite(trainee.step(batch)):
            return OneBatch(tuple(rows.tolist()), rate, step, 0.0)
        late = elapsed() > SECONDS
        if step % 30 == 0 or late:
            loss, constant = trainee.scores(rows)
            before, gain = gain, max(0.0, (constant - loss) / (abs(constant) or 1.0))
            if gain >= FITS:
                break
        if late:
            if step < FEWEST:
                return None
            break
    if gain < FITS and gain - before > 0.02:
        # It is slow, and gets there.
        return None
    return OneBatch(tuple(rows.tolist()), rate, step, float(gain))


def _rows(program: Program) -> Array | None:
    """Returns examples with different inputs, of every class in turn; None where they have one true value only."""
    output = program.outputs[0]
    valid = program.finite_rows[:2000]
    numbers = class_numbers(output.y[valid]) if output.form in ("one-hot", "binary", "classes") else None
    order = np.arange(len(valid))
    if numbers is not None:
        # The first example of every class, then the second one, ...
        same = [np.flatnonzero(numbers == number) for number in np.unique(numbers)]
        order = np.concatenate([np.array(turn) for turn in zip_longest(*same, fillvalue=-1)])
        order = order[order >= 0]
    chosen: dict[bytes, int] = {}
    for index in order:
        row = valid[index]
        key = b"".join(np.asarray(part)[row].tobytes() for part in tree.flatten(program.x))
        chosen.setdefault(key, int(row))
        if len(chosen) == COUNT:
            break
    rows = np.array([*chosen.values()])
    y = output.y[rows] if len(rows) else output.y[:0]
    # The four rows of a truth table are few, but all there is.
    least = COUNT // 2 if len(program.weighted) > 1 else 4
    return rows if len(rows) >= least and (y != y[:1]).any() else None


def _restrains(model: KerasModel) -> bool:
    every = model._flatten_layers(include_self=False, recursive=True)
    return any("Dropout" in type(layer).__name__ and layer.rate > 0 for layer in every) or any(
        getattr(variable, "regularizer", None) is not None for variable in model.trainable_variables
    )
