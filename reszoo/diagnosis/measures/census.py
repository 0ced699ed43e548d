"""Which numbers and units of a network can learn, and which cannot: dead, saturated, duplicated, frozen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from keras import ops

from reszoo.diagnosis.anatomy import Anatomy, Loss, untouched
from reszoo.diagnosis.flatten import flatten
from reszoo.diagnosis.graph import Graph
from reszoo.diagnosis.measures.result import Level, Result
from reszoo.diagnosis.units import Units, channel_axis, units_of
from reszoo.report.profiles import Panel

PASSES = 4
"""Gradients that are taken, each after a small step along the one before: a branch that starts at zero hands on a
gradient from the second one on, one with a gate in it from the third."""
FEW = 1e-4
"""Share of numbers without gradient at which no further gradient is taken."""
STEP = 0.02
"""Size of such a step, over the size of the variable (root mean squares)."""
STRAINED, BROKEN = 0.05, 0.25
"""Shares of numbers without a gradient, or of dead units. In sound networks of the zoo they are below 0.02
(tests/test_living.py); with dead padded channels 0.56 and more."""


@dataclass(frozen=True, kw_only=True)
class Census(Result):
    """What of a network can learn from a batch of examples."""

    title: ClassVar[str] = "census"
    thresholds: ClassVar[str] = (
        f"share of trainable numbers without gradient (less those that see only padding or zero inputs), or of units "
        f"that are dead, saturated or duplicated: below {STRAINED:.0%} healthy, to {BROKEN:.0%} strained, beyond broken"
    )

    numbers: int
    """Trainable ones."""
    without_gradient: int
    """Of these: the gradient is exactly zero for the whole batch, also after small steps."""
    silent: Mapping[str, Any]
    """By the path of a trainable variable: which of its numbers are without gradient, an array of its shape."""
    padding: int
    """Of the numbers without gradient: taps of kernels that see only padding, at maps smaller than the kernel."""
    zero_inputs: int
    """Of the numbers without gradient: weights of inputs that are zero in every example, as the border of digits is."""
    units: tuple[Units, ...]
    """By activation, in execution order."""
    frozen: tuple[str, ...]
    """Layers with weights of which none is trained."""
    frozen_numbers: int

    @property
    def share(self) -> float:
        """Share of trainable numbers without gradient, less those that see only padding or zero inputs."""
        return (self.without_gradient - self.padding - self.zero_inputs) / max(self.numbers, 1)

    @property
    def dead(self) -> int:
        """Dead units in all activations."""
        return sum(layer.dead for layer in self.units)

    def to_dict(self) -> dict[str, Any]:
        """Returns everything as plain data for JSON; of every variable the count of its numbers without gradient."""
        counts = {path: int(mask.sum()) for path, mask in self.silent.items() if mask.any()}
        return super().to_dict() | {"silent": counts, "share": self.share}

    def panels(self) -> list[Panel]:
        """Returns the share of dead, saturated and duplicated units of every activation."""
        places = range(1, len(self.units) + 1)
        curves = {
            kind: (places, [getattr(layer, kind) / layer.count for layer in self.units])
            for kind in ("dead", "saturated", "duplicated")
        }
        return [Panel("units that do not learn", "activation", "share", curves)]


def census(model: Any, x: Any, y: Any, *, loss: Loss | None = None) -> Census:
    """Returns which trainable numbers get no gradient, and which units are dead, saturated or duplicated.

    A number counts as without gradient where the derivative of the batch's loss is exactly zero now and after each of
    three small steps along the gradient: so what merely starts at zero (Goyal 2017, 5.1) is not taken for dead. Batch
    norms use the statistics of the batch, as in training; the model stays bit for bit as it was. What is dead for these
    examples may live for others: give a few hundred.

    Control: zero, what a network has in which every number learns.

    Example:
        >>> import keras, numpy as np, reszoo
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax")])
        >>> x = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
        >>> reszoo.diagnosis.census(model, x, np.arange(32) % 3).without_gradient
        0

    Args:
        model: a functional or Sequential Keras model of one output, or one taken apart.
        x: a batch of inputs.
        y: their class numbers, or what `loss` takes.
        loss: a function of true values and outputs, other than cross-entropy.

    Raises:
        ReszooError: the model cannot be taken apart, or the data are not what it takes.
    """
    network = model if isinstance(model, Anatomy) else Anatomy(flatten(model), (), "")
    graph = network.graph
    labels = network.labels(y, loss)
    variables = graph.model.trainable_variables
    with untouched(graph.model):
        silent, values = _without_gradient(network, x, labels, loss)
        units = tuple(units_of(graph, x, zip(variables, values, strict=True)))
        by_path = {variable.path: mask for variable, mask in zip(variables, silent, strict=True)}
        zero_inputs = sum(_of_zero_inputs(graph, x, by_path))
    layers = {id(step.layer): step.layer for step in graph.steps if getattr(step.layer, "weights", ())}
    frozen = [layer for layer in layers.values() if not layer.trainable_variables and _kernels(layer)]
    found: dict[str, Any] = {
        "numbers": sum(mask.size for mask in silent),
        "without_gradient": sum(int(mask.sum()) for mask in silent),
        "padding": sum(map(_padding, silent)),
        "zero_inputs": zero_inputs,
        "units": units,
        "frozen": tuple(layer.name for layer in frozen),
    }
    level, verdict = _verdict(**found)
    return Census(
        model=network.name,
        level=level,
        verdict=verdict,
        control={"every number learns": 0.0},
        silent=by_path,
        frozen_numbers=sum(int(np.prod(variable.shape)) for layer in frozen for variable in _kernels(layer)),
        **found,
    )


def _without_gradient(network: Anatomy, x: Any, labels: Any, loss: Loss | None) -> tuple[list[Any], list[Any]]:
    """Which numbers of every trainable variable have no gradient in any pass; and its values in the last pass."""
    variables = network.graph.model.trainable_variables
    values = [ops.convert_to_numpy(variable).astype("float32") for variable in variables]
    silent = [np.ones(value.shape, bool) for value in values]
    for number in range(PASSES if variables else 0):
        at = [ops.convert_to_tensor(value, dtype=v.dtype) for value, v in zip(values, variables, strict=True)]
        _, slopes = network.slopes(x, labels, variables=variables, values=at, loss=loss, statistics="batch")
        for place, slope in enumerate(slopes):
            silent[place] &= slope == 0
        if sum(map(np.count_nonzero, silent)) <= FEW * sum(mask.size for mask in silent):
            break
        for place, slope in enumerate(slopes):
            size = float(np.sqrt(np.mean(np.square(slope, dtype="float64"))))
            if number < PASSES - 1 and np.isfinite(size) and size > 0:
                scale = float(np.sqrt(np.mean(np.square(values[place], dtype="float64")))) or 1.0
                values[place] = (values[place] - STEP * scale * (slope / size)).astype("float32")
    return silent, [ops.convert_to_tensor(value, dtype=v.dtype) for value, v in zip(values, variables, strict=True)]


def _of_zero_inputs(graph: Graph, x: Any, silent: dict[str, Any]) -> Iterator[int]:
    """For layers that read the model's input: numbers without gradient whose input is zero in every example."""
    first = [
        step
        for step in graph.steps
        if (kernel := getattr(step.layer, "kernel", None)) is not None
        and kernel.path in silent
        and not any(before.weighted for before in graph.needed([step.reads[0]], graph.inputs))
    ]
    for step, value in zip(first, graph.read(x, wanted=[step.reads[0] for step in first]).values(), strict=False):
        mask = np.moveaxis(silent[step.layer.kernel.path], -2, 0)
        zero = ~np.moveaxis(value, channel_axis(step), 0).reshape(value.shape[channel_axis(step)], -1).any(axis=1)
        if len(zero) == len(mask):
            yield int(mask[zero].sum())


