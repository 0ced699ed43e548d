"""Confidence intervals of accuracies."""

from __future__ import annotations

import math

Z = 1.96
"""Standard errors on either side of 95 %."""


def interval(share: float, examples: int, *, z: float = Z) -> tuple[float, float]:
    """Returns the 95 % interval of a share of independent examples (Wilson 1927).

    Example:
        >>> [round(edge, 3) for edge in interval(0.973, 1297)]
        [0.963, 0.981]

    Args:
        share: such as an accuracy, from 0 to 1.
        examples: on which it was measured.
        z: standard errors on either side.
    """
    if examples < 1:
        return 0.0, 1.0
    square = z * z / examples
    center = (share + square / 2) / (1 + square)
    half = z / (1 + square) * math.sqrt(share * (1 - share) / examples + square / (4 * examples))
    return max(center - half, 0.0), min(center + half, 1.0)
