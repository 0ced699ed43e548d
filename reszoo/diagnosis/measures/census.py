"""Which trainable numbers and units of a network cannot learn: dead, saturated, duplicated or frozen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from keras import ops

from reszoo.diagnosis.anatomy import Anatomy, preserve_variables
from reszoo.diagnosis.flatten import flatten
from reszoo.diagnosis.graph import Graph
from reszoo.diagnosis.initial import fresh_weights
from reszoo.diagnosis.measures.result import Level, Result
from reszoo.diagnosis.objective import Loss
from reszoo.diagnosis.units import Units, channel_axis, units_of
from reszoo.report.lines import Panel
from reszoo.types import Array, KerasLayer, KerasModel, KerasVariable, Tensor

PASSES = 4
"""Number of gradients, each after a small step along the one before: a branch that starts at zero passes a gradient
from the second on, one with a gate from the third."""
FEW = 1e-4
"""Share of numbers without gradient at which no further gradient is taken."""
DRAWS = 5
"""Most draws of fresh weights, of which the greatest shares are the control."""
STEP = 0.02
"""Size of a step relative to that of the variable (root mean squares)."""
KINDS = ("dead", "saturated", "duplicated")
STRAINED, BROKEN = 0.05, 0.25
"""Shares of numbers without gradient, or of dead units, at which a level begins. Chance leaves a few hundredths in
narrow networks; dead padded channels of CIFAR networks were more than half (both in tests/test_living.py)."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Census(Result):
    """Which trainable numbers and units of a network cannot learn from a batch of examples."""

    title: ClassVar[str] = "census"
    thresholds: ClassVar[str] = (
        "share of trainable numbers without gradient (except those that see only padding or zero inputs), or of units "
        "that are dead, saturated or duplicated, less the share for ordinary fresh weights on the same data: below "
        f"{STRAINED:.0%} or within chance healthy, to {BROKEN:.0%} strained, above broken; a layer without one living "
        "unit is broken"
    )

    numbers: int
    """Count of trainable numbers."""
    without_gradient: int
    """How many of them have a gradient of exactly zero for the whole batch, also after small steps."""
    silent: Mapping[str, Array]
    """Path of a trainable variable -> a boolean array of its shape: which of its numbers have no gradient."""
    padding: int
    """How many numbers without gradient are in kernel taps that see only padding, on maps smaller than the kernel."""
    zero_inputs: int
    """How many numbers without gradient are weights of inputs that are always zero, such as borders of digits."""
    units: tuple[Units, ...]
    """The units of every activation, in execution order."""
    frozen: tuple[str, ...]
    """Layers with weights but no trainable ones."""
    frozen_numbers: int
    """Count of numbers in their weights."""

    @property
    def share(self) -> float:
        """Returns the share of trainable numbers without gradient, less those that see only padding or zero inputs."""
        return (self.without_gradient - self.padding - self.zero_inputs) / max(self.numbers, 1)

    @property
    def dead(self) -> int:
        """Returns the number of dead units in all activations."""
        return sum(layer.dead for layer in self.units)

    def to_dict(self) -> dict[str, Any]:
        """Returns everything as plain data for JSON; `silent` becomes a count per variable."""
        counts = {path: int(mask.sum()) for path, mask in self.silent.items() if mask.any()}
        return super().to_dict() | {"silent": counts, "share": self.share}

    def panels(self) -> list[Panel]:
        """Returns the shares of dead, saturated and duplicated units of every activation."""
        indices = range(1, len(self.units) + 1)
        curves = {kind: (indices, [getattr(layer, kind) / layer.count for layer in self.units]) for kind in KINDS}
        return [Panel("units that do not learn", "activation", "share", curves)]


