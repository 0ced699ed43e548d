"""Streams of batches and data sets of Hugging Face, read into memory: a run that can resume takes examples by index."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from reszoo.data.arrays import as_array, channels_first
from reszoo.data.memory import free_memory, readable_size
from reszoo.data.pictures import Channels, from_pillow
from reszoo.errors import ReszooError
from reszoo.types import Array

LARGE = 1 << 30
"""A stream that is known to need more bytes is announced before it is read."""
NOTEWORTHY = 64 << 20
"""From so many bytes on a note says how much was read."""
REPEATS = 50
"""After so many batches in a row that were all seen before, a stream of unknown length is one without end."""
BATCHES = "batches (inputs, labels)"


class Stream(NamedTuple):
    """All examples of a stream."""

    x: Array
    y: Array
    classes: tuple[str, ...] | None
    """Names of the classes, where the stream has them."""
    weights: Array | None = None
    """Of the examples, where the batches have them."""
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Stream({len(self.x):,} examples of shape {self.x.shape[1:]})"


def read_stream(name: str, batches: Any, /) -> Stream:
    """Returns all examples of a `tf.data.Dataset`, PyDataset, `DataLoader` or another iterable of batches.

    A batch is `(x, y)`, or `(x, y, weights)`.

    Images of PyTorch, which are channels first, are transposed.

    Args:
        name: of the source, for messages.
        batches: inputs and labels.

    Raises:
        ReszooError: the source is infinite, empty, needs more than half of the free memory, or does not yield
            `(inputs, labels)`.
    """
    import numpy as np

    if _is_infinite(batches):
        raise ReszooError(name, got="an infinite dataset", expected="a finite one", hint="dataset.take(batches)")
    length, limit = _length(batches), free_memory() // 2
    parts: list[tuple[Array, ...]] = []
    size, watch = 0, _Repetition() if length is None else None
    for batch in _read(name, batches, length):
        x, y, *weights = _arrays(
            name, batch, "DataLoader(dataset, batch_size=32)" if _is_torch(batches) else ".batch(32) is missing"
        )
        if parts and (x.shape[1:] != parts[0][0].shape[1:] or y.shape[1:] != parts[0][1].shape[1:]):
            shapes = [" and ".join(str(part.shape[1:]) for part in pair) for pair in (parts[0], (x, y))]
            raise ReszooError(name, got=f"examples of shapes {shapes[0]}, then {shapes[1]}", expected="one shape")
        if parts and len(parts[0]) != 2 + len(weights):
            raise ReszooError(name, got="weights in some batches only", expected="in all of them, or in none")
        # A source may fill the same array again for every batch.
        parts.append((x.copy(), y.copy(), *(each.copy() for each in weights)))
        size += x.nbytes + y.nbytes
        if len(parts) == 1 and length is not None:
            _announce(name, size * length, limit)
        if size > limit:
            raise ReszooError(name, got=_too_large(size, limit), expected="a finite stream", hint=_hint(len(parts)))
        if watch is not None and watch.is_endless(x, y):
            got = f"a stream that repeats its batches, {len(parts)} so far"
            raise ReszooError(name, got=got, expected="a finite stream", hint=_hint(watch.distinct))
    if not parts:
        raise ReszooError(name, got="no batches", expected=BATCHES)
    x, y, *weights = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    notes = [f"{readable_size(size)} were read into memory"] if size >= NOTEWORTHY else []
    if _is_torch(batches) and channels_first(x.shape, torch=True):
        x = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
        notes.append("images of PyTorch, channels first, were transposed")
    names = getattr(batches, "class_names", None) or getattr(getattr(batches, "dataset", None), "classes", None)
    names = tuple(map(str, names)) if isinstance(names, (list, tuple)) else None
    return Stream(x, y, names, weights[0] if weights else None, tuple(notes))


def _is_infinite(batches: Any) -> bool:
    try:
        return int(getattr(batches, "cardinality", lambda: 0)()) == -1
    except TypeError:
        return False


def _is_torch(batches: Any) -> bool:
    return any(kind.__module__.startswith("torch.") for kind in type(batches).__mro__)


def _length(batches: Any) -> int | None:
    """The number of batches; None where it is not known."""
    try:
        length = len(batches)
    except (TypeError, NotImplementedError, AttributeError):
        return None
    return length if isinstance(length, int) and length >= 0 else None


def _read(name: str, batches: Any, length: int | None) -> Iterator[Any]:
    """The batches of a stream; an error in the code that makes them names the batch."""
    count, indexed = 0, length is not None and hasattr(batches, "__getitem__")
    try:
        # A PyDataset is read by index: iterating it would never end.
        for batch in map(batches.__getitem__, range(length or 0)) if indexed else batches:
            yield batch
            count += 1
    except Exception as error:
        text = str(error).strip().splitlines() or [""]
        got = f"{type(error).__name__} in batch {count} ({text[0][:200]})"
        expected = f"{length} batches, as its length says" if indexed else "batches without an error"
        raise ReszooError(name, got=got, expected=expected) from error


def _arrays(name: str, batch: Any, remedy: str) -> tuple[Array, ...]:
    if isinstance(batch, Mapping):
        got = f"batches with keys {', '.join(map(str, batch))}"
        hint = "tfds.load(..., as_supervised=True), or dataset.map(lambda row: (row['image'], row['label']))"
        raise ReszooError(name, got=got, expected=BATCHES, hint=hint)
    if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
        kind = f"{type(batch).__name__} of {len(batch)}" if isinstance(batch, (tuple, list)) else type(batch).__name__
        hint = "" if isinstance(batch, (tuple, list)) else "labels are missing"
        raise ReszooError(name, got=f"a batch of type {kind}", expected=BATCHES, hint=hint)
    if any(isinstance(part, (Mapping, tuple)) for part in batch):
        kinds = ", ".join(type(part).__name__ for part in batch)
        raise ReszooError(name, got=f"batches of ({kinds})", expected=f"{BATCHES}: one array each")
    x, y = as_array(f"{name}: x", batch[0]), as_array(f"{name}: labels", batch[1])
    if y.ndim == 0 or x.ndim < 2 or len(x) != len(y):
        if y.ndim == 0 or x.ndim < 2:
            raise ReszooError(name, got="single examples", expected=BATCHES, hint=remedy)
        raise ReszooError(name, got=f"a batch of {len(x)} inputs and {len(y)} labels", expected="equal numbers")
    if len(batch) == 2:
        return x, y
    weights = as_array(f"{name}: weights", batch[2])
    if weights.shape not in ((len(x),), (len(x), 1)):
        raise ReszooError(name, got=f"weights of shape {weights.shape}", expected=f"({len(x)},), one for each example")
    return x, y, weights.reshape(len(x))


def _announce(name: str, size: int, limit: int) -> None:
    if size > limit:
        raise ReszooError(name, got=_too_large(size, limit), expected="less", hint=_hint(0))
    if size > LARGE:
        warnings.warn(f"{name}: about {readable_size(size)} are read into memory", stacklevel=3)


def _too_large(size: int, limit: int) -> str:
    return f"{readable_size(size)}, more than half of the free memory ({readable_size(2 * limit)})"


def _hint(count: int) -> str:
    take = f".take({count})" if count else ".take(n)"
    return f"a part of it: {take}; pictures from files: a folder of class folders"


class _Repetition:
    """Notices a stream that yields the same batches again and again."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()
        self._run = 0

    @property
    def distinct(self) -> int:
        return len(self._seen)

    def is_endless(self, x: Array, y: Array) -> bool:
        digest = hashlib.blake2b(x.tobytes() + y.tobytes(), digest_size=16).digest()
        self._run = self._run + 1 if digest in self._seen else 0
        self._seen.add(digest)
        return self._run >= max(REPEATS, self.distinct)


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
