"""Gaussian-process regression (Rasmussen & Williams 2006, 2.2 and 5.4.1), and expected improvement."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.optimize import minimize
from scipy.special import erfcx, ndtr

Array = NDArray[np.float64]

LENGTH, VARIANCE, NOISE = 0.5, 1.0, 0.02
"""Expected length scale, in ranges of an axis; variance of the scores, and of their noise, in standard deviations."""
SPREAD = 1.0
"""Standard deviation of the logarithms of these three, a priori."""
BOUNDS = {"length": (0.05, 20.0), "variance": (0.05, 20.0), "noise": (1e-4, 1.0)}
LEAST_VARIANCE = 1e-10


@dataclass(frozen=True)
class Process:
    """A Gaussian process with a squared exponential kernel, one length scale an axis, and noise."""

    logs: Array
    """Logarithms of the length scales, of the variance and of the noise."""
    squares: Array
    """Squared distances between the points of the scores."""
    scores: Array

    @classmethod
    def fit(cls, squares: Array, scores: Array) -> Process:
        """Returns the process whose parameters are the most probable ones, given scores and expectations."""
        axes = len(squares)
        expected = np.log([*[LENGTH] * axes, VARIANCE, NOISE])
        bounds = [*[BOUNDS["length"]] * axes, BOUNDS["variance"], BOUNDS["noise"]]

        def loss(logs: Array) -> tuple[float, Array]:
            process = cls(logs, squares, scores)
            value, slope = process._evidence()
            surprise = (logs - expected) / SPREAD
            return float(surprise @ surprise) / 2 - value, surprise / SPREAD - slope

        result = minimize(loss, expected, jac=True, method="L-BFGS-B", bounds=np.log(bounds))
        return cls(result.x, squares, scores)

    def predict(self, squares: Array) -> tuple[Array, Array]:
        """Returns mean and standard deviation at other points, by their squared distances to those of the scores."""
        factor, kernel = self._factor(), self._kernel(squares)
        mean = kernel @ cho_solve(factor, self.scores)
        explained = solve_triangular(factor[0], kernel.T, lower=True)
        return mean, np.sqrt(np.maximum(math.exp(self.logs[-2]) - (explained**2).sum(axis=0), LEAST_VARIANCE))

    def _kernel(self, squares: Array) -> Array:
        return np.exp(self.logs[-2] - np.tensordot(np.exp(-2 * self.logs[:-2]), squares, 1) / 2)

    def _factor(self) -> tuple[Array, bool]:
        noise = math.exp(self.logs[-1]) * np.eye(len(self.scores))
        return cho_factor(self._kernel(self.squares) + noise, lower=True)

    def _evidence(self) -> tuple[float, Array]:
        """The logarithm of the probability of the scores, up to a constant, and its slope: eq. 5.8 and 5.9."""
        factor, kernel = self._factor(), self._kernel(self.squares)
        weights = cho_solve(factor, self.scores)
        excess = (np.outer(weights, weights) - cho_solve(factor, np.eye(len(weights)))) / 2
        lengths = np.tensordot(self.squares, excess * kernel, 2) * np.exp(-2 * self.logs[:-2])
        slope = np.array([*lengths, (excess * kernel).sum(), np.trace(excess) * math.exp(self.logs[-1])])
        return float(-self.scores @ weights / 2 - np.log(np.diag(factor[0])).sum()), slope


def log_improvement(mean: Array, deviation: Array, best: float) -> Array:
    """Returns the logarithm of the expected improvement over `best`, also where it is too small for a float.

    Ament et al. 2023, 4.1.
    """
    gap = (mean - best) / deviation
    near, far = np.maximum(gap, -1.0), np.maximum(-gap, 1.0)
    density = np.log(2 * np.pi) / 2
    tail = np.minimum(far * np.sqrt(np.pi / 2) * erfcx(far / np.sqrt(2)), 1 - 1e-12)
    direct = np.log(near * ndtr(near) + np.exp(-(near**2) / 2 - density))
    return np.log(deviation) + np.where(gap > -1, direct, -(far**2) / 2 - density + np.log1p(-tail))
