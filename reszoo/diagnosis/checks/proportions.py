"""Weights of classes, examples and outputs that decide what is learned."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from reszoo.diagnosis.causes import Cause
from reszoo.diagnosis.examples import class_numbers
from reszoo.diagnosis.losses import constant_loss
from reszoo.diagnosis.output import Output
from reszoo.diagnosis.program import Program

OUT_OF_PROPORTION = 10.0
"""Factor between the weighted sizes of two classes from which on the smaller one hardly counts."""
LARGE, SMALL = 20.0, 0.05
"""Mean weight outside of which the loss, and with it the step of SGD, has another size."""
DWARFED = 100.0
"""Factor between the weighted losses of two outputs."""
SCALE_FREE = ("Adam", "AdamW", "Nadam", "Adamax", "RMSprop", "Adagrad", "Adadelta", "Lamb", "Lion", "Adafactor")
"""Optimizers that divide the size of the gradient out."""


def weighting_causes(program: Program) -> Iterator[Cause]:
    """Yields weights that leave classes or outputs out, or out of proportion."""
    for output in program.outputs:
        if output.weights is not None:
            yield from _classes(output)
            yield from _size(program, output)
    yield from _unknown(program)
    yield from _outputs(program)


def _classes(output: Output) -> Iterator[Cause]:
    """Yields classes of weight 0, and weights that make the classes less equal than they are."""
    weights = output.weights
    numbers = class_numbers(output.y) if output.form in ("one-hot", "binary", "classes") else None
    if numbers is None or weights is None or weights.ndim != 1:
        return
    counts, sizes = np.bincount(numbers - numbers.min()), np.bincount(numbers - numbers.min(), weights)
    present = np.flatnonzero(counts)
    counts, sizes, names = counts[present], sizes[present], present + numbers.min()
    if (sizes == 0).any():
        yield Cause(
            "loss",
            f"all examples of class {', '.join(map(str, names[sizes == 0][:5]))} have weight 0",
            "what has no weight is not learned",
            "model.fit(..., class_weight={0: 1.0, 1: 1.0})  # examples / (classes * examples of the class)",
            evidence={"classes of weight 0": int((sizes == 0).sum()), "classes": len(names)},
        )
        return
    weighted, plain = sizes.max() / sizes.min(), counts.max() / counts.min()
    if weighted > OUT_OF_PROPORTION and weighted > 2 * plain:
        low, high = names[sizes.argmin()], names[sizes.argmax()]
        yield Cause(
            "loss",
            f"with the weights class {high} counts {weighted:.3g} times as much as class {low}; without them the "
            f"largest class is {plain:.3g} times as large as the smallest, with balanced weights it would be 1",
            f"the loss is nearly that of class {high} alone",
            "counts = np.bincount(y)\nclass_weight = {c: len(y) / (len(counts) * n) for c, n in enumerate(counts)}",
            evidence={"ratio with weights": float(weighted), "ratio without": float(plain), "balanced": 1.0},
        )


def _size(program: Program, output: Output) -> Iterator[Cause]:
    mean = float(np.mean(output.weights)) if output.weights is not None else 1.0
    if SMALL <= mean <= LARGE or type(program.optimizer).__name__ in SCALE_FREE or program.optimizer is None:
        return
    yield Cause(
        "loss",
        f"the weights of the examples have a mean of {mean:.3g}",
        f"the loss and every step of {type(program.optimizer).__name__} are {mean:.3g} times as large as without",
        "sample_weight = sample_weight / np.mean(sample_weight)",
        certain=False,
        evidence={"mean weight": mean, "usual": 1.0},
    )


def _unknown(program: Program) -> Iterator[Cause]:
    """Yields class weights for classes that no example has: often classes counted from 1, or another order."""
    numbers = class_numbers(program.outputs[0].y) if program.class_weight else None
    if numbers is None or not program.class_weight:
        return
    unknown = sorted({int(key) for key in program.class_weight} - {*np.unique(numbers).tolist()})
    without = sorted({*np.unique(numbers).tolist()} - {int(key) for key in program.class_weight})
    if unknown and without:
        yield Cause(
            "loss",
            f"class_weight has class {', '.join(map(str, unknown[:5]))}, which no example has, and no weight for class "
            f"{', '.join(map(str, without[:5]))}, which then counts 1",
            "the weights belong to other classes than they are meant for",
            f"class_weight = {{{without[0]}: ..., ...}}  # by class index",
            evidence={"unknown classes": len(unknown), "classes without a weight": len(without)},
        )


def _outputs(program: Program) -> Iterator[Cause]:
    """Yields outputs whose loss does not count beside the others."""
    if len(program.outputs) < 2:
        return
    idle = [output.name for output in program.outputs if output.loss is not None and output.loss_weight == 0]
    if idle:
        yield Cause(
            "loss",
            f"the loss of output {', '.join(idle)} has weight 0",
            "it is not trained",
            f"model.compile(..., loss_weights={{'{idle[0]}': 1.0, ...}})",
            evidence={"outputs of weight 0": len(idle)},
        )
        return
    rows = program.finite_rows[:500]
    if not len(rows) or any(output.loss is None for output in program.outputs):
        return
    try:
        sizes = {output.name: constant_loss(output, output.y[rows]) for output in program.outputs}
    except Exception:
        # The backends raise errors of many classes for true values that do not fit; the loss check says so.
        return
    low, high = (choose(sizes, key=lambda name: sizes[name]) for choose in (min, max))
    if 0 < DWARFED * sizes[low] < sizes[high]:
        ratio = sizes[high] / sizes[low]
        yield Cause(
            "loss",
            f"the best constant prediction of output {high} has a loss of {sizes[high]:.3g}, that of {low} "
            f"{sizes[low]:.3g}, weights included",
            f"the gradient of {low} is lost beside that of {high}",
            f"model.compile(..., loss_weights={{'{high}': {1 / ratio:.2g}, '{low}': 1.0}})",
            certain=False,
            evidence={"ratio": ratio, "equal": 1.0},
        )
