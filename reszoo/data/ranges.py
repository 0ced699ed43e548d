"""The value range of pictures, and the scaling before a network: one rule for every source."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from reszoo.errors import ReszooError
from reszoo.types import Array

TOLERANCE = 1e-3
"""Rounding moves values slightly beyond black, and beyond white relative to it."""
OVERSHOOT = 0.1
"""So does resampling, further."""
STANDARD = (1.0, 255.0, 65535.0)
"""Values of white in files and arrays; others, such as 16, belong to a data set."""

CHUNK = 256
"""Examples that are converted at once."""


class Range(NamedTuple):
    """The values of pictures: least, greatest, and the value of white."""

    low: float
    high: float
    white: float | None
    """1, 255 or 65535; None for values that are no pixel values."""
    note: str = ""
    """What is unusual about the range; empty for 8-bit integers and for floats from 0 to 1."""

    def __repr__(self) -> str:
        return f"Range({self.low:g} to {self.high:g}, white {self.white and f'{self.white:g}'})"


FILES = Range(0.0, 255.0, 255.0)
"""The range of decoded image files."""


def value_range(x: Any, /) -> Range:
    """Returns the value range of pictures, judged by all of their values and by their type.

    Floats from 0 to 1: white is 1. Other floats from 0 to 255: white is 255. Resampled ones may exceed both by a tenth.
    Integers up to 255: white is 255; up to 65535: white is 65535. Booleans, and integers 0 and 1: white is 1. Anything
    else is no pixel range.

    Example:
        >>> import numpy
        >>> from reszoo.data.ranges import value_range
        >>> value_range(numpy.array([0.0, 128.0, 255.0])).white, value_range(numpy.array([-1.0, 1.0])).white
        (255.0, None)

    Args:
        x: an array, or a list of arrays that belong to one source.
    """
    import numpy as np

    arrays = [np.asarray(part) for part in (x if isinstance(x, (list, tuple)) else [x])]
    arrays = [part for part in arrays if part.size]
    if not arrays:
        return Range(0.0, 0.0, None, "no values")
    low, high = float(min(part.min() for part in arrays)), float(max(part.max() for part in arrays))
    if all(part.dtype.kind in "uib" for part in arrays):
        return _integers(low, high, boolean=all(part.dtype.kind == "b" for part in arrays))
    for white in (1.0, 255.0):
        exact = low >= -TOLERANCE and high <= white * (1 + TOLERANCE)
        # Negative values beside small ones are those of normalized images.
        resampled = low >= -OVERSHOOT * white and white / 2 < high <= white * (1 + OVERSHOOT)
        if exact or resampled:
            note = f"floats from {low:g} to {high:g}: white is {white:g}"
            return Range(low, high, white, "" if exact and white == 1 else note)
    return Range(low, high, None, _no_pixels("floats", low, high))


def is_fraction(x: Array, values: Range) -> bool:
    """Returns whether images are floats of which white is 1, though in their source as a whole it is 255.

    Whole numbers alone, such as those of black images, do not tell.
    """
    if values.white != 255 or x.dtype.kind != "f" or not x.size or x.min() < 0 or x.max() > 1:
        return False
    return bool((x % 1 != 0).any())


def _integers(low: float, high: float, *, boolean: bool) -> Range:
    if boolean:
        return Range(low, high, 1.0)
    if low >= 0 and high == 1:
        return Range(low, high, 1.0, "integers 0 and 1: white is 1")
    if low >= 0 and high <= 255:
        return Range(low, high, 255.0)
    if low >= 0 and high <= 65535:
        return Range(low, high, 65535.0, f"integers up to {high:.0f}: white is 65535")
    return Range(low, high, None, _no_pixels("integers", low, high))


def _no_pixels(kind: str, low: float, high: float) -> str:
    normalized = " (normalized already?)" if -16 <= low < 0 and high <= 16 else ""
    return f"{kind} from {low:g} to {high:g}: no range of pixel values{normalized}; taken as they are"


@dataclass(frozen=True)
class Scaling:
    """Normalization before the network: `(x / scale - mean) / std`, per channel."""

    scale: float
    """For pictures the value of white: 1, 255, 65535."""
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, x: Any) -> Array:
        import numpy as np

        mean, std = np.array(self.mean, "float32"), np.array(self.std, "float32")
        result: Array = (np.asarray(x, "float32") / np.float32(self.scale) - mean) / std
        return result


def measure(x: Array, scale: float) -> Scaling:
    """Returns the scaling to mean 0 and deviation 1 per channel.

    The sums are in float64, over the values that `Scaling` divides: the same pictures as 8-bit integers, 16-bit
    integers and floats have the same mean.

    Args:
        x: examples, channels last.
        scale: divisor of the values.
    """
    import numpy as np

    count = max(x.size // x.shape[-1], 1)
    mean = np.sum([part.sum(axis=0) for part in _columns(x, scale)], axis=0) / count
    variance = np.sum([((part - mean) ** 2).sum(axis=0) for part in _columns(x, scale)], axis=0) / count
    # A constant channel or column: its deviation is at most the rounding of its values.
    std = [value if value > 1e-6 * abs(center) else 1.0 for value, center in zip(variance**0.5, mean, strict=True)]
    return Scaling(float(scale), tuple(map(float, mean)), tuple(map(float, std)))


def _columns(x: Array, scale: float) -> Iterator[Array]:
    """Scaled values of some examples at a time, `(values, channels)` in float64."""
    import numpy as np

    for start in range(0, len(x), CHUNK):
        part = np.asarray(x[start : start + CHUNK], "float32") / np.float32(scale)
        yield part.reshape(-1, x.shape[-1]).astype("float64")


class RangeScaling(NamedTuple):
    """A scaling for the range of a source, and what was converted."""

    scaling: Scaling
    note: str
    """Empty if the range is that of the training."""


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
        expected = f"pixels from 0 to {' or '.join(f'{largest:g}' for largest in sorted({white, 1.0, 255.0}))}"
        kind = "normalized already?" if values.low < 0 else "more than 8 bits per channel?"
        raise ReszooError(where, got=f"{shown} ({kind})", expected=expected)
    if values.white == white:
        return RangeScaling(scaling, "")
    note = f"{shown}: white is {values.white:g} here and was {white:g} in training; converted"
    return RangeScaling(replace(scaling, scale=scaling.scale * values.white / white), note)