def census(model: KerasModel | Anatomy, x: Tensor, y: Tensor, *, loss: Loss | str | None = None) -> Census:
    """Returns which trainable numbers get no gradient, and which units are dead, saturated or duplicated.

    A number counts as without gradient if the derivative of the batch's loss is exactly zero now and after each of
    three small steps along the gradient; so a number that merely starts at zero (Goyal 2017, 5.1) does not count. Batch
    norms use the statistics of the batch, as in training; the model stays unchanged, bit for bit. A unit that is dead
    for these examples may be active for others: pass a few hundred.

    Control: the greatest shares of up to five draws of fresh weights (kernels by He 2015, biases 0) on the same data,
    taken where there is something to compare; a unit that reads one number in every example can be dead without a
    fault.

    Example:
        >>> import keras, numpy as np, reszoo
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax")])
        >>> x = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
        >>> reszoo.diagnosis.census(model, x, np.arange(32) % 3).without_gradient
        0

    Args:
        model: a functional or Sequential Keras model with one output, or its `Anatomy`.
        x: a batch of inputs.
        y: what the compiled loss takes; class indices for a model without one.
        loss: a function of true values and outputs, instead of the compiled loss (without one, cross-entropy).

    Raises:
        ReszooError: the model cannot be analyzed, or the data do not fit it.
    """
    network = model if isinstance(model, Anatomy) else Anatomy(flatten(model), (), "")
    graph = network.graph
    labels = network.targets(y, loss)
    variables = graph.model.trainable_variables
    with preserve_variables(graph.model):
        silent, values = _without_gradient(network, x, labels, loss)
        units = tuple(units_of(graph, x, zip(variables, values, strict=True)))
        if max(_shares([], units).values()) > STRAINED:
            units = _lasting(units_of(graph, x, []), units)
        shares = _shares(silent, units)
        # Only where there is something to compare.
        control = _fresh(network, x, labels, loss, shares) if max(shares.values()) > STRAINED else {}
        by_path = {variable.path: mask for variable, mask in zip(variables, silent, strict=True)}
        zero_inputs = sum(_zero_inputs(graph, x, by_path))
    layers = {id(step.layer): step.layer for step in graph.steps if getattr(step.layer, "weights", ())}
    frozen = [layer for layer in layers.values() if not layer.trainable_variables and _kernels(layer)]
    counts: dict[str, Any] = {
        "numbers": sum(mask.size for mask in silent),
        "without_gradient": sum(int(mask.sum()) for mask in silent),
        "padding": sum(map(_padding_taps, silent)),
        "zero_inputs": zero_inputs,
        "units": units,
        "frozen": tuple(layer.name for layer in frozen),
    }
    level, verdict = _verdict(**counts, control=control)
    return Census(
        model=network.name,
        level=level,
        verdict=verdict,
        control=control or {"every number learns": 0.0},
        silent=by_path,
        frozen_numbers=sum(int(np.prod(variable.shape)) for layer in frozen for variable in _kernels(layer)),
        **counts,
    )


def _without_gradient(
    network: Anatomy, x: Tensor, labels: Array, loss: Loss | str | None
) -> tuple[list[Array], list[Tensor]]:
    """Returns, for every trainable variable, which numbers have no gradient in any pass, and its last values."""
    variables = network.graph.model.trainable_variables
    values = [ops.convert_to_numpy(variable).astype("float32") for variable in variables]
    silent = [np.ones(value.shape, bool) for value in values]
    for number in range(PASSES if variables else 0):
        tensors = _tensors(values, variables)
        _, slopes = network.gradients(x, labels, variables=variables, values=tensors, loss=loss, statistics="batch")
        for index, slope in enumerate(slopes):
            silent[index] &= slope == 0
        if sum(map(np.count_nonzero, silent)) <= FEW * sum(mask.size for mask in silent):
            break
        for index, slope in enumerate(slopes):
            size = _rms(slope)
            if number < PASSES - 1 and np.isfinite(size) and size > 0:
                scale = _rms(values[index]) or 1.0
                values[index] = (values[index] - STEP * scale * (slope / size)).astype("float32")
    return silent, _tensors(values, variables)


def _lasting(before: Iterable[Units], after: Iterable[Units]) -> tuple[Units, ...]:
    """Returns the units with what holds both before and after the small steps."""
    return tuple(
        replace(one, **{kind: min(getattr(one, kind), getattr(other, kind)) for kind in KINDS})
        for one, other in zip(before, after, strict=True)
    )


def _tensors(values: list[Array], variables: list[KerasVariable]) -> list[Tensor]:
    pairs = zip(values, variables, strict=True)
    return [ops.convert_to_tensor(value, dtype=variable.dtype) for value, variable in pairs]


def _rms(value: Array) -> float:
    return float(np.sqrt(np.mean(np.square(value, dtype="float64"))))


def _zero_inputs(graph: Graph, x: Tensor, silent: dict[str, Array]) -> Iterator[int]:
    """Yields, for layers that read the model's input, the count of silent weights of inputs that are always zero."""
    first = [
        step
        for step in graph.steps
        if (kernel := getattr(step.layer, "kernel", None)) is not None
        and kernel.path in silent
        and not any(before.kernels for before in graph.between(graph.inputs, [step.inputs[0]]))
    ]
    for step, value in zip(first, graph.read(x, outputs=[step.inputs[0] for step in first]).values(), strict=False):
        mask = np.moveaxis(silent[step.layer.kernel.path], -2, 0)
        rows = np.moveaxis(value, channel_axis(step), 0)
        zero = np.asarray(~rows.reshape(len(rows), -1).any(axis=1))
        if len(zero) == len(mask):
            yield int(mask[zero].sum())


