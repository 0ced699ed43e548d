"""How far the gradient can be trusted: steps along it, and slices through the loss."""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import Any, ClassVar

import numpy as np
from keras import ops

from reszoo.diagnosis.anatomy import Anatomy, Loss, take_apart, untouched
from reszoo.diagnosis.autodiff import without_gradient
from reszoo.diagnosis.graph import Statistics
from reszoo.diagnosis.measures.result import Level, Result
from reszoo.errors import ReszooError
from reszoo.report.profiles import Panel


@dataclass(frozen=True, kw_only=True)
class Predictiveness(Result):
    """Whether the gradient still points the same way after a step along it."""

    title: ClassVar[str] = "gradient predictiveness"
    thresholds: ClassVar[str] = (
        "cosine of the gradient with itself after a step of 1e-4 of the weights' norm: from 0.9 healthy, from 0.5 "
        "strained, below broken"
    )

    steps: tuple[float, ...]
    """Length of the step over the norm of the weights."""
    cosines: tuple[float, ...]
    """Of the gradient before with that after the step."""
    loss_changes: tuple[float, ...]
    """What the step does to the loss, nats."""
    loss: float

    def panels(self) -> list[Panel]:
        """Returns cosine and loss change over the length of the step."""
        lengths = [float(np.log10(step)) for step in self.steps]
        return [
            Panel("gradient after a step", "log10 of step / weights", "cosine", {self.model: (lengths, self.cosines)}),
            Panel("loss", "log10 of step / weights", "change (nats)", {self.model: (lengths, self.loss_changes)}),
        ]


def predictiveness(
    model: Any,
    x: Any,
    y: Any,
    *,
    loss: Loss | None = None,
    steps: tuple[float, ...] = (1e-4, 1e-3, 1e-2),
    statistics: Statistics = "batch",
    seed: int = 0,
) -> Predictiveness:
    """Returns how long a step can be for which the gradient holds (Santurkar 2018, section 3.1).

    Controls: the cosine of the gradient with a random direction, and with the gradient after a step of the first
    length in a random direction.

    Args:
        model: a Keras model, or one taken apart.
        x: a batch of inputs.
        y: their classes, or what `loss` takes.
        loss: a function of true values and outputs, other than cross-entropy.
        steps: lengths, over the norm of the weights.
        statistics: of batch norms: `batch` as in training, or `moving`.
        seed: of the random direction.

    Raises:
        ReszooError: the model cannot be taken apart, or nothing in it learns.
    """
    network = take_apart(model)
    labels = network.labels(y, loss)
    variables = _learning(network)
    own = [ops.convert_to_numpy(variable).astype("float64") for variable in variables]
    length = _norm(own)
    random = [np.random.default_rng(seed).normal(size=value.shape) for value in own]

    def slopes(step: float, along: list[Any]) -> tuple[float, list[Any]]:
        scale = step * length / (_norm(along) or 1.0)
        moved = [ops.convert_to_tensor((w - scale * g).astype("float32")) for w, g in zip(own, along, strict=True)]
        settings: dict[str, Any] = {"loss": loss, "statistics": statistics}
        value, found = network.slopes(x, labels, variables=variables, values=moved, **settings)
        return value, [slope.astype("float64") for slope in found]

    with untouched(network.graph.model):
        here, first = slopes(0.0, random)
        after = [slopes(step, first) for step in steps]
        _, aside = slopes(steps[0], random)
    cosines = tuple(_cosine(first, found) for _, found in after)
    near = cosines[0]
    level: Level = "healthy" if near >= 0.9 else "strained" if near >= 0.5 else "broken"
    return Predictiveness(
        model=network.name,
        level=level,
        verdict=f"after a step of {steps[0]:g} of the weights' norm the gradient has a cosine of {near:.3f} with what "
        f"it was; after {steps[-1]:g}, {cosines[-1]:.3f} and the loss changed by {after[-1][0] - here:+.3g}",
        control={"random direction": _cosine(first, random), "step in a random direction": _cosine(first, aside)},
        steps=steps,
        cosines=cosines,
        loss_changes=tuple(value - here for value, _ in after),
        loss=here,
    )


