"""Ranges of pixel values: an array does not say whether white is 1, 255 or 65535; its values do."""

from __future__ import annotations

from typing import Any, NamedTuple


class Range(NamedTuple):
    """The range of the values of images."""

    low: float
    high: float
    white: float | None
    """1, 255 or 65535; None where the values do not say it, as for normalized images."""


def value_range(x: Any) -> Range:
    """Returns the range of images, and the value of white that follows from it.

    Example:
        >>> import numpy
        >>> from reszoo.data.ranges import value_range
        >>> value_range(numpy.array([0.0, 127.5]))
        Range(low=0.0, high=127.5, white=255.0)
    """
    import numpy as np

    x = np.asarray(x)
    if not x.size or x.dtype.kind not in "fiub":
        return Range(0.0, 0.0, None)
    low, high = float(x.min()), float(x.max())
    if low < 0 or not np.isfinite(high):
        return Range(low, high, None)
    if x.dtype.kind == "f" and high > 255:
        return Range(low, high, None)
    if x.dtype.kind in "fb":
        return Range(low, high, 1.0 if high <= 1 else 255.0)
    return Range(low, high, 255.0 if high <= 255 else 65535.0 if high <= 65535 else None)
