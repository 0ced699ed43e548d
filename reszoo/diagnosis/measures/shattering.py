"""How fast the gradient changes with the input: the correlation of the gradients of neighboring inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from keras import ops

from reszoo.diagnosis.anatomy import Anatomy, preserve_variables, take_apart
from reszoo.diagnosis.autodiff import gradient
from reszoo.diagnosis.graph import Statistics
from reszoo.diagnosis.measures.result import Result, level_from_top
from reszoo.errors import ReszooError
from reszoo.report.lines import Panel
from reszoo.types import Array, KerasModel, Tensor

LAGS = (1, 8, 32)
"""Distances at which gradients are compared, in 256ths of a segment."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Shattering(Result):
    """Correlation of the gradients at neighboring points of segments between two inputs."""

    title: ClassVar[str] = "shattering"
    thresholds: ClassVar[str] = (
        "correlation of gradients 1/256 of a segment apart: from 0.4 healthy, from 0.2 strained, below shattered "
        "(white noise has 0)"
    )

    lags: tuple[int, ...]
    """Distances, in 256ths of a segment."""
    correlation: tuple[float, ...]
    """Mean cosine of gradients at each distance, minus the segment's mean gradient; NaN for a linear network."""
    brown: tuple[float, ...]
    """The same for a random walk of as many steps and dimensions."""
    white: tuple[float, ...]
    """The same for white noise."""

    def panels(self) -> list[Panel]:
        """Returns the correlation over distance, with white noise and a random walk."""
        curves = {"network": self.correlation, "random walk": self.brown, "white noise": self.white}
        lines = {name: (self.lags, values) for name, values in curves.items()}
        return [Panel("gradients of neighbors", "distance (1/256 of a segment)", "correlation", lines)]


def shattering(
    model: KerasModel | Anatomy,
    x: Tensor,
    *,
    statistics: Statistics = "batch",
    pairs: int = 10,
    points: int = 256,
    seed: int = 0,
) -> Shattering:
    """Returns the correlation of gradients at neighboring inputs (Balduzzi 2017).

    At `points` positions on the segment between two inputs of the batch, the gradient of the first logit with respect
    to the input is taken. Controls: white noise, and a random walk.

    Example:
        >>> import numpy as np, reszoo
        >>> model = reszoo.create("residual_mlp18", input_shape=(8,), width_multiplier=1 / 32, classes=2)
        >>> x = np.random.default_rng(0).normal(size=(16, 8)).astype("float32")
        >>> reszoo.diagnosis.shattering(model, x, pairs=1, points=16).lags
        (1, 8)

    Args:
        model: a Keras model with one input, or its `Anatomy`.
        x: a batch of inputs, at least two.
        statistics: which statistics batch norms use: those of the batch `x`, which stay fixed, or `moving`.
        pairs: number of random segments.
        points: number of points per segment, 1/256 of it apart: 256 for the whole, fewer for its beginning.
        seed: random seed of segments and noise.

    Raises:
        ReszooError: the model cannot be analyzed or has several inputs, or the batch has fewer than two examples.
    """
    network = take_apart(model)
    if len(network.graph.inputs) != 1 or len(x) < 2:
        raise ReszooError(f"{network.name}: shattering", got="several inputs, or one example", expected="one input")
    random = np.random.default_rng(seed)
    x = np.asarray(x, "float32")
    logits = network.graph.logits
    share = (np.arange(points, dtype="float32") / 256).reshape(-1, *[1] * (x.ndim - 1))
    lags = tuple(lag for lag in LAGS if lag < points)
    with preserve_variables(network.graph.model):
        weights = network.graph.batch_statistics(x) if statistics == "batch" else []

        def first_logit(tensors: list[Tensor]) -> Tensor:
            outputs = network.graph.run(tensors[0], outputs=[logits], weights=weights)
            return ops.sum(ops.cast(outputs[logits][:, 0], "float32"))

        measured, walks, whites = [], [], []
        for _ in range(pairs):
            a, b = x[random.choice(len(x), 2, replace=False)]
            (segment,) = network.graph.tensors(a + share * (b - a))
            _, (slopes,) = gradient(first_logit, [segment])
            measured.append(_correlation(ops.convert_to_numpy(slopes).reshape(points, -1), lags))
            noise = random.normal(size=(points, min(x[0].size, 4096)))
            whites.append(_correlation(noise, lags))
            walks.append(_correlation(noise.cumsum(axis=0), lags))
    mean, brown, white = (tuple(map(float, np.mean(rows, axis=0))) for rows in (measured, walks, whites))
    level = level_from_top(mean[0], healthy=0.4, strained=0.2)
    verdict = f"gradients 1/256 of a segment apart correlate by {mean[0]:.2f}, at {lags[-1]}/256 by {mean[-1]:.2f}"
    if not np.isfinite(mean[0]):
        level, verdict = "unknown", "the gradient is the same everywhere: the network is linear"
    elif level == "broken":
        verdict += ": shattered"
    return Shattering(
        model=network.name,
        level=level,
        verdict=verdict,
        control={"white noise": white[0], "random walk": brown[0]},
        lags=lags,
        correlation=mean,
        brown=brown,
        white=white,
    )


def _correlation(slopes: Array, lags: tuple[int, ...]) -> list[float]:
    rows = slopes.astype("float64")
    greatest = np.abs(rows).max(initial=0.0)
    rows = rows / (greatest or 1.0)
    centered = rows - rows.mean(axis=0)
    if np.abs(centered).max(initial=0.0) < 1e-5:
        return [float("nan")] * len(lags)
    norms = np.sqrt((centered**2).sum(axis=1))
    units = np.divide(centered, norms[:, None], out=np.zeros_like(centered), where=norms[:, None] > 0)
    return [float((units[lag:] * units[:-lag]).sum(axis=1).mean()) for lag in lags]
