"""Examples in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from reszoo.data.pictures import Channels
from reszoo.errors import ReszooError
from reszoo.types import Array


@dataclass(frozen=True)
class Arrays:
    """Examples in memory."""

    x: Array
    """`(n, height, width, channels)` or `(n, features)`."""
    labels: Array
    """Class indices, `(n,)`; for several classes or numbers an example, rows."""
    size: int | None = None
    """Side of the square that images are resized to, in pixels; None leaves them as they are."""
    weights: Array | None = None
    """Weight of every example, `(n,)`; None where all count the same."""

    def __repr__(self) -> str:
        return f"Arrays({len(self):,} examples of shape {self.x.shape[1:]}, size={self.size})"

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Any, boxes: Any = None) -> Array:
        """Returns the examples at these indices.

        Args:
            indices: of the examples.
            boxes: for images, one crop each, as fractions of the sides `(left, top, right, bottom)`; by default the
                whole image, or its central square where images are resized.
        """
        x: Array = self.x[indices]
        if x.ndim != 4:
            return x
        height, width = (self.size, self.size) if self.size else x.shape[1:3]
        if boxes is None and x.shape[1:3] == (height, width):
            return x
        if boxes is None:
            boxes = [_central_square(*x.shape[1:3])] * len(x)
        return _crop_and_resize(x, boxes, height, width)

    def subset(self, indices: Any) -> Arrays:
        """Returns the examples at these indices as a new source."""
        import numpy as np

        if np.array_equal(indices, np.arange(len(self))):
            # Large arrays are not copied for nothing.
            return self
        weights = None if self.weights is None else self.weights[indices]
        return replace(self, x=self.x[indices], labels=self.labels[indices], weights=weights)


def _central_square(height: int, width: int) -> tuple[float, ...]:
    side = min(height, width)
    left, top = (1 - side / width) / 2, (1 - side / height) / 2
    return (left, top, 1 - left, 1 - top)


def _crop_and_resize(x: Array, boxes: Any, height: int, width: int) -> Array:
    """Crops of images at another size, bilinear; edge pixels are repeated beyond the border."""
    import numpy as np

    left, top, right, bottom = np.asarray(boxes).T

    def neighbours(low: Array, high: Array, steps: int, pixels: int) -> tuple[Array, Array, Array]:
        positions = low[:, None] + (high - low)[:, None] * (np.arange(steps) + 0.5) / steps
        positions = np.clip(positions * pixels - 0.5, 0, pixels - 1)
        before = np.minimum(positions.astype(int), max(pixels - 2, 0))
        return before, np.minimum(before + 1, pixels - 1), (positions - before).astype("float32")

    upper, lower, lower_weight = neighbours(top, bottom, height, x.shape[1])
    west, east, east_weight = neighbours(left, right, width, x.shape[2])
    images = np.arange(len(x))[:, None, None]
    lower_weight, east_weight = lower_weight[:, :, None, None], east_weight[:, None, :, None]

    def interpolate(rows: Array) -> Array:
        near, far = x[images, rows[:, :, None], west[:, None, :]], x[images, rows[:, :, None], east[:, None, :]]
        blend: Array = near * (1 - east_weight) + far * east_weight
        return blend

    result: Array = interpolate(upper) * (1 - lower_weight) + interpolate(lower) * lower_weight
    return result


def as_array(where: str, values: Any) -> Array:
    """Returns values as a NumPy array: lists, tensors of any framework, bfloat16 as float32.

    Raises:
        ReszooError: a list whose items have different shapes.
    """
    import numpy as np

    if np.ma.is_masked(values):
        raise ReszooError(where, got="masked values", expected="a value everywhere", hint=".filled(...)")
    try:
        if hasattr(values, "detach"):
            # A tensor of PyTorch that needs gradients, is on a GPU or has a type that NumPy lacks.
            values = values.detach().cpu()
            values = values.float() if "bfloat16" in str(values.dtype) else values
        array = np.asarray(values)
        if array.dtype.kind == "O" and array.ndim == 1 and len(array) and hasattr(array[0], "shape"):
            array = np.stack([np.asarray(item) for item in array])
    except (ValueError, TypeError, RuntimeError) as error:
        shapes = _shapes(values)
        got = f"items of shapes {' and '.join(map(str, shapes))}" if len(shapes) > 1 else f"values ({error})"
        hint = "pictures of different sizes: bring them to one size, or a folder of class folders"
        hint = "several classes of one example: rows of 0 and 1 (multilabel)" if where.endswith("labels") else hint
        raise ReszooError(where, got=got, expected="items of one shape", hint=hint) from None
    return array.astype("float32") if array.dtype.name == "bfloat16" else array


def _shapes(values: Any) -> list[tuple[int, ...]]:
    """Two different shapes of items, if there are."""
    import numpy as np

    shapes: list[tuple[int, ...]] = []
    for item in values if hasattr(values, "__iter__") else ():
        try:
            shape = np.shape(item)
        except ValueError:
            return []
        if shape not in shapes:
            shapes.append(shape)
    return shapes[:2]


def check_inputs(name: str, x: Any) -> Array:
    """Returns inputs of examples as `(n, features)` or `(n, height, width, channels)`.

    Raises:
        ReszooError: shapes, types or values that no training can use.
    """
    import numpy as np

    where = f"{name}: x"
    x = as_array(where, x)
    if x.dtype.kind == "O":
        kinds = {type(value) for value in x.reshape(-1).tolist()}
        if not all(issubclass(kind, (int, float)) for kind in kinds):
            got = f"values of type {', '.join(sorted(kind.__name__ for kind in kinds)[:5])}"
            raise ReszooError(where, got=got, expected="numbers")
        x = x.astype("float64")
    if x.dtype.kind in "US":
        raise ReszooError(where, got="text", expected="numbers", hint="files of pictures: a folder of class folders")
    if x.dtype.kind not in "fiub" or x.ndim not in (2, 3, 4) or 0 in x.shape[1:]:
        expected = "(n, height, width[, channels]) or (n, features)"
        raise ReszooError(name, got=f"x of shape {x.shape}, {x.dtype}", expected=expected)
    if x.dtype.kind == "f":
        for start in range(0, len(x), 1024):
            with np.errstate(over="ignore"):
                # Networks compute in float32, which ends at 3.4e+38.
                bad = np.argwhere(~np.isfinite(x[start : start + 1024].astype("float32", copy=False)))
            if len(bad):
                value = x[start : start + 1024][tuple(bad[0])]
                got = f"x of {'NaN' if np.isnan(value) else f'{value:g}'} in example {start + bad[0][0]}"
                raise ReszooError(name, got=got, expected="finite numbers, at most 3.4e+38")
    if channels_first(x.shape):
        got = f"images of shape {x.shape[1:]}: channels first"
        raise ReszooError(where, got=got, expected="(n, height, width, channels)", hint="x.transpose(0, 2, 3, 1)")
    return x[..., None] if x.ndim == 3 else x


def check_weights(name: str, weights: Any, count: int) -> Array | None:
    """Returns the weights of examples, `(n,)` float32; None for None.

    Raises:
        ReszooError: another number of them, or weights that are not finite, below 0 or all 0.
    """
    import numpy as np

    if weights is None:
        return None
    where = f"{name}: sample_weight"
    values = as_array(where, weights)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.dtype.kind not in "fiub" or values.shape != (count,):
        got = f"weights of shape {values.shape}, {values.dtype}"
        raise ReszooError(where, got=got, expected=f"one number for each of {count} examples")
    if not np.isfinite(values).all() or (values < 0).any() or not values.any():
        got = f"weights from {values.min()} to {values.max()}"
        raise ReszooError(where, got=got, expected="finite numbers, 0 or more, and not all 0")
    return values.astype("float32")


def channels_first(shape: tuple[int, ...], *, torch: bool = False) -> bool:
    """Returns whether a shape of images looks like `(n, channels, height, width)`.

    Args:
        shape: of the images.
        torch: whether PyTorch made them, whose images are, unless the last axis alone can be that of the channels.
    """
    if len(shape) != 4:
        return False
    if torch:
        return shape[1] <= 4 or shape[3] > 4
    if shape[3] <= max(shape[1], 4):
        return False
    return shape[1] in (1, 3, 4) or (shape[1] < 16 <= shape[2] == shape[3])


def axes_notes(name: str, x: Array) -> list[str]:
    """Returns how the axes of images are read, where their shape leaves doubts."""
    if x.ndim != 4 or (x.shape[3] in (3, 4) or (x.shape[3] == 1 and max(x.shape[1:3]) <= 4 * min(x.shape[1:3]))):
        return []
    height, width, channels = x.shape[1:]
    kind = "gray images" if channels == 1 else f"images of {channels} channels"
    return [f"{name}: read as {kind}, {height} high and {width} wide"]


def to_channels(name: str, x: Array, channels: Channels | None, white: float | None) -> Array:
    """Returns images with the channels that are asked for; transparent parts become white.

    Raises:
        ReszooError: images of a number of channels that have no colors.
    """
    import numpy as np

    count = {"rgb": 3, "gray": 1}[channels] if channels else x.shape[-1]
    if x.ndim != 4 or x.shape[-1] == count:
        return x
    if x.shape[-1] not in (1, 3, 4):
        got = f"images with {x.shape[-1]} channels"
        raise ReszooError(f"{name}: channels", got=got, expected=f"1, 3 or 4 channels for channels={channels!r}")
    kind = x.dtype
    if x.shape[-1] == 4:
        opaque = x[..., 3:].astype("float32") / (white or 1.0)
        x = x[..., :3] * opaque + (white or 1.0) * (1 - opaque)
    if count == 1:
        # Rec. 601, as Pillow.
        x = x[..., :3].astype("float32") @ np.array([[0.299], [0.587], [0.114]], "float32")
    elif x.shape[-1] == 1:
        x = np.repeat(x, 3, axis=-1)
    return np.round(x).astype(kind) if kind.kind in "ui" else x.astype(kind if kind.kind == "f" else "float32")


def shrink_images(x: Array, size: int | None) -> Array:
    """Returns images whose shorter side is at most `size`, resized once with antialiasing.

    They keep their aspect ratio: crops are taken from the whole image, and smaller images are enlarged then.
    """
    if size is None or x.ndim != 4 or min(x.shape[1:3]) <= size:
        return x
    import numpy as np
    from keras import ops

    shorter = min(x.shape[1:3])
    sides = tuple(round(side * size / shorter) for side in x.shape[1:3])
    chunks = [np.asarray(x[start : start + 512], "float32") for start in range(0, len(x), 512)]
    settings = {"antialias": True, "data_format": "channels_last"}
    resized = [ops.image.resize(chunk, sides, **settings) for chunk in chunks]
    return np.concatenate([ops.convert_to_numpy(chunk) for chunk in resized])
