"""Remedies for causes, tried on copies one after another, and the repaired model."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

import keras
import numpy as np

from reszoo.diagnosis.causes import Cause
from reszoo.diagnosis.copies import copy_of, optimizer_of, own_randomness
from reszoo.diagnosis.program import Program
from reszoo.diagnosis.remedies import GROUPS, Remedies
from reszoo.diagnosis.trial import Trainee, Trial, stopwatch, sweep
from reszoo.errors import ReszooError
from reszoo.types import KerasModel

STEPS = 200
"""Steps of the two curves."""
SECONDS = 4.0
"""Time for each of them."""
UPDATES = 1000
"""Steps that a training should have at least."""


@dataclass(frozen=True, eq=False, repr=False)
class Repair:
    """A repaired, compiled model, and how it trains beside the model as it was."""

    model: KerasModel
    """It takes the same inputs and true values as the original; trained for the steps of `after`."""
    changes: tuple[str, ...]
    """What was changed."""
    left: tuple[str, ...]
    """Kinds of causes that have no automatic remedy."""
    before: tuple[float, ...]
    """Loss of the original in training, relative to that of the best constant prediction (1: nothing learned)."""
    after: tuple[float, ...]
    """The same of the repaired model."""
    learning_rate: float
    epochs: int | None
    """Epochs for at least a thousand steps; None if the program's own are enough or unknown."""
    causes: tuple[Cause, ...] = ()
    """The causes, with the loss with and without their remedies."""

    def __repr__(self) -> str:
        ends = " to ".join(f"{curve[-1]:.3g}" if curve else "-" for curve in (self.before, self.after))
        return f"Repair({self.model.name}: {'; '.join(self.changes) or 'no change'}; relative loss {ends})"

    @property
    def learns(self) -> bool:
        """Whether the repaired model becomes better than any constant prediction."""
        return bool(self.after) and self.after[-1] < 1

    def to_dict(self) -> dict[str, Any]:
        """Returns everything but the model as plain data for JSON."""
        return {
            "changes": list(self.changes),
            "left": list(self.left),
            "before": [value if isfinite(value) else str(value) for value in self.before],
            "after": [value if isfinite(value) else str(value) for value in self.after],
            "learning_rate": self.learning_rate,
            "epochs": self.epochs,
            "learns": self.learns,
        }


def repaired(program: Program, causes: Sequence[Cause], *, trial: Trial | None, seed: int) -> Repair:
    """Returns the repaired program; the remedies are applied one after another, each with a trial.

    Args:
        program: the model, its data and settings; it does not change.
        causes: the causes.
        trial: the trial of the program as it is, if there was one.
        seed: random seed of weights and batches.

    Raises:
        ReszooError: the model is not compiled, has several outputs, or cannot be copied.
    """
    if program.optimizer is None or len(program.outputs) > 1 or program.outputs[0].loss is None:
        expected = "a model of one output, compiled with an optimizer and a loss"
        raise ReszooError(
            "diagnose.repair", got=f"{len(program.outputs)} outputs, or no compiled loss", expected=expected
        )
    with warnings.catch_warnings(), own_randomness(seed):
        warnings.simplefilter("ignore")
        try:
            return _repaired(program, tuple(causes), trial, seed)
        except (TypeError, NotImplementedError) as error:
            raise ReszooError(
                "diagnose.repair", got=f"a model that cannot be copied ({error})", expected="layers with get_config()"
            ) from error


