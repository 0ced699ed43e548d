"""Examples in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reszoo.errors import ReszooError


@dataclass(frozen=True)
class Arrays:
    """Examples in memory."""

    x: Any
    """`(n, height, width, channels)` or `(n, features)`."""
    labels: Any
    """Class numbers, `(n,)`."""
    size: int | None = None
    """Side of the square that images are shown in, in pixels; by default they are shown as they are."""

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, numbers: Any, shown: Any = None) -> Any:
        """Returns the examples with these numbers.

        Args:
            numbers: which.
            shown: of images, for every one the part to show, as shares of its sides `(left, top, right, bottom)`.
        """
        x = self.x[numbers]
        if x.ndim != 4:
            return x
        height, width = (self.size, self.size) if self.size else x.shape[1:3]
        if shown is None and x.shape[1:3] == (height, width):
            return x
        return _shown(x, shown, height, width)

    def only(self, numbers: Any) -> Arrays:
        """Returns the examples with these numbers as examples of their own."""
        return Arrays(self.x[numbers], self.labels[numbers], self.size)


def _shown(x: Any, boxes: Any, height: int, width: int) -> Any:
    """Parts of images at another size, bilinear; where the image ends its last pixel goes on."""
    import numpy as np

    count = len(x)
    left, top, right, bottom = (np.tile([0.0, 0.0, 1.0, 1.0], (count, 1)) if boxes is None else np.asarray(boxes)).T

    def between(low: Any, high: Any, steps: int, pixels: int) -> tuple[Any, Any, Any]:
        places = low[:, None] + (high - low)[:, None] * (np.arange(steps) + 0.5) / steps
        places = np.clip(places * pixels - 0.5, 0, pixels - 1)
        before = np.minimum(places.astype(int), max(pixels - 2, 0))
        return before, np.minimum(before + 1, pixels - 1), (places - before).astype("float32")

    up, down, low = between(top, bottom, height, x.shape[1])
    west, east, right_share = between(left, right, width, x.shape[2])
    images = np.arange(count)[:, None, None]
    low, right_share = low[:, :, None, None], right_share[:, None, :, None]

    def row(rows: Any) -> Any:
        near, far = x[images, rows[:, :, None], west[:, None, :]], x[images, rows[:, :, None], east[:, None, :]]
        return near * (1 - right_share) + far * right_share

    return row(up) * (1 - low) + row(down) * low


def gathered(name: str, batches: Any) -> tuple[Any, Any]:
    """Returns all examples of a `tf.data.Dataset`, a PyDataset or another source of batches `(x, y)`, as two arrays.

    A run takes examples by number, so that it can be gone on with; a stream gives them in one order only.

    Args:
        name: for messages.
        batches: inputs and labels: class numbers, or one column per class.

    Raises:
        ReszooError: it has no end, no batches, or batches of something else.
    """
    import keras
    import numpy as np

    if int(getattr(batches, "cardinality", lambda: 0)()) == -1:
        raise ReszooError(name, got="a dataset without end", expected="one that ends", hint="dataset.take(batches)")
    found = []
    # A PyDataset is asked for its batches by number, and does not say when they are over.
    numbered = hasattr(batches, "__getitem__") and hasattr(batches, "__len__")
    for batch in (batches[number] for number in range(len(batches))) if numbered else batches:
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            raise ReszooError(name, got="batches of something else", expected="batches (inputs, labels)")
        found.append([keras.ops.convert_to_numpy(part) for part in batch])
    if not found or found[0][0].ndim < 2:
        raise ReszooError(name, got="single examples" if found else "nothing", expected="batches (inputs, labels)")
    x, y = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return x, (y.argmax(axis=-1) if y.ndim == 2 and y.shape[1] > 1 else y)