def _kernels(layer: KerasLayer) -> list[KerasVariable]:
    """Returns the weights of a layer except moving statistics and the states of random generators."""
    return [v for v in layer.weights if not any(name in v.path for name in ("moving_", "seed"))]


def _padding_taps(silent: Array) -> int:
    """Returns how many numbers of a kernel are in taps that have no gradient at all, while other taps have one."""
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
    control: Mapping[str, float],
) -> tuple[Level, str]:
    if numbers == 0:
        return "unknown", "nothing is trained: every layer is frozen"
    total = max(sum(layer.count for layer in units), 1)
    counts = {kind: sum(getattr(layer, kind) for layer in units) for kind in KINDS}
    judged = without_gradient - padding - zero_inputs
    excess = [_excess(judged / numbers, control.get("fresh weights: without gradient", 0.0), numbers)]
    excess += [_excess(counts[kind] / total, control.get(f"fresh weights: {kind}", 0.0), total) for kind in KINDS]
    worst = 1.0 if blocked(units) and not control.get("fresh weights: layers dead", 0.0) else max(excess)
    level: Level = "broken"
    if worst < BROKEN:
        level = "healthy" if worst < STRAINED else "strained"
    clauses = [f"{judged:,} of {numbers:,} trainable numbers ({judged / numbers:.1%}) get no gradient"]
    for kind, count in counts.items():
        if count:
            clauses.append(
                f"{count:,} of {total:,} units are {kind} ({_listed(u.layer for u in units if getattr(u, kind))})"
            )
    if padding:
        clauses.append(f"{padding:,} more see only padding: the last maps are smaller than the kernels")
    if zero_inputs:
        clauses.append(f"{zero_inputs:,} more belong to inputs that are zero in every example")
    if frozen:
        clauses.append(f"frozen: {_listed(frozen)}")
    return level, "; ".join(clauses)


def blocked(units: Iterable[Units]) -> list[str]:
    """Returns the activations that have no living unit."""
    return [layer.layer for layer in units if layer.dead == layer.count]


def _excess(share: float, control: float, count: int) -> float:
    """Returns by how much a share exceeds its control; zero within three standard deviations of a count."""
    excess = share - control
    return excess if excess * count > 3 * np.sqrt(max(control * count, 1.0)) else 0.0


def _fresh(
    network: Anatomy, x: Tensor, labels: Array, loss: Loss | str | None, observed: Mapping[str, float]
) -> dict[str, float]:
    """Returns the shares for fresh weights, the greatest of up to five draws: silent numbers come by whole units."""
    variables = network.graph.model.trainable_variables
    control: dict[str, float] = {}
    for seed in range(DRAWS):
        tensors = _tensors(fresh_weights(variables, seed=seed), variables)
        units = [*units_of(network.graph, x, zip(variables, tensors, strict=True))]
        _, slopes = network.gradients(x, labels, variables=variables, values=tensors, loss=loss, statistics="batch")
        shares = _shares([slope == 0 for slope in slopes], units) | {"layers dead": float(len(blocked(units)))}
        control = {name: max(share, control.get(name, 0.0)) for name, share in shares.items()}
        # More draws only where chance may still explain the rest: a share of n units varies by at most 0.5 / sqrt(n).
        chance = max(BROKEN, 1.5 / np.sqrt(max(sum(layer.count for layer in units), 1)))
        if not 0 < max(share - control[name] for name, share in observed.items()) < chance:
            break
    return {f"fresh weights: {name}": share for name, share in control.items()}


def _shares(silent: list[Array], units: Iterable[Units]) -> dict[str, float]:
    layers = [*units]
    total, numbers = sum(layer.count for layer in layers), sum(mask.size for mask in silent)
    without = sum(int(np.count_nonzero(mask)) - _padding_taps(mask) for mask in silent)
    shares = {kind: sum(getattr(layer, kind) for layer in layers) / max(total, 1) for kind in KINDS}
    return shares | {"without gradient": without / max(numbers, 1)}


def _listed(names: Iterable[str]) -> str:
    names = [*names]
    return ", ".join(names[:3]) + f", and {len(names) - 3} more" * (len(names) > 3)
