"""The same network with a quarter of its layers, as a control: if that learns, depth is what prevents learning."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras

from reszoo.diagnosis.causes import Cause
from reszoo.diagnosis.checks.measured import SHALLOW, depth_cause
from reszoo.diagnosis.checks.one_batch import LITTLE
from reszoo.diagnosis.copies import copy_of
from reszoo.diagnosis.graph import Step
from reszoo.diagnosis.program import Program, is_norm
from reszoo.diagnosis.trial import Trainee, Trial, stopwatch
from reszoo.types import KerasLayer, KerasModel

KEPT = 4
"""One layer of so many stays."""
STEPS, FEWEST = 150, 40
"""Steps of both networks, and the fewest that say anything."""
SECONDS = 8.0
SHARE = 1 / 3
"""Share of the gain of the network with fewer layers below which depth is at fault."""


def shallow_causes(program: Program, trial: Trial, trainee: Trainee, *, loss: Any, seed: int) -> Iterator[Cause]:
    """Yields depth, where a quarter of the layers gains three times as much in the same steps at the same rate.

    Only for layers in a row without shortcuts, at least eight of which keep the shape of their input.

    Args:
        program: the program.
        trial: its runs, which gained little.
        trainee: the copy that made them.
        loss: the compiled loss.
        seed: random seed of the order of examples.
    """
    chain = _of_one_shape(program)
    if program.adds or len(chain) < SHALLOW or trial.gain(trial.best) >= LITTLE:
        return
    rate = trial.advised.rate
    steps, deep = _run(trainee, rate, STEPS, SECONDS)
    if steps < FEWEST:
        return
    copy = _without(program, [step for number, step in enumerate(chain) if number % KEPT])
    _, shallow = _run(Trainee(program, copy, rate=rate, loss=loss, seed=seed), rate, steps, SECONDS)
    gains = trial.gain_of(deep), trial.gain_of(shallow)
    if gains[1] >= LITTLE and gains[0] < SHARE * gains[1]:
        left = len(chain) - (len(chain) - 1) * (KEPT - 1) // KEPT
        seen = (
            f"{len(chain)} layers in a row keep the shape of their input. After {steps} steps at {rate:.3g} the loss "
            f"is {gains[0]:.0%} below that of the best constant prediction, with {left} of them {gains[1]:.0%}"
        )
        yield depth_cause(seen, {"gain": gains[0], "gain with a quarter of the layers": gains[1]})


def _of_one_shape(program: Program) -> list[Step]:
    """Returns the weighted steps whose only input and output have one shape, but for the last one."""
    shapes = program.graph.shapes
    steps = [step for step in program.weighted[:-1] if len(step.inputs) == len(step.outputs) == 1]
    return [step for step in steps if shapes[step.inputs[0]] == shapes[step.outputs[0]]]


def _without(program: Program, steps: list[Step]) -> KerasModel:
    """Returns a copy with fresh weights that leaves out steps, and the norms and activations behind them."""
    dropped = set()
    for step in steps:
        while True:
            dropped.add(id(step.layer))
            readers = program.graph.readers.get(step.outputs[0], [])
            if len(readers) != 1 or not (is_norm(readers[0].layer) or not readers[0].kernels):
                break
            if len(readers[0].inputs) != 1 or not _keeps_shape(program, readers[0]):
                break
            step = readers[0]

    def remake(layer: KerasLayer) -> KerasLayer | None:
        return keras.layers.Activation("linear", name=layer.name) if id(layer) in dropped else None

    return copy_of(program.model, weights=False, remake=remake)


def _keeps_shape(program: Program, step: Step) -> bool:
    shapes = program.graph.shapes
    return step.outputs[0] != program.graph.output and shapes[step.inputs[0]] == shapes[step.outputs[0]]


def _run(trainee: Trainee, rate: float, steps: int, seconds: float) -> tuple[int, float]:
    """Returns how many steps there was time for, and the loss afterwards; infinity if training diverged."""
    trainee.start(rate=rate)
    elapsed = stopwatch()
    done, finite = trainee.advance(0, steps, time_left=lambda: elapsed() <= seconds)
    return done, trainee.loss() if finite else float("inf")
