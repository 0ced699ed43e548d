"""What a copy that trains shows of a program: its rates, a few examples alone, fewer layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import keras
import numpy as np

from reszoo.diagnosis.anatomy import preserve_variables
from reszoo.diagnosis.causes import Cause
from reszoo.diagnosis.checks.data import relation_causes
from reszoo.diagnosis.checks.one_batch import (
    LITTLE,
    batch_rate_causes,
    one_batch,
    one_batch_causes,
    reference,
    with_adam,
)
from reszoo.diagnosis.checks.rates import LEAST, rate_causes, rate_trial_causes
from reszoo.diagnosis.checks.shallow import shallow_causes
from reszoo.diagnosis.copies import copy_of
from reszoo.diagnosis.examination import Examination, message_of
from reszoo.diagnosis.flatten import functional_inside
from reszoo.diagnosis.measures.result import Result
from reszoo.diagnosis.program import Program
from reszoo.diagnosis.remedies import Remedies
from reszoo.diagnosis.trial import FEWEST, Trainee, Trial, sweep
from reszoo.types import KerasModel

LONGEST_TRIAL = 20.0
"""Seconds that a trial may take at least; where it would take longer, it is left out."""


def add_trial(examination: Examination, seed: int) -> None:
    """Adds a trial of learning rates, and what it shows."""
    program = examination.program
    reason = _no_trial(examination)
    if not reason:
        try:
            with _trainable_copy(program) as copy:
                _train(examination, copy, seed)
        except Exception as error:
            # A custom layer or loss may raise anything when it is made anew or differentiated.
            reason = f"a copy of the model does not train: {message_of(error)}"
    if reason:
        examination.skipped.append(("trial", reason))
        if not examination.works:
            examination.causes += rate_causes(program)
    if not examination.works:
        examination.causes += relation_causes(program, seed=seed)


def _train(examination: Examination, copy: KerasModel, seed: int) -> None:
    """Adds the trial of a copy and its causes."""
    program = examination.program
    loss = program.outputs[0].loss if len(program.outputs) == 1 else program.model.loss
    trainee = Trainee(program, copy, rate=program.rate or 0.0, loss=loss, seed=seed)
    examination.trial = sweep(trainee)
    if examination.trial.gain(examination.trial.own) >= LITTLE:
        examination.results = [*map(refuted, examination.results)]
    examination.causes += _rates(examination, examination.trial, trainee)
    if not examination.works and not examination.kinds - {"epochs"}:
        examination.causes += _few(examination, examination.trial, trainee, seed)
    if not examination.works and not examination.kinds - {"epochs"}:
        examination.causes += shallow_causes(program, examination.trial, trainee, loss=loss, seed=seed)


def refuted(result: Result) -> Result:
    """Returns a result of a program that learns: what its initial weights let through decides nothing then."""
    if result.title not in ("information", "correlation") or result.level not in ("strained", "broken"):
        return result
    return replace(result, level="unknown", verdict=f"{result.verdict}; the trial learns all the same")


@contextmanager
def _trainable_copy(program: Program) -> Iterator[KerasModel]:
    """Returns a context of a copy with the program's weights, or fresh ones after training.

    Layers that cannot be made anew train themselves, and get their weights back.
    """
    fresh = bool(program.steps_taken or program.non_finite_weights)
    try:
        copy = copy_of(program.model, weights=not fresh)
    except Exception:
        if fresh:
            raise
        with preserve_variables(program.model):
            inner = functional_inside(program.model)
            yield keras.Model(inner.input, inner.output)
    else:
        yield copy


def _rates(examination: Examination, trial: Trial, trainee: Trainee) -> Iterator[Cause]:
    causes = [*rate_trial_causes(examination.program, trial, trainee)]
    if "frozen" in examination.kinds:
        # What learns slowly there is the head on random features.
        causes = []
    yield from causes
    # Where no rate learns anything, only the usual ones are known.
    if trial.gain(trial.best) < LEAST and not causes:
        yield from rate_causes(examination.program)


def _few(examination: Examination, trial: Trial, trainee: Trainee, seed: int) -> Iterator[Cause]:
    """Yields why a network that nothing else explains cannot fit a few examples."""
    program = examination.program
    run = one_batch(program, trial, trainee)
    if run is None:
        return
    examination.trial = replace(trial, one_batch=run)

    def relaxed() -> Trainee:
        copy, loss = Remedies(program, {"regularization"}).build()
        return Trainee(program, copy, rate=run.rate, loss=loss, seed=seed)

    rows = np.array(run.rows)
    yield from one_batch_causes(
        program,
        run,
        relaxed=relaxed,
        other=lambda: with_adam(program, Remedies(program).build()[0], seed),
        control=lambda: reference(program, rows, seed),
    )
    yield from batch_rate_causes(program, run, trial, trainee)


def _no_trial(examination: Examination) -> str:
    """Returns why there can be no trial; an empty text if there can."""
    program = examination.program
    if program.optimizer is None or all(output.loss is None for output in program.outputs):
        return "the model is not compiled with an optimizer and a loss"
    if program.own_training:
        return f"{program.own_training} is the model's own"
    if not program.model.trainable_variables:
        return "nothing is trainable"
    if any(title == "loss" for title, _ in examination.skipped) or len(program.finite_rows) < 2:
        return "the loss cannot be computed"
    share = 3 * min(program.batch_size or 32, 32, len(examination.rows)) / len(examination.rows)
    if examination.seconds * share * FEWEST * 3 > LONGEST_TRIAL:
        # The first run is slower: layers compile in it.
        examination.compute_losses()
    if (step := examination.seconds * share) * FEWEST * 3 > LONGEST_TRIAL:
        return f"a training step takes about {step:.1f} s"
    return ""