@dataclass(frozen=True, kw_only=True)
class LossSlice(Result):
    """The loss along a random direction through the weights, every filter of which is as long as the weights' own.

    A slice is a projection: that it looks convex does not make the loss convex (Li 2018, section 5).
    """

    title: ClassVar[str] = "loss slice"
    thresholds: ClassVar[str] = "none: slices are compared with each other, at equal loss"

    at: tuple[float, ...]
    """Where along the direction, in lengths of the weights."""
    losses: tuple[tuple[float, ...], ...]
    """Of every direction: the loss along it, nats."""
    curved_down: float
    """Share of the points between the ends at which a slice bends downwards."""

    def panels(self) -> list[Panel]:
        """Returns the loss along every direction."""
        curves = {f"direction {number}": (self.at, row) for number, row in enumerate(self.losses, 1)}
        curves["chance"] = ((self.at[0], self.at[-1]), (self.control["chance"],) * 2)
        return [Panel(self.model, "distance (lengths of the weights)", "loss (nats)", curves)]


def loss_slice(
    model: Any,
    x: Any,
    y: Any,
    *,
    loss: Loss | None = None,
    points: int = 11,
    reach: float = 1.0,
    directions: int = 2,
    statistics: Statistics = "moving",
    seed: int = 0,
) -> LossSlice:
    """Returns the loss along filter-normalised random directions (Li 2018, section 4).

    Biases and norms are not moved. Controls: more directions, which show how much a slice depends on the draw; and the
    loss of a network that says the same of every input, ln(classes).

    Args:
        model: a Keras model, or one taken apart.
        x: a batch of inputs.
        y: their classes, or what `loss` takes.
        loss: a function of true values and outputs, other than cross-entropy.
        points: of a slice, an odd number.
        reach: how far to go to both sides, in lengths of the weights.
        directions: how many.
        statistics: of batch norms: the moving ones, held fast, or `batch`.
        seed: of the directions.

    Raises:
        ReszooError: the model cannot be taken apart, or nothing in it learns.
    """
    network = take_apart(model)
    labels = network.labels(y, loss)
    variables = [variable for variable in _learning(network) if len(variable.shape) > 1]
    own = [ops.convert_to_numpy(variable).astype("float64") for variable in variables]
    random, at = np.random.default_rng(seed), np.linspace(-reach, reach, points)
    logits, rows = network.graph.logits, []
    with untouched(network.graph.model), without_gradient():
        for _ in range(directions):
            along = [_filter_normalised(random.normal(size=value.shape), value) for value in own]
            row = []
            for place in at:
                moved = [(v, (w + place * d).astype("float32")) for v, w, d in zip(variables, own, along, strict=True)]
                found = network.graph.run(x, wanted=[logits], statistics=statistics, weights=moved)[logits]
                row.append(float(network.loss(found, labels, loss)))
            rows.append(tuple(row))
    bends = np.array([np.diff(row, 2) for row in rows])
    share, ends = float((bends < 0).mean()), float(np.mean([(row[0], row[-1]) for row in rows]))
    classes = max(network.graph.shapes[logits][-1] or 2, 2)
    return LossSlice(
        model=network.name,
        level="unknown",
        verdict=f"the loss goes from {rows[0][points // 2]:.3g} here to {ends:.3g} at the ends "
        f"(chance {log(classes):.3g}), and bends downwards at {share:.0%} of the points between",
        control={"chance": log(classes), "spread between directions": float(np.std(rows, axis=0).mean())},
        at=tuple(map(float, at)),
        losses=tuple(rows),
        curved_down=share,
    )


def _learning(network: Anatomy) -> list[Any]:
    variables = list(network.graph.model.trainable_variables)
    if not variables:
        hint = "make it trainable: reszoo.freeze(model, until='stem')"
        raise ReszooError(f"{network.name}: weights", got="none that learn", expected="some", hint=hint)
    return variables


def _filter_normalised(direction: Any, weights: Any) -> Any:
    axes = tuple(range(weights.ndim - 1))
    lengths = np.sqrt((direction**2).sum(axis=axes, keepdims=True))
    return direction / np.maximum(lengths, 1e-12) * np.sqrt((weights**2).sum(axis=axes, keepdims=True))


def _norm(arrays: list[Any]) -> float:
    return float(np.sqrt(sum((array**2).sum() for array in arrays)))


def _cosine(a: list[Any], b: list[Any]) -> float:
    # Each is scaled first: products of small gradients underflow.
    sizes = [max((float(np.abs(array).max(initial=0.0)) for array in one), default=0.0) or 1.0 for one in (a, b)]
    a, b = ([array / size for array in one] for one, size in zip((a, b), sizes, strict=True))
    length = _norm(a) * _norm(b)
    return float(sum((p * q).sum() for p, q in zip(a, b, strict=True)) / length) if length else float("nan")
