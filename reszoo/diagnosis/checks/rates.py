"""The settings of training: rates out of the usual ones, and those that a trial shows to be; steps, batches."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from math import isfinite
from typing import NamedTuple

import keras

from reszoo.diagnosis.causes import Cause
from reszoo.diagnosis.program import USUAL_STEPS, Program
from reszoo.diagnosis.trial import Run, Trainee, Trial, stopwatch

USUAL = {"SGD": (1e-5, 1.0), "Adadelta": (1e-3, 10.0), "Adagrad": (1e-4, 1.0), "Ftrl": (1e-4, 1.0)}
"""Optimizer -> usual learning rates; the defaults of Keras and the papers lie inside."""
ADAPTIVE = (1e-6, 0.1)
"""Those of optimizers that divide by the size of the gradient (Adam, RMSprop, ...): a step moves every weight by about
the rate."""
LEAST = 0.05
"""Gain over the best constant prediction below which no rate counts as learning anything."""
SHARE = 0.2
"""Share of the best rate's gain below which the program's own rate is at fault. A factor of two in so few steps says
nothing of a longer training; one of five does."""
SWING = 0.1
"""Mean rise of the loss a step, relative to the first loss, from which on it goes up and down."""
CALMER = 3.0
"""Factor by which it has to rise more than at the better rate, on the same batches."""
LONGEST = 600
"""Steps to which the program's own training is followed."""
SECONDS = 4.0
FADED = 0.01
"""Share of a schedule's greatest rate below which training goes on in name only."""
HORIZON = 10
"""Steps over which momentum and Adam average gradients (1 / (1 - 0.9))."""


def rate_trial_causes(program: Program, trial: Trial, trainee: Trainee) -> Iterator[Cause]:
    """Yields what the runs at several rates show, the program's own followed to its end where that is affordable."""
    best, own = trial.gain(trial.best), trial.gain(trial.own)
    updates = program.updates
    low = best >= LEAST and own < SHARE * best and trial.best.rate > trial.rate
    short = updates is not None and 4 * updates <= LONGEST
    marks = _follow(trainee, trial, updates) if low or short else []
    if updates is not None:
        yield from _epochs(updates, marks, trial)
    if best >= LEAST and own >= SHARE * best:
        yield from _swings(trial, type(program.optimizer).__name__)
    if best < LEAST or own >= SHARE * best:
        return
    name = type(program.optimizer).__name__
    evidence = {
        "learning rate": trial.rate,
        "loss after": trial.own.end,
        "better rate": trial.advised.rate,
        "its loss after": trial.advised.end,
        "loss of a constant": trial.constant,
    }
    if trial.best.rate < trial.rate:
        end = f"ends at {trial.own.end:.3g}" if isfinite(trial.own.end) else "diverges"
        yield _rate("high", end, trial, name, evidence)
        return
    lower = [run for run in trial.runs if run.rate > trial.rate and trial.gain(run) >= best / 2]
    needed = trial.steps * min(run.rate for run in lower) / trial.rate
    # A rate that gets there in a longer training is not too low: that is a matter of epochs.
    later = max((trial.gain_of(mark.end) for mark in marks), default=0.0)
    within = max((trial.gain_of(mark.end) for mark in marks if mark.steps <= (updates or LONGEST)), default=0.0)
    learned = later if later > LEAST else within
    allowed = updates or USUAL_STEPS
    if needed > allowed and learned < SHARE * best and not _gets_there(trial, marks, allowed):
        yield _rate("low", f"ends at {trial.own.end:.3g}", trial, name, evidence)


def _swings(trial: Trial, name: str) -> Iterator[Cause]:
    """Yields a rate at which the loss goes up and down while a lower one gets further on the same batches."""
    own, better = trial.own, trial.best
    worse = better.rate < own.rate and trial.gain(own) < trial.gain(better) / 2
    if not worse or own.swing < SWING or own.swing < CALMER * better.swing:
        return
    start = next(step for step, (a, b) in enumerate(pairwise(own.losses), 2) if b - a > SWING * abs(own.losses[0]))
    yield Cause(
        "learning_rate",
        f"from step {start} on the loss goes up and down at the rate {own.rate:g}, by {own.swing:.0%} of the first "
        f"loss a step; at {better.rate:.3g} by {better.swing:.0%}, on the same batches",
        "the steps overshoot: the learning rate is too high",
        f"optimizer=keras.optimizers.{name}({better.rate:.3g})",
        certain=False,
        evidence={"swing": own.swing, "swing at the better rate": better.swing, "loss after": own.end},
        loss_without=_relative(trial, own),
        loss_with=_relative(trial, better),
    )


def _rate(size: str, end: str, trial: Trial, name: str, evidence: dict[str, float]) -> Cause:
    better = trial.advised
    return Cause(
        "learning_rate",
        f"in {trial.steps} steps from the same weights the rate {trial.rate:g} {end}, the rate {better.rate:.3g} at "
        f"{better.end:.3g}; the best constant prediction has {trial.constant:.3g}",
        f"the learning rate is too {size}",
        f"optimizer=keras.optimizers.{name}({better.rate:.3g})",
        certain=False,
        evidence=evidence,
        loss_without=_relative(trial, trial.own),
        loss_with=_relative(trial, better),
    )


