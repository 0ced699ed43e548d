"""How fast the gradient changes with the input: whether neighbours get gradients that have to do with each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from keras import ops

from reszoo.diagnosis.anatomy import take_apart, untouched
from reszoo.diagnosis.autodiff import gradient
from reszoo.diagnosis.graph import Statistics
from reszoo.diagnosis.measures.result import Level, Result
from reszoo.errors import ReszooError
from reszoo.report.profiles import Panel

LAGS = (1, 8, 32)


@dataclass(frozen=True, kw_only=True)
class Shattering(Result):
    """Correlation of the gradients at neighbouring points of segments between two inputs."""

    title: ClassVar[str] = "shattering"
    thresholds: ClassVar[str] = (
        "correlation of the gradient with that a 1/256 of the way on: from 0.4 healthy, from 0.2 strained, below "
        "shattered (white noise has 0)"
    )

    lags: tuple[int, ...]
    """In 256ths of a segment."""
    correlation: tuple[float, ...]
    """Mean cosine of gradients so far apart, the segment's mean gradient taken off; NaN of a linear network."""
    brown: tuple[float, ...]
    """The same of a random walk of as many steps and dimensions."""
    white: tuple[float, ...]
    """The same of white noise."""

    def panels(self) -> list[Panel]:
        """Returns correlation over distance, with white and brown noise."""
        curves = {self.model: self.correlation, "random walk": self.brown, "white noise": self.white}
        return [
            Panel(
                "gradients",
                "distance (1/256 of a segment)",
                "correlation",
                {k: (self.lags, v) for k, v in curves.items()},
            )
        ]


def shattering(
    model: Any, x: Any, *, statistics: Statistics = "batch", pairs: int = 10, points: int = 256, seed: int = 0
) -> Shattering:
    """Returns how alike gradients at neighbouring inputs are (Balduzzi 2017).

    Between two inputs of the batch lie `points` more; at each the gradient of the first logit with respect to the
    input is taken. Controls: white noise, and a random walk.

    Args:
        model: a Keras model of one input, or one taken apart.
        x: a batch of inputs, at least two.
        statistics: of batch norms: those of the batch `x`, held fast, or `moving`.
        pairs: segments, drawn at random.
        points: of a segment, neighbours 1/256 of it apart: 256 for the whole, fewer for its beginning.
        seed: of pairs and noise.

    Raises:
        ReszooError: the model cannot be taken apart or has several inputs, or there are too few inputs.
    """
    network = take_apart(model)
    if len(network.graph.inputs) != 1 or len(x) < 2:
        raise ReszooError(f"{network.name}: shattering", got="several inputs, or one example", expected="one input")
    random = np.random.default_rng(seed)
    x, logits = np.asarray(x, "float32"), network.graph.logits
    share = (np.arange(points, dtype="float32") / 256).reshape(-1, *[1] * (x.ndim - 1))
    lags = tuple(lag for lag in LAGS if lag < points)
    found, walks, whites = [], [], []

    def first_logit(got: list[Any]) -> Any:
        made = network.graph.run(got[0], wanted=[logits], weights=settled)[logits]
        return ops.sum(ops.cast(made[:, 0], "float32"))

    with untouched(network.graph.model):
        settled = network.graph.settled(x) if statistics == "batch" else []
        for _ in range(pairs):
            a, b = x[random.choice(len(x), 2, replace=False)]
            (segment,) = network.graph.tensors(a + share * (b - a))
            _, (slopes,) = gradient(first_logit, [segment])
            found.append(_correlation(ops.convert_to_numpy(slopes).reshape(points, -1), lags))
            noise = random.normal(size=(points, min(x[0].size, 4096)))
            whites.append(_correlation(noise, lags))
            walks.append(_correlation(noise.cumsum(axis=0), lags))
    mean, brown, white = (tuple(map(float, np.mean(rows, axis=0))) for rows in (found, walks, whites))
    near = mean[0]
    level: Level = "healthy" if near >= 0.4 else "strained" if near >= 0.2 else "broken"
    told = f"gradients 1/256 of a segment apart correlate by {near:.2f}, at {lags[-1]}/256 by {mean[-1]:.2f}"
    if not np.isfinite(near):
        level, told = "unknown", "the gradient is the same everywhere: the network is linear"
    return Shattering(
        model=network.name,
        level=level,
        verdict=told + (": shattered" if level == "broken" else ""),
        control={"white noise": white[0], "random walk": brown[0]},
        lags=lags,
        correlation=mean,
        brown=brown,
        white=white,
    )


def _correlation(slopes: Any, lags: tuple[int, ...]) -> list[float]:
    rows = slopes.astype("float64")
    greatest = np.abs(rows).max(initial=0.0)
    rows = rows / (greatest or 1.0)
    apart = rows - rows.mean(axis=0)
    if np.abs(apart).max(initial=0.0) < 1e-5:
        return [float("nan")] * len(lags)
    norms = np.sqrt((apart**2).sum(axis=1))
    apart = np.divide(apart, norms[:, None], out=np.zeros_like(apart), where=norms[:, None] > 0)
    return [float((apart[lag:] * apart[:-lag]).sum(axis=1).mean()) for lag in lags]
