"""Hugging Face datasets of pictures, read into memory; the library itself is not imported."""

from __future__ import annotations

from typing import Any, NamedTuple

from reszoo.data.memory import free_memory, readable_size
from reszoo.data.pictures import Channels, from_pillow
from reszoo.errors import ReszooError
from reszoo.types import Array

PICTURES = ("image", "img", "picture", "pixel_values")
LABELS = ("label", "labels", "fine_label", "class", "target")


class Columns(NamedTuple):
    """Pictures and labels of a dataset."""

    x: Array
    y: list[Any]
    classes: tuple[str, ...] | None
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Columns({len(self.y):,} pictures of shape {self.x.shape[1:]})"


def is_hugging_face(source: Any) -> bool:
    """Returns whether a source is a `datasets.Dataset`: it has named columns with features and takes an index."""
    return hasattr(source, "features") and hasattr(source, "column_names") and hasattr(source, "__getitem__")


def read_columns(name: str, source: Any, /, *, size: int | None, channels: Channels | None) -> Columns:
    """Returns the pictures and labels of a `datasets.Dataset` with a column of pictures and a column of labels.

    Args:
        name: of the source, for messages.
        source: the dataset.
        size: side of the central square that pictures are resized to, in pixels.
        channels: of the pictures; by default colors.

    Raises:
        ReszooError: no such columns, or pictures of different sizes without `size`.
    """
    import numpy as np

    features = dict(source.features)
    picture = _column(name, features, "Image", PICTURES)
    label = _column(name, features, "ClassLabel", LABELS)
    classes = getattr(features[label], "names", None)
    if not len(source):
        raise ReszooError(name, got="no examples", expected="at least one")
    limit = free_memory() // 2
    pictures: list[Array] = []
    labels: list[Any] = []
    for index in range(len(source)):
        row = source[index]
        pictures.append(_pixels(f"{name}, row {index}, {picture}", row[picture], size, channels))
        labels.append(row[label])
        if pictures[0].shape != pictures[-1].shape:
            got = f"pictures of shapes {pictures[0].shape} and {pictures[-1].shape}"
            raise ReszooError(name, got=got, expected="one shape", hint="size=224 resizes them")
        if not index and pictures[0].nbytes * len(source) > limit:
            got = f"{readable_size(pictures[0].nbytes * len(source))}, more than half of the free memory"
            raise ReszooError(name, got=got, expected="less", hint="dataset.select(range(n)), or a smaller size=")
    notes = (f"{len(labels):,} examples of columns {picture} and {label} were read into memory",)
    return Columns(np.stack(pictures), labels, tuple(classes) if classes else None, notes)


def _column(name: str, features: dict[str, Any], kind: str, names: tuple[str, ...]) -> str:
    """The column of a kind of feature, else the first with a usual name."""
    columns = [column for column, feature in features.items() if type(feature).__name__ == kind]
    columns = columns or [column for column in names if column in features]
    if not columns:
        expected = f"a column of type {kind}, or named {', '.join(names)}"
        raise ReszooError(name, got=f"columns {', '.join(features)}", expected=expected)
    return next((column for column in names if column in columns), columns[0])


def _pixels(where: str, value: Any, size: int | None, channels: Channels | None) -> Array:
    import numpy as np
    from PIL import Image

    try:
        image = from_pillow(
            value if hasattr(value, "getpixel") else Image.fromarray(np.asarray(value)), channels or "rgb"
        )
    except Exception as error:
        raise ReszooError(where, got=f"no picture ({error})", expected="a picture") from None
    if size is not None:
        side = min(image.size)
        left, top = (image.width - side) / 2, (image.height - side) / 2
        box = (left, top, left + side, top + side)
        image = image.resize((size, size), Image.Resampling.BILINEAR, box=box)
    pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels
