"""The layers and their weights: initial size and symmetry, activations, frozen layers, dropout, penalties."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import keras
import numpy as np
from keras import ops, tree

from reszoo.diagnosis.causes import Cause
from reszoo.diagnosis.graph import Slot, Step
from reszoo.diagnosis.initial import Size, fresh_weights, looks_initial, size_of
from reszoo.diagnosis.objective import penalty
from reszoo.diagnosis.program import Program
from reszoo.diagnosis.units import activation_name
from reszoo.types import Array

GREAT, LITTLE = 4.0, 0.1
"""Deviation of initial weights over that of He (2015) or Glorot (2010): beyond these the signal grows or shrinks in
every layer."""
DROPOUT = 0.8
"""Share of dropped units from which on a layer hardly passes anything; 0.5 is usual at most (Srivastava 2014)."""


def weight_causes(program: Program) -> Iterator[Cause]:
    """Yields initial weights of the wrong size, and units that are equal and stay so."""
    sizes = [(step, size) for step in program.weighted if (size := size_of(step)) is not None]
    last = program.weighted[-1] if program.weighted else None
    great = [(step, size) for step, size in sizes if size.ratio_great > GREAT and _matters(program, step, size)]
    little = [
        (step, size)
        for step, size in sizes
        if 0 < size.ratio_little < LITTLE and step is not last and not program.adds and _matters(program, step, size)
    ]
    for name, rows in (("large", great), ("small", little)):
        if rows:
            _, size = rows[0]
            usual = size.great if name == "large" else size.little
            yield Cause(
                "initialization",
                f"initial weights of {_names([one for one, _ in rows])} deviate by {size.deviation:.3g}, where "
                f"{usual:.3g} keeps the size of the signal",
                f"the signal {'grows' if name == 'large' else 'shrinks'} about {size.deviation / usual:.3g} times in "
                "each of them",
                "kernel_initializer='he_normal' for relu, 'glorot_uniform' otherwise; bias_initializer='zeros'",
                evidence={"deviation": size.deviation, "usual deviation": usual},
            )
    equal = [*_symmetric(program)]
    if equal:
        yield Cause(
            "initialization",
            f"the initial weights of {_names(equal)} are one number: its units are one and the same",
            "equal units get equal gradients and stay equal (Goodfellow 2016, 8.4)",
            "kernel_initializer='glorot_uniform'",
            evidence={"layers": len(equal)},
        )


def _matters(program: Program, step: Step, size: Size) -> bool:
    return size.initial and not program.followed_by_norm(step)


def _symmetric(program: Program) -> Iterator[Step]:
    """Yields hidden layers whose units have equal weights, going in and coming out."""
    steps = [step for step in program.weighted if getattr(step.layer, "kernel", None) is not None]
    for step, after in pairwise(steps):
        kernel, following = (ops.convert_to_numpy(one.layer.kernel) for one in (step, after))
        alike = kernel.shape[-1] > 1 and np.ptp(kernel, axis=-1).max() == 0
        if alike and following.ndim > 1 and np.ptp(following, axis=-2).max() == 0 and not program.adds:
            yield step


def activation_causes(program: Program) -> Iterator[Cause]:
    """Yields networks without any activation between their layers, and stacks of sigmoid."""
    if len(program.weighted) > 1 and _is_linear(program):
        yield Cause(
            "hidden_activation",
            f"{len(program.weighted)} weighted layers and no activation between them: the network is one linear layer",
            "a product of matrices is a matrix: it separates no more than one layer does",
            "keras.layers.Dense(units, activation='relu')  # every layer but the last",
        )
    stack = [step for step in _hidden(program) if activation_name(step) in ("sigmoid", "hard_sigmoid")]
    if len(stack) > 1 and not program.normed:
        yield Cause(
            "hidden_activation",
            f"{len(stack)} layers of sigmoid: {_names(stack)}",
            "its slope is at most 1/4, so that the gradient loses at least that factor in each, and its outputs are "
            "not centered (LeCun 1998, 4.4; Glorot 2010)",
            "keras.layers.Dense(units, activation='relu', kernel_initializer='he_normal')",
            evidence={"layers": len(stack), "greatest slope": 0.25},
        )


def _hidden(program: Program) -> list[Step]:
    """Returns the activations in a row of layers: those that only weighted layers read, no gates."""
    graph = program.graph
    last = program.weighted[-1] if program.weighted else None

    def read_by_layers(slot: Slot) -> bool:
        readers = graph.readers.get(slot, [])
        return bool(readers) and all(
            reader.kernels or (len(reader.inputs) == 1 and all(map(read_by_layers, reader.outputs)))
            for reader in readers
        )

    steps = [step for step in graph.steps if step is not last and not hasattr(step.layer, "cell")]
    recurrent = (keras.layers.RNN, keras.layers.MultiHeadAttention)
    return [s for s in steps if not isinstance(s.layer, recurrent) and read_by_layers(s.outputs[0])]


def _is_linear(program: Program) -> bool:
    """Returns whether the last weighted layer's output is an affine function of the inputs, tried on random ones."""
    graph = program.graph
    if any(hasattr(layer, "embeddings") for layer in program.layers) or program.count < 2:
        return False
    if any(part.dtype.kind not in "fiub" for part in tree.flatten(program.x)):
        return False
    end = program.weighted[-1]
    slot = graph.logits if graph.logits in end.outputs else end.outputs[0]
    if slot == graph.output and activation_name(end) != "linear":
        slot = end.inputs[0]
    if any(
        activation_name(step) != "linear" for step in graph.between(graph.inputs, [slot]) if slot not in step.outputs
    ):
        return False
    random = np.random.default_rng(0)

    # Noise of both signs and no examples: where all numbers are positive, relu may be linear.
    def ends(part: Array) -> Array:
        size = float(np.sqrt(np.mean(np.square(part[program.finite_rows[:256]], dtype="float64"))))
        return random.normal(0.0, size or 1.0, (2, 32, *part.shape[1:]))

    pairs = tree.map_structure(ends, program.x)
    # Fresh weights, for branches that start at zero are linear only at the start.
    variables = program.model.trainable_variables
    weights = [*zip(variables, map(ops.convert_to_tensor, fresh_weights(variables, seed=0)), strict=True)]

    def at(share: float) -> Array:
        x = tree.map_structure(lambda pair: ((1 - share) * pair[0] + share * pair[1]).astype("float32"), pairs)
        return graph.read(x, outputs=[slot], weights=weights)[slot].astype("float64")

    start, middle, end_value = at(0.0), at(0.5), at(1.0)
    change = np.abs(end_value - start).max()
    return bool(change > 0 and np.abs(start + end_value - 2 * middle).max() < 1e-4 * max(change, np.abs(start).max()))