def _repaired(program: Program, causes: tuple[Cause, ...], trial: Trial | None, seed: int) -> Repair:
    kinds = {cause.kind for cause in causes}
    remedies = Remedies(program)
    relative = trial.own.end / trial.constant if trial is not None and trial.constant else float("nan")
    losses: dict[str, tuple[float, float]] = {}
    last: tuple[Trainee, Trial] | None = None
    for group in GROUPS:
        if not kinds & set(group):
            continue
        remedies.kinds |= kinds & set(group)
        tried = _tried(program, remedies, seed)
        with_remedy = tried[1].best.end / tried[1].constant if tried[1].constant else float("nan")
        losses |= {kind: (relative, with_remedy) for kind in kinds & set(group)}
        if last is not None and with_remedy > relative:
            # It does not help beside the remedies before it.
            remedies.kinds -= set(group)
            continue
        last, relative = tried, with_remedy
    trainee, best = last or _tried(program, remedies, seed)
    before = _curve(_original(program, seed), best_rate=None)
    after = _curve((trainee, best), best_rate=best.advised.rate)
    model = trainee.model
    loss = model.loss
    model.compile(optimizer_of(model, rate=best.advised.rate), loss=loss, metrics=_metrics(program))
    short = program.updates is not None and program.updates < UPDATES
    rate = program.rate or best.advised.rate
    changes = [*_changes(remedies, program)]
    changes += [f"learning rate {best.advised.rate:.3g}"] if best.advised.rate != rate else []
    remedied = remedies.kinds | {"learning_rate", "epochs"}
    return Repair(
        model=model,
        changes=tuple(changes),
        left=tuple(sorted(kinds - remedied)),
        before=before,
        after=after,
        learning_rate=best.advised.rate,
        epochs=-(-UPDATES // program.steps_of_epoch) if short else None,
        causes=tuple(_with_losses(cause, losses) for cause in causes),
    )


def _tried(program: Program, remedies: Remedies, seed: int) -> tuple[Trainee, Trial]:
    """Returns a compiled copy with the remedies, and its trial."""
    copy, loss = remedies.build()
    rate = program.rate or 0.001
    optimizer = None
    if "optimizer" in remedies.kinds or (remedies.targets_large and "input_scaling" in remedies.kinds):
        # Squares of large errors make large gradients, whose size Adam divides out.
        rate = 0.01
        optimizer = keras.optimizers.Adam(rate)
    trainee = Trainee(program, copy, rate=rate, loss=loss, seed=seed, optimizer=optimizer)
    return trainee, sweep(trainee)


def _original(program: Program, seed: int) -> tuple[Trainee, None]:
    copy = copy_of(program.model, weights=not (program.steps_taken or program.non_finite_weights))
    return Trainee(program, copy, rate=program.rate or 0.0, loss=program.outputs[0].loss, seed=seed), None


def _curve(pair: tuple[Trainee, Trial | None], *, best_rate: float | None) -> tuple[float, ...]:
    """Returns the loss relative to a constant's at the start, and after every tenth of the steps."""
    trainee, _ = pair
    trainee.start(rate=best_rate or trainee.rate)
    values: list[float] = []
    # The first step compiles.
    trainee.train(1)
    trainee.start(rate=best_rate or trainee.rate)
    elapsed = stopwatch()
    for number in range(11):
        if number:
            losses = trainee.train(STEPS // 10, first=(number - 1) * STEPS // 10)
            if not np.isfinite(losses[-1]):
                return (*values, float("inf"))
        value, constant = trainee.scores()
        values.append(value / constant if constant else value)
        if elapsed() > SECONDS:
            break
    return tuple(values)


def _metrics(program: Program) -> Any:
    """Returns the compiled metrics, where they are names; objects belong to the original."""
    try:
        metrics = (program.model.get_compile_config() or {}).get("metrics")
    except (TypeError, ValueError, AttributeError):
        return None
    return metrics if isinstance(metrics, list) and all(isinstance(one, str) for one in metrics) else None


def _changes(remedies: Remedies, program: Program) -> list[str]:
    changes = []
    if remedies.kinds & set(GROUPS[0]):
        units, activation, loss = remedies.end()
        changes.append(f"output of {units} units with {activation}, loss {getattr(loss, 'name', loss)}")
    texts = {
        "input_scaling": "inputs normalized in the model" + ("; targets, too" if remedies.targets_large else ""),
        "initialization": "initial weights glorot_uniform, biases 0",
        "dead_units": "fresh weights",
        "saturation": "fresh weights",
        "hidden_activation": "relu between the layers",
        "frozen": "all layers trainable",
        "regularization": "dropout of at most 0.2, no weight penalty",
        "norm_statistics": "momentum 0.9 for norms",
        "optimizer": "Adam as the optimizer",
    }
    return [*dict.fromkeys([*changes, *(text for kind, text in texts.items() if kind in remedies.kinds)])]


def _with_losses(cause: Cause, losses: dict[str, tuple[float, float]]) -> Cause:
    """Returns a cause with the losses of its trial; a remedy that did not help is not recommended."""
    without, with_remedy = losses.get(cause.kind, (float("nan"), float("nan")))
    if not isfinite(with_remedy):
        return cause
    helped = not isfinite(without) or with_remedy < without
    remedy = cause.remedy if helped or cause.certain else f"# did not help in the trial:\n# {cause.remedy}"
    return replace(cause, loss_without=without if isfinite(without) else None, loss_with=with_remedy, remedy=remedy)
