"""Examples in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from reszoo.errors import ReszooError
from reszoo.types import Array, Tensor


@dataclass(frozen=True)
class Arrays:
    """Examples in memory."""

    x: Array
    """`(n, height, width, channels)` or `(n, features)`."""
    labels: Array
    """Class indices, `(n,)`."""
    size: int | None = None
    """Side of the square that images are resized to, in pixels; None leaves them as they are."""

    def __repr__(self) -> str:
        return f"Arrays({len(self):,} examples of shape {self.x.shape[1:]}, size={self.size})"

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Any, boxes: Any = None) -> Array:
        """Returns the examples at these indices.

        Args:
            indices: of the examples.
            boxes: for images, one crop each, as fractions of the sides `(left, top, right, bottom)`; by default the
                whole image.
        """
        x: Array = self.x[indices]
        if x.ndim != 4:
            return x
        height, width = (self.size, self.size) if self.size else x.shape[1:3]
        if boxes is None and x.shape[1:3] == (height, width):
            return x
        return _crop_and_resize(x, boxes, height, width)

    def subset(self, indices: Any) -> Arrays:
        """Returns the examples at these indices as a new source."""
        return Arrays(self.x[indices], self.labels[indices], self.size)


def _crop_and_resize(x: Array, boxes: Any, height: int, width: int) -> Array:
    """Crops of images at another size, bilinear; edge pixels are repeated beyond the border."""
    import numpy as np

    count = len(x)
    left, top, right, bottom = (np.tile([0.0, 0.0, 1.0, 1.0], (count, 1)) if boxes is None else np.asarray(boxes)).T

    def neighbours(low: Array, high: Array, steps: int, pixels: int) -> tuple[Array, Array, Array]:
        positions = low[:, None] + (high - low)[:, None] * (np.arange(steps) + 0.5) / steps
        positions = np.clip(positions * pixels - 0.5, 0, pixels - 1)
        before = np.minimum(positions.astype(int), max(pixels - 2, 0))
        return before, np.minimum(before + 1, pixels - 1), (positions - before).astype("float32")

    upper, lower, lower_weight = neighbours(top, bottom, height, x.shape[1])
    west, east, east_weight = neighbours(left, right, width, x.shape[2])
    images = np.arange(count)[:, None, None]
    lower_weight, east_weight = lower_weight[:, :, None, None], east_weight[:, None, :, None]

    def interpolate(rows: Array) -> Array:
        near, far = x[images, rows[:, :, None], west[:, None, :]], x[images, rows[:, :, None], east[:, None, :]]
        blend: Array = near * (1 - east_weight) + far * east_weight
        return blend

    result: Array = interpolate(upper) * (1 - lower_weight) + interpolate(lower) * lower_weight
    return result


def read_batches(name: str, batches: Any) -> tuple[Array, Array]:
    """Returns all examples of a `tf.data.Dataset`, a PyDataset or another iterable of `(x, y)` batches as two arrays.

    A run takes examples by index, so that it can resume; a stream has one order only.

    Args:
        name: of the source, for messages.
        batches: inputs and labels: class indices, or one column per class.

    Raises:
        ReszooError: the source is infinite, empty, or does not yield `(inputs, labels)`.
    """
    import numpy as np
    from keras import ops

    if int(getattr(batches, "cardinality", lambda: 0)()) == -1:
        raise ReszooError(name, got="an infinite dataset", expected="a finite one", hint="dataset.take(batches)")
    arrays: list[list[Array]] = []
    for batch in _iterate(batches):
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            raise ReszooError(name, got=f"a batch of type {type(batch).__name__}", expected="batches (inputs, labels)")
        arrays.append([ops.convert_to_numpy(part) for part in batch])
    if not arrays or arrays[0][0].ndim < 2:
        got = "single examples" if arrays else "no batches"
        raise ReszooError(name, got=got, expected="batches (inputs, labels)")
    x, y = (np.concatenate(parts) for parts in zip(*arrays, strict=True))
    return x, (y.argmax(axis=-1) if y.ndim == 2 and y.shape[1] > 1 else y)


def _iterate(batches: Any) -> Iterator[tuple[Tensor, ...]]:
    # A PyDataset is read by index: iterating it would never end.
    if hasattr(batches, "__getitem__") and hasattr(batches, "__len__"):
        return (batches[index] for index in range(len(batches)))
    return iter(batches)


def check_arrays(name: str, x: Any, y: Any) -> tuple[Array, Array]:
    """Returns inputs with a channel axis and labels as `int64`.

    Raises:
        ReszooError: lengths, shapes, types or values that no training can use.
    """
    import numpy as np

    x, y = np.asarray(x), np.asarray(y).reshape(-1)
    if len(x) != len(y) or not len(x):
        expected = "equal numbers of both, at least one"
        raise ReszooError(name, got=f"{len(x)} examples and {len(y)} labels", expected=expected)
    if not np.issubdtype(y.dtype, np.integer) or y.min() < 0:
        raise ReszooError(name, got=f"labels of type {y.dtype} from {y.min()}", expected="class indices from 0")
    if x.dtype.kind not in "fiub" or x.ndim not in (2, 3, 4):
        expected = "(n, height, width[, channels]) or (n, features)"
        raise ReszooError(name, got=f"x of shape {x.shape}, {x.dtype}", expected=expected)
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        raise ReszooError(name, got="x with NaN or infinity", expected="finite numbers")
    return (x[..., None] if x.ndim == 3 else x), y.astype("int64")


def shrink_images(x: Array, size: int | None) -> Array:
    """Returns images resized once if they are larger than `size`; smaller ones are enlarged when they are taken."""
    if size is None or x.ndim != 4 or min(x.shape[1:3]) <= size:
        return x
    import numpy as np
    from keras import ops

    chunks = [np.asarray(x[start : start + 512], "float32") for start in range(0, len(x), 512)]
    settings = {"crop_to_aspect_ratio": True, "antialias": True, "data_format": "channels_last"}
    resized = [ops.image.resize(chunk, (size, size), **settings) for chunk in chunks]
    return np.concatenate([ops.convert_to_numpy(chunk) for chunk in resized])


def split(labels: Sequence[int] | Array, share: float, seed: int) -> tuple[Array, Array]:
    """Returns the indices of the remaining and of the held-out examples, stratified by class."""
    import numpy as np

    random, held_out = np.random.default_rng([seed, 7]), []
    for index in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == index))
        held_out.append(members[: round(share * len(members))])
    held = np.sort(np.concatenate(held_out))
    return np.setdiff1d(np.arange(len(labels)), held), held
