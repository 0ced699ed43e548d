"""The smoothness of the loss: the gradient after steps along it, and slices through the loss."""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import ClassVar

import numpy as np
from keras import ops

from reszoo.diagnosis.anatomy import Anatomy, preserve_variables, take_apart
from reszoo.diagnosis.autodiff import without_gradient
from reszoo.diagnosis.graph import Statistics
from reszoo.diagnosis.measures.result import Result, level_from_top
from reszoo.diagnosis.objective import Loss
from reszoo.errors import ReszooError
from reszoo.report.lines import Panel
from reszoo.types import Array, KerasModel, KerasVariable, Tensor


@dataclass(frozen=True, kw_only=True, repr=False)
class Predictiveness(Result):
    """How similar the gradient stays after a step along it."""

    title: ClassVar[str] = "gradient predictiveness"
    thresholds: ClassVar[str] = (
        "cosine of the gradient with itself after a step of 1e-4 of the weights' norm: from 0.9 healthy, from 0.5 "
        "strained, below broken"
    )

    steps: tuple[float, ...]
    """Length of each step over the norm of the weights."""
    cosines: tuple[float, ...]
    """Cosine of the gradients before and after each step."""
    loss_changes: tuple[float, ...]
    """Change of the loss by each step, in nats."""
    loss: float

    def panels(self) -> list[Panel]:
        """Returns the cosine and the change of the loss over the length of the step."""
        lengths = [float(np.log10(step)) for step in self.steps]
        return [
            Panel("gradient after a step", "log10 of step / weights", "cosine", {"network": (lengths, self.cosines)}),
            Panel(
                "loss after a step",
                "log10 of step / weights",
                "change (nats)",
                {"network": (lengths, self.loss_changes)},
            ),
        ]


def predictiveness(
    model: KerasModel | Anatomy,
    x: Tensor,
    y: Tensor,
    *,
    loss: Loss | str | None = None,
    steps: tuple[float, ...] = (1e-4, 1e-3, 1e-2),
    statistics: Statistics = "batch",
    seed: int = 0,
) -> Predictiveness:
    """Returns the cosine of the gradient with itself after steps along it.

    Related to the gradient predictiveness of Santurkar 2018, section 3.1, who measure the distance of the gradients
    during training. Where the gradient of one layer is far larger than those of the others, nearly all of a step
    changes that layer.

    Controls: the cosine of the gradient with a random direction, and with the gradient after a step of the first
    length in a random direction, or with the same share of its own norm for every variable.

    Example:
        >>> import numpy as np, reszoo
        >>> model = reszoo.create("residual_mlp18", input_shape=(8,), width_multiplier=1 / 32, classes=2)
        >>> x = np.random.default_rng(0).normal(size=(16, 8)).astype("float32")
        >>> len(reszoo.diagnosis.predictiveness(model, x, np.arange(16) % 2).cosines)
        3

    Args:
        model: a Keras model or its `Anatomy`.
        x: a batch of inputs.
        y: what the compiled loss takes; class indices for a model without one.
        loss: a function of true values and outputs, instead of the compiled loss (without one, cross-entropy).
        steps: lengths of the steps over the norm of the weights.
        statistics: which statistics batch norms use: `batch` as in training, or `moving`.
        seed: random seed of the direction.

    Raises:
        ReszooError: the model cannot be analyzed, or has no trainable weights.
    """
    network = take_apart(model)
    labels = network.targets(y, loss)
    variables = _trainable(network)
    weights = [ops.convert_to_numpy(variable).astype("float64") for variable in variables]
    length = _norm(weights)
    random = [np.random.default_rng(seed).normal(size=value.shape) for value in weights]

    def after_step(step: float, direction: list[Array]) -> tuple[float, list[Array]]:
        scale = step * length / (_norm(direction) or 1.0)
        pairs = zip(weights, direction, strict=True)
        values = [ops.convert_to_tensor((weight - scale * slope).astype("float32")) for weight, slope in pairs]
        value, slopes = network.gradients(
            x, labels, variables=variables, values=values, loss=loss, statistics=statistics
        )
        return value, [slope.astype("float64") for slope in slopes]

    with preserve_variables(network.graph.model):
        start, first = after_step(0.0, random)
        after = [after_step(step, first) for step in steps]
        _, random_step = after_step(steps[0], random)
        shared = [
            slope * (_norm([weight]) / (_norm([slope]) or 1.0)) for weight, slope in zip(weights, first, strict=True)
        ]
        _, shared_step = after_step(steps[0], shared)
    cosines = tuple(_cosine(first, slopes) for _, slopes in after)
    return Predictiveness(
        model=network.name,
        level=level_from_top(cosines[0], healthy=0.9, strained=0.5),
        verdict=f"after a step of {steps[0]:g} of the weights' norm the gradient has a cosine of {cosines[0]:.3f} with "
        f"the gradient before; after {steps[-1]:g}, {cosines[-1]:.3f}, and the loss changes by "
        f"{after[-1][0] - start:+.3g}",
        control={
            "random direction": _cosine(first, random),
            "step in a random direction": _cosine(first, random_step),
            "step shared by all variables": _cosine(first, shared_step),
        },
        steps=steps,
        cosines=cosines,
        loss_changes=tuple(value - start for value, _ in after),
        loss=start,
    )


