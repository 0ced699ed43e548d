"""The examination of a program: its causes from checks, measurements and a trial."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from math import isfinite
from typing import Any

from reszoo.diagnosis.causes import Cause, ranked
from reszoo.diagnosis.checks.data import bad_values, label_causes, scale_causes
from reszoo.diagnosis.checks.examples import contradictions, example_notes
from reszoo.diagnosis.checks.layers import activation_causes, frozen_causes, regularization_causes, weight_causes
from reszoo.diagnosis.checks.measured import depth_causes, norm_causes, unit_causes, weight_values
from reszoo.diagnosis.checks.output import output_causes
from reszoo.diagnosis.checks.proportions import weighting_causes
from reszoo.diagnosis.checks.rates import batch_causes, schedule_causes
from reszoo.diagnosis.copies import own_randomness
from reszoo.diagnosis.examination import EXAMPLES, Examination, message_of
from reszoo.diagnosis.measurements import anatomy_of, measured
from reszoo.diagnosis.measures.census import Census
from reszoo.diagnosis.program import Program
from reszoo.diagnosis.trial_causes import add_trial
from reszoo.errors import ReszooError


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
            add_trial(examination, seed)
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
            examination.compute_losses()
        except Exception as error:
            # The backends raise errors of many classes for labels or shapes that do not fit.
            examination.skipped.append(("loss", f"it cannot be computed: {message_of(error)}"))
    examination.causes += [*regularization_causes(program, baseline=examination.constant), *batch_causes(program)]
    if not examination.works:
        examination.causes += schedule_causes(program)
        examination.causes += [*scale_causes(program), *activation_causes(program), *contradictions(program)]
        if not program.steps_taken:
            examination.causes += weight_causes(program)


def _measure(examination: Examination, loss: Any, seed: int) -> None:
    """Adds the measurements, and the causes that they show."""
    program, rows = examination.program, examination.rows
    reason = _unmeasurable(examination)
    network, no_blocks = anatomy_of(program.graph)
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
