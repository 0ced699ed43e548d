"""The examination of a program: its causes from checks, measurements and a trial."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any

import keras
import numpy as np

from reszoo.diagnosis.anatomy import preserve_variables
from reszoo.diagnosis.causes import Cause, ranked
from reszoo.diagnosis.checks.data import bad_values, label_causes, relation_causes, scale_causes
from reszoo.diagnosis.checks.examples import contradictions, example_notes
from reszoo.diagnosis.checks.layers import activation_causes, frozen_causes, regularization_causes, weight_causes
from reszoo.diagnosis.checks.measured import depth_causes, norm_causes, unit_causes, weight_values
from reszoo.diagnosis.checks.one_batch import one_batch, one_batch_causes, reference, with_adam
from reszoo.diagnosis.checks.output import output_causes
from reszoo.diagnosis.checks.proportions import weighting_causes
from reszoo.diagnosis.checks.rates import LEAST, batch_causes, rate_causes, rate_trial_causes, schedule_causes
from reszoo.diagnosis.copies import copy_of, own_randomness
from reszoo.diagnosis.flatten import functional_inside
from reszoo.diagnosis.losses import losses_of
from reszoo.diagnosis.measurements import Skipped, anatomy_of, measured
from reszoo.diagnosis.measures.census import Census
from reszoo.diagnosis.measures.result import Result
from reszoo.diagnosis.program import Program
from reszoo.diagnosis.remedies import Remedies
from reszoo.diagnosis.trial import FEWEST, Trainee, Trial, stopwatch, sweep
from reszoo.errors import ReszooError
from reszoo.types import Array, KerasModel

EXAMPLES = 512
"""Greatest number of examples that are measured."""
WORKS = 0.5
"""Share of a constant prediction's loss below which a network evidently works: then nothing is suspected of its
weights, activations, inputs or learning rate."""
LONGEST_TRIAL = 20.0
"""Seconds that a trial may take at least; where it would take longer, it is left out."""


@dataclass
class Examination:
    """The results of an examination so far."""

    program: Program
    rows: Array
    """Indices of the examples that are measured."""
    causes: list[Cause] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    loss: float = float("nan")
    """Loss of the model on the measured examples, as `evaluate` reports it."""
    constant: float = float("nan")
    """Loss of the best constant prediction on them."""
    seconds: float = 0.0
    """Time of one inference of the measured examples."""
    trial: Trial | None = None
    description: str = ""

    @property
    def works(self) -> bool:
        """Returns whether the network is far better than any constant prediction."""
        return isfinite(self.loss) and self.loss < WORKS * self.constant

    @property
    def kinds(self) -> frozenset[str]:
        """Returns the kinds of the causes."""
        return frozenset(cause.kind for cause in self.causes)


def examine(program: Program, *, loss: Any, count: int, trial: bool, seed: int) -> Examination:
    """Returns the examination of a program.

    Args:
        program: the model, its data and settings.
        loss: a loss that replaces the compiled one.
        count: greatest number of examples to measure.
        trial: whether a copy is trained.
        seed: random seed.

    Raises:
        ReszooError: nothing can be examined.
    """
    examination = Examination(program, program.finite_rows[:count])
    with warnings.catch_warnings(), own_randomness(seed):
        # Keras warns of the same programs.
        warnings.simplefilter("ignore")
        _read(examination)
        examination.notes += example_notes(program)
        _measure(examination, loss, seed)
        if trial:
            _try(examination, seed)
    return examination


def read_causes(program: Program) -> Iterator[Cause]:
    """Yields what can be read from a program and its data, without training."""
    examination = Examination(program, program.finite_rows[:EXAMPLES])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _read(examination)
    yield from ranked(examination.causes)


def _read(examination: Examination) -> None:
    """Adds what can be read from the program, and the loss."""
    program = examination.program
    examination.causes += [
        *bad_values(program),
        *weight_values(program),
        *output_causes(program),
        *label_causes(program),
        *weighting_causes(program),
    ]
    examination.causes += frozen_causes(program)
    if program.own_loss:
        examination.skipped.append(("loss", f"{program.own_loss} is the model's own: the compiled loss is not all"))
    elif len(examination.rows):
        try:
            _losses(examination)
        except Exception as error:
            # The backends raise errors of many classes for labels or shapes that do not fit.
            examination.skipped.append(("loss", f"it cannot be computed: {_message(error)}"))
    examination.causes += [*regularization_causes(program, baseline=examination.constant), *batch_causes(program)]
    if not examination.works:
        examination.causes += schedule_causes(program)
        examination.causes += [*scale_causes(program), *activation_causes(program), *contradictions(program)]
        if not program.steps_taken:
            examination.causes += weight_causes(program)


def _losses(examination: Examination) -> None:
    elapsed = stopwatch()
    examination.loss, examination.constant = losses_of(examination.program, examination.rows)
    examination.seconds = elapsed()


def _message(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__


def _measure(examination: Examination, loss: Any, seed: int) -> None:
    """Adds the measurements, and the causes that they show."""
    program, rows = examination.program, examination.rows
    reason = _unmeasurable(examination)
    network, no_blocks = anatomy_of(program.graph)
    examination.description = network.description
    if reason:
        if not examination.causes and not isfinite(examination.loss):
            raise ReszooError(f"{network.name}: diagnose", got=reason, expected="a model whose loss can be computed")
        examination.skipped.append(("all measurements", reason))
        return
    x = program.inputs(rows)
    y = program.outputs[0].y[rows]
    results, skipped = measured(network, x, y, loss=loss, seed=seed, no_blocks=no_blocks)
    examination.results += results
    examination.skipped += skipped
    census = next(result for result in results if isinstance(result, Census))
    if not examination.works or census.level == "broken":
        examination.causes += unit_causes(census)
    if not examination.works:
        examination.causes += depth_causes(program, results, examination.kinds)
    examination.causes += norm_causes(program, rows, baseline=examination.constant)


def _unmeasurable(examination: Examination) -> str:
    """Returns why nothing can be measured; an empty text if it can."""
    program = examination.program
    if program.non_finite_weights:
        return "the weights are not finite"
    if len(examination.rows) < 2:
        return "fewer than two examples without NaN"
    if len(program.outputs) > 1:
        return f"a model of {len(program.outputs)} outputs: pass keras.Model(model.input, model.output[...])"
    return next((why for title, why in examination.skipped if title == "loss"), "")


def _try(examination: Examination, seed: int) -> None:
    """Adds a trial of learning rates, and what it shows."""
    program = examination.program
    reason = _no_trial(examination)
    if not reason:
        try:
            with _trainable_copy(program) as copy:
                _train(examination, copy, seed)
        except Exception as error:
            # A custom layer or loss may raise anything when it is made anew or differentiated.
            reason = f"a copy of the model does not train: {_message(error)}"
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
    examination.causes += _rates(examination, examination.trial, trainee)
    if not examination.works and not examination.kinds - {"epochs"}:
        examination.causes += _few(examination, examination.trial, trainee, seed)


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
    examination.trial = replace(trial, one_batch=run)


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
        _losses(examination)
    if (step := examination.seconds * share) * FEWEST * 3 > LONGEST_TRIAL:
        return f"a training step takes about {step:.1f} s"
    return ""