def frozen_causes(program: Program) -> Iterator[Cause]:
    """Yields frozen layers that still have their initial, random weights."""
    layers = {id(step.layer): step for step in program.weighted if not step.layer.trainable_variables}
    random = [step for step in layers.values() if looks_initial(step.layer)]
    if random:
        numbers = sum(int(np.prod(weight.shape)) for step in random for weight in step.layer.weights)
        yield Cause(
            "frozen",
            f"{_names(random)} {'is' if len(random) == 1 else 'are'} not trainable, and the weights are random",
            "layers are frozen to keep what they have learned; random ones have learned nothing",
            "for layer in model.layers:\n    layer.trainable = True\nmodel.compile(...)",
            evidence={"frozen numbers": numbers, "trainable numbers": _trainable(program)},
        )
    elif not program.model.trainable_variables and program.layers:
        yield Cause("frozen", "no layer is trainable", "nothing can be learned", "model.trainable = True")


def _trainable(program: Program) -> int:
    return sum(int(np.prod(variable.shape)) for variable in program.model.trainable_variables)


def regularization_causes(program: Program, *, baseline: float) -> Iterator[Cause]:
    """Yields dropout of nearly everything, and weight penalties beside which the loss hardly counts."""
    every = program.model._flatten_layers(include_self=False, recursive=True)
    rates = [(layer.name, float(layer.rate)) for layer in every if "Dropout" in type(layer).__name__]
    strong = [(name, rate) for name, rate in rates if rate >= DROPOUT]
    if strong:
        name, rate = max(strong, key=lambda pair: pair[1])
        yield Cause(
            "regularization",
            f"dropout of {rate:g} in {name}: {1 - rate:.0%} of the units remain",
            f"what remains is multiplied by {1 / max(1 - rate, 1e-9):.3g}: mostly noise",
            "keras.layers.Dropout(0.2)",
            evidence={"dropout": rate, "usual": 0.5},
        )
    weights = penalty(program.model)
    if np.isfinite(baseline) and weights > 10 * baseline > 0:
        yield Cause(
            "regularization",
            f"the weight penalty is {weights:.3g}, the loss of a constant prediction {baseline:.3g}",
            "the weights shrink to zero before anything is learned",
            "kernel_regularizer=keras.regularizers.L2(1e-4)",
            certain=False,
            evidence={"penalty": weights, "loss of a constant": baseline},
        )


def _names(steps: list[Step]) -> str:
    names = [*dict.fromkeys(step.name for step in steps)]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
