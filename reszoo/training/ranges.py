"""One rule for pixel ranges: what a network was trained on, and what it is shown, are brought to one range."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

from reszoo.data.ranges import Range, Scaling, value_range
from reszoo.data.sources import Data
from reszoo.errors import ReszooError

SAMPLE = 64
"""Examples that show the range of a source that is not an array."""
STANDARD = (1.0, 255.0, 65535.0)
"""Values of white in files and arrays; others, such as 16, belong to a data set."""


FILES = Range(0.0, 255.0, 255.0)
"""The range of decoded image files."""


class RangeScaling(NamedTuple):
    """A scaling for the range of a source, and what was converted."""

    scaling: Scaling
    note: str
    """Empty if the range is that of the training."""


def range_of(data: Data, /) -> Range:
    """Returns the range of the images of a source; for rows of a table, one without a value of white."""
    if len(data.shape) == 1:
        return Range(-math.inf, math.inf, None)
    ranges = [_range(part) for part in data.parts().values() if len(part)]
    low, high = min(each.low for each in ranges), max(each.high for each in ranges)
    whites = [each.white for each in ranges]
    return Range(low, high, data.white or (None if None in whites else max(white or 0 for white in whites)))


def _range(part: Any) -> Range:
    if hasattr(part, "paths"):
        return Range(0.0, part.white, part.white)
    values = getattr(part, "x", None)
    return value_range(part.take(range(min(len(part), SAMPLE))) if values is None else values)


def scaling_for_range(scaling: Scaling, white: float | None, values: Range, /, *, where: str) -> RangeScaling:
    """Returns the scaling of a network for a source with another range of values.

    Args:
        scaling: of the training.
        white: value of white in the training; None if its values were no pixels.
        values: range of the source.
        where: the network and the source, for messages.

    Raises:
        ReszooError: the range of the source is unclear, or no pixels are known to the network.
    """
    shown = f"values from {values.low:.3g} to {values.high:.3g}"
    if white is None:
        largest = scaling.scale * max(mean + 20 * std for mean, std in zip(scaling.mean, scaling.std, strict=True))
        if values.white in STANDARD[1:] and values.high > max(largest, 16):
            expected = f"values as in training, up to about {largest:.3g}"
            raise ReszooError(where, got=shown, expected=expected, hint="scale them as for the training")
        return RangeScaling(scaling, "")
    if white not in STANDARD and 1 < values.high <= white and values.low >= 0:
        return RangeScaling(scaling, "")
    if values.white is None:
        expected = f"pixels from 0 to {white:g}, 0 to 1, or 0 to 255"
        kind = "normalized already?" if values.low < 0 else "more than 8 bits per channel?"
        raise ReszooError(where, got=f"{shown} ({kind})", expected=expected)
    if values.white == white:
        return RangeScaling(scaling, "")
    note = f"{shown}: white is {values.white:g} here and was {white:g} in training; converted"
    return RangeScaling(replace(scaling, scale=scaling.scale * values.white / white), note)