def _kernels(layer: Any) -> list[Any]:
    """The weights of a layer without its moving statistics and the state of its generators."""
    return [v for v in layer.weights if not any(word in v.path for word in ("moving_", "seed"))]


def _padding(silent: Any) -> int:
    """Numbers in taps of a convolution's kernel none of which has a gradient, while other taps have one."""
    if silent.ndim != 4:
        return 0
    taps = silent.all(axis=(2, 3))
    return 0 if taps.all() else int(taps.sum()) * silent.shape[2] * silent.shape[3]


def _verdict(
    *,
    numbers: int,
    without_gradient: int,
    padding: int,
    zero_inputs: int,
    units: tuple[Units, ...],
    frozen: tuple[str, ...],
) -> tuple[Level, str]:
    if numbers == 0:
        return "unknown", "no number is trained: every layer is frozen"
    total = max(sum(layer.count for layer in units), 1)
    counts = {kind: sum(getattr(layer, kind) for layer in units) for kind in ("dead", "saturated", "duplicated")}
    judged = without_gradient - padding - zero_inputs
    worst = max(judged / numbers, *(count / total for count in counts.values()))
    level: Level = "healthy" if worst < STRAINED else "strained" if worst < BROKEN else "broken"
    words = [f"{judged:,} of {numbers:,} trainable numbers ({judged / numbers:.1%}) get no gradient"]
    for kind, count in counts.items():
        if count:
            words.append(
                f"{count:,} of {total:,} units are {kind} ({_some(u.layer for u in units if getattr(u, kind))})"
            )
    if padding:
        words.append(f"{padding:,} more see only padding: the last maps are smaller than the kernels")
    if zero_inputs:
        words.append(f"{zero_inputs:,} more belong to inputs that are zero in every example")
    if frozen:
        words.append(f"frozen: {_some(frozen)}")
    return level, "; ".join(words)


def _some(names: Iterable[str]) -> str:
    listed = [*names]
    return ", ".join(listed[:3]) + f", and {len(listed) - 3} more" * (len(listed) > 3)