def _relative(trial: Trial, run: Run) -> float | None:
    return run.end / trial.constant if isfinite(run.end) and trial.constant > 0 else None


class Mark(NamedTuple):
    """How far the program's own training is after some steps."""

    steps: int
    end: float
    """Loss on the fixed examples."""


def _follow(trainee: Trainee, trial: Trial, updates: int | None) -> list[Mark]:
    """Returns marks along the program's own training, up to four times its length."""
    longest = min(4 * updates, LONGEST) if updates else LONGEST
    trainee.start(rate=trial.rate)
    marks: list[Mark] = []
    reached, elapsed = 0, stopwatch()
    for mark in sorted({min(updates or longest, longest), longest}):
        reached, finite = trainee.advance(reached, mark, time_left=lambda: elapsed() <= SECONDS)
        if not finite:
            return marks
        marks.append(Mark(reached, trainee.loss()))
        if reached < mark:
            break
    return marks


def _gets_there(trial: Trial, marks: list[Mark], allowed: int) -> bool:
    """Returns whether the loss, falling as it does, is below that of a constant prediction within some steps."""
    if not marks or not trial.start > marks[-1].end:
        return False
    pace = (trial.start - marks[-1].end) / marks[-1].steps
    return trial.start - pace * allowed < trial.constant * (1 - LEAST)


def _epochs(updates: int, marks: list[Mark], trial: Trial) -> Iterator[Cause]:
    """Yields a training that ends before anything is learned, though it would go on to learn."""
    own = next((mark for mark in marks if mark.steps == updates), None)
    later = max((trial.gain_of(mark.end) for mark in marks if mark.steps > updates), default=None)
    at_end = None if own is None else trial.gain_of(own.end)
    grows = at_end is not None and later is not None and later > LEAST and at_end < 2 * LEAST and later > 2 * at_end
    if not grows and updates > HORIZON:
        return
    seen = f"fit() takes {updates} steps"
    evidence = {"steps": float(updates)}
    if at_end is not None and later is not None:
        seen += f": the loss is then {at_end:.0%} below that of the best constant prediction, and {later:.0%} later on"
        evidence |= {"gain at the end": at_end, "gain later on": later}
    more = max(10, round(1000 / updates)) if updates < 100 else 10
    yield Cause(
        "epochs",
        seen,
        "training stops long before it is done",
        f"model.fit(x, y, epochs={more} * epochs)",
        certain=False,
        evidence=evidence,
    )


def rate_causes(program: Program) -> Iterator[Cause]:
    """Yields learning rates outside the usual ones of the optimizer."""
    rate = program.rate
    if rate is None:
        return
    name = type(program.optimizer).__name__
    low, high = USUAL.get(name, ADAPTIVE)
    if low <= rate * (1 + 1e-6) and rate <= high * (1 + 1e-6):
        return
    size = "high" if rate > high else "low"
    usual = 0.01 if name in USUAL else 0.001
    yield Cause(
        "learning_rate",
        f"the learning rate {rate:g} of {name} is unusually {size}",
        "the weights overshoot" if size == "high" else "the weights hardly move",
        f"optimizer=keras.optimizers.{name}({usual:g})",
        certain=False,
        evidence={
            "learning rate": rate,
            f"{'greatest' if size == 'high' else 'least'} usual one": high if size == "high" else low,
        },
    )


def schedule_causes(program: Program) -> Iterator[Cause]:
    """Yields a schedule that has faded away within the first epoch and a twentieth of the training, or is always 0."""
    rates, rate = program.rates, program.rate
    if not rates or rate is None:
        return
    last, end = max((step for step, value in rates.items() if value > FADED * rate), default=0), max(rates)
    if last > min(end / 20, program.steps_of_epoch):
        return
    yield Cause(
        "learning_rate",
        f"the schedule begins at {rates[0]:.3g} and is at {rates[end]:.3g} after {end} steps; it is below a hundredth "
        f"of its greatest rate {'from the start' if rate == 0 else f'after at most {last + end // 40 + 1} steps'}",
        "the weights stay where they are then",
        f"keras.optimizers.schedules.CosineDecay({rate or 0.001:.3g}, decay_steps)  # the steps of the whole training",
        certain=False,
        evidence={"steps": float(end), "last step above a hundredth": float(last)},
    )


def batch_causes(program: Program) -> Iterator[Cause]:
    """Yields a batch of one example for a batch norm of vectors, whose variance is then zero."""
    norms = [
        layer
        for layer in program.layers
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable and len(layer.input.shape) == 2
    ]
    if program.batch_size == 1 and norms:
        yield Cause(
            "batch_size",
            f"batches of one example and the batch norm {norms[0].name}",
            "the mean of one example is the example itself: the norm returns its beta whatever the input is",
            "model.fit(..., batch_size=32)",
            evidence={"batch size": 1},
        )