@dataclass(frozen=True, kw_only=True, repr=False)
class LossSlice(Result):
    """The loss along random directions through the weights, each filter scaled to the norm of the weights' filter.

    A slice is a projection: a slice that looks convex does not make the loss convex (Li 2018, section 5).
    """

    title: ClassVar[str] = "loss slice"
    thresholds: ClassVar[str] = "none: slices are compared with each other, at equal loss"

    at: tuple[float, ...]
    """Positions along the direction, in lengths of the weights."""
    losses: tuple[tuple[float, ...], ...]
    """For every direction, the loss along it, in nats."""
    curved_down: float
    """Share of the inner points at which a slice has negative curvature."""

    def panels(self) -> list[Panel]:
        """Returns the loss along every direction."""
        curves = {f"direction {number}": (self.at, row) for number, row in enumerate(self.losses, 1)}
        chance = {"chance": self.control["chance"]}
        return [
            Panel("loss along directions", "distance (lengths of the weights)", "loss (nats)", curves, controls=chance)
        ]


def loss_slice(
    model: KerasModel | Anatomy,
    x: Tensor,
    y: Tensor,
    *,
    loss: Loss | str | None = None,
    points: int = 11,
    reach: float = 1.0,
    directions: int = 2,
    statistics: Statistics = "moving",
    seed: int = 0,
) -> LossSlice:
    """Returns the loss along filter-normalized random directions (Li 2018, section 4).

    Biases and norms are not moved. Controls: more directions, which show how much a slice depends on the draw; and the
    loss of a network with one output for all inputs, ln(classes).

    Example:
        >>> import numpy as np, reszoo
        >>> model = reszoo.create("residual_mlp18", input_shape=(8,), width_multiplier=1 / 32, classes=2)
        >>> x = np.random.default_rng(0).normal(size=(16, 8)).astype("float32")
        >>> reszoo.diagnosis.loss_slice(model, x, np.arange(16) % 2, points=3).at
        (-1.0, 0.0, 1.0)

    Args:
        model: a Keras model or its `Anatomy`.
        x: a batch of inputs.
        y: what the compiled loss takes; class indices for a model without one.
        loss: a function of true values and outputs, instead of the compiled loss (without one, cross-entropy).
        points: number of points of a slice, odd.
        reach: distance to both sides, in lengths of the weights.
        directions: number of directions.
        statistics: which statistics batch norms use: `moving`, which stay fixed, or `batch`.
        seed: random seed of the directions.

    Raises:
        ReszooError: the model cannot be analyzed, or has no trainable weights.
    """
    network = take_apart(model)
    labels = network.targets(y, loss)
    variables = [variable for variable in _trainable(network) if len(variable.shape) > 1]
    weights = [ops.convert_to_numpy(variable).astype("float64") for variable in variables]
    random = np.random.default_rng(seed)
    positions = np.linspace(-reach, reach, points)
    scored = network.scored(loss)
    rows = []
    with preserve_variables(network.graph.model), without_gradient():
        for _ in range(directions):
            direction = [_filter_normalized(random.normal(size=value.shape), value) for value in weights]
            row = []
            for position in positions:
                triples = zip(variables, weights, direction, strict=True)
                values = [(v, (w + position * d).astype("float32")) for v, w, d in triples]
                outputs = network.graph.run(x, outputs=[scored], statistics=statistics, weights=values)
                row.append(float(network.loss(outputs[scored], labels, loss)))
            rows.append(tuple(row))
    curvature = np.array([np.diff(row, 2) for row in rows])
    share = float((curvature < 0).mean())
    ends = float(np.mean([(row[0], row[-1]) for row in rows]))
    classes = max((network.graph.shapes[network.graph.logits] or (2,))[-1] or 2, 2)
    return LossSlice(
        model=network.name,
        level="unknown",
        verdict=f"the loss goes from {rows[0][points // 2]:.3g} in the middle to {ends:.3g} at the ends "
        f"(chance {log(classes):.3g}), with negative curvature at {share:.0%} of the points between",
        control={"chance": log(classes), "spread between directions": float(np.std(rows, axis=0).mean())},
        at=tuple(map(float, positions)),
        losses=tuple(rows),
        curved_down=share,
    )


def _trainable(network: Anatomy) -> list[KerasVariable]:
    variables = list(network.graph.model.trainable_variables)
    if not variables:
        hint = "make it trainable: reszoo.freeze(model, until='stem')"
        raise ReszooError(f"{network.name}: weights", got="no trainable weights", expected="at least one", hint=hint)
    return variables


def _filter_normalized(direction: Array, weights: Array) -> Array:
    axes = tuple(range(weights.ndim - 1))
    lengths = np.sqrt((direction**2).sum(axis=axes, keepdims=True))
    return direction / np.maximum(lengths, 1e-12) * np.sqrt((weights**2).sum(axis=axes, keepdims=True))


def _norm(arrays: list[Array]) -> float:
    return float(np.sqrt(sum((array**2).sum() for array in arrays)))


def _cosine(a: list[Array], b: list[Array]) -> float:
    # Scaled first: products of small gradients underflow.
    sizes = [max((float(np.abs(array).max(initial=0.0)) for array in one), default=0.0) or 1.0 for one in (a, b)]
    a, b = ([array / size for array in one] for one, size in zip((a, b), sizes, strict=True))
    length = _norm(a) * _norm(b)
    return float(sum((p * q).sum() for p, q in zip(a, b, strict=True)) / length) if length else float("nan")
