"""Sets of examples: their interface, several as one, and which of their examples are exactly equal."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from reszoo.data.image_folder import printable
from reszoo.types import Array


class Examples(Protocol):
    """Images or rows with their labels."""

    @property
    def labels(self) -> Array:
        """Class indices, `(examples,)`; 0 and 1 for every class, `(examples, classes)`; or numbers, in rows."""

    def __len__(self) -> int: ...

    def take(self, indices: Any, boxes: Any = None) -> Array:
        """Returns the examples at these indices: `(n, height, width, channels)` or `(n, features)`."""


def count_labels(labels: Array, count: int) -> list[int]:
    """Returns the number of examples of every class; of numbers, the number of examples for every output.

    Args:
        labels: of examples.
        count: of classes or outputs.
    """
    import numpy as np

    if labels.ndim == 1:
        return [int(n) for n in np.bincount(labels, minlength=count)]
    if labels.dtype.kind == "f":
        return [len(labels)] * count
    return [int(n) for n in labels.sum(axis=0, dtype="int64")]


class Concatenation:
    """Several sets of examples as one, in their order."""

    def __init__(self, parts: Sequence[Examples]):
        import numpy as np

        self._parts = [part for part in parts if len(part)]
        self.labels: Array = np.concatenate([part.labels for part in self._parts])
        weights: list[Any] = [getattr(part, "weights", None) for part in self._parts]
        self.weights: Array | None = None if any(each is None for each in weights) else np.concatenate(weights)
        if all(hasattr(part, "paths") for part in self._parts):
            self.paths = tuple(path for part in self._parts for path in part.paths)  # type: ignore[attr-defined]
            self.white: float = max(part.white for part in self._parts)  # type: ignore[attr-defined]

    def __repr__(self) -> str:
        return f"Concatenation({' + '.join(f'{len(part):,}' for part in self._parts)} examples)"

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Any, boxes: Any = None) -> Array:
        """Returns the examples at these indices, in this order.

        Args:
            indices: of the examples.
            boxes: one crop for every image, as of its part.
        """
        import numpy as np

        positions = np.asarray(indices, "int64")
        taken: list[Array] = []
        places: list[Array] = []
        start = 0
        for part in self._parts:
            inside = np.flatnonzero((positions >= start) & (positions < start + len(part)))
            if len(inside):
                crops = None if boxes is None else np.asarray(boxes)[inside]
                taken.append(part.take(positions[inside] - start, crops))
                places.append(inside)
            start += len(part)
        if not taken:
            return self._parts[0].take(positions)
        rows = np.concatenate(taken)
        result = np.empty_like(rows)
        result[np.concatenate(places)] = rows
        return result


CHUNK = 1 << 20
"""Bytes of a file that are read at once."""
SAMPLE = 1 << 12
"""Bytes of a file that are compared in three places."""


class Duplicates(NamedTuple):
    """Numbers of different examples that occur more than once."""

    within: int = 0
    """In one class of one part."""
    across_classes: int = 0
    """With different labels."""
    across_parts: int = 0
    """In more than one of training, validation and test."""
    examples: tuple[str, ...] = ()
    """Where a few of them are."""

    def __repr__(self) -> str:
        counts = f"{self.within} within a class, {self.across_classes} across classes, {self.across_parts} across parts"
        return f"Duplicates({counts})"

    def notes(self) -> tuple[str, ...]:
        """Returns sentences for the kinds of duplicates that there are."""
        kinds = [(self.within, "twice or more in one class"), (self.across_classes, "with different labels")]
        kinds += [(self.across_parts, "in more than one of training, validation and test")]
        where = f" ({self.examples[0]})" if self.examples else ""
        texts = [f"{_examples(count)} {kind}" for count, kind in kinds if count]
        return (f"exact copies: {'; '.join(texts)}{where}",) if texts else ()


def _examples(count: int) -> str:
    return f"{count:,} example{'s are' if count > 1 else ' is'} there"


def digests(parts: Sequence[Any], /) -> list[list[Any]]:
    """Returns a key for every example of every part; equal examples have equal keys.

    A file is read as a whole only where another one has its size and the same bytes in three places.

    Args:
        parts: examples in memory (`x`) or files (`paths`); others get a key of their own each.
    """
    paths = {path for part in parts for path in getattr(part, "paths", ())}
    keys: dict[Path, Any] = {path: _size(path) for path in paths}
    for refine in (_sample, _content):
        counts = Counter(keys.values())
        keys = {path: (key, refine(path)) if counts[key] > 1 else key for path, key in keys.items()}
    return [[*_keys(part, keys)] for part in parts]


def _keys(part: Any, of_files: Mapping[Path, Any]) -> Iterable[Any]:
    if hasattr(part, "paths"):
        return (of_files[path] for path in part.paths)
    if hasattr(part, "x"):
        return (hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in part.x)
    return (object() for _ in range(len(part)))


def _size(path: Path) -> int | str:
    try:
        return path.stat().st_size
    except OSError:
        # The message comes when the picture is taken.
        return str(path)


def _sample(path: Path) -> bytes | str:
    """The first, middle and last bytes of a file."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            blocks = []
            for start in (0, max(size // 2, 0), max(size - SAMPLE, 0)):
                stream.seek(start)
                blocks.append(stream.read(SAMPLE))
    except OSError:
        return str(path)
    return hashlib.blake2b(b"".join(blocks), digest_size=16).digest()


def _content(path: Path) -> bytes | str:
    digest = hashlib.blake2b(digest_size=16)
    try:
        with path.open("rb") as stream:
            while block := stream.read(CHUNK):
                digest.update(block)
    except OSError:
        return str(path)
    return digest.digest()


def copies(keys: Sequence[Any], /) -> Array | None:
    """Returns a number for every example, the same for equal keys; None if all are different."""
    import numpy as np

    numbers: dict[Any, int] = {}
    result = [numbers.setdefault(key, len(numbers)) for key in keys]
    return np.array(result) if len(numbers) < len(result) else None


def duplicates(parts: Mapping[str, Any], /) -> Duplicates:
    """Returns how many different examples occur more than once.

    Args:
        parts: name of the part -> examples with labels.
    """
    places: dict[Any, list[tuple[str, bytes, str]]] = defaultdict(list)
    for (name, part), keys in zip(parts.items(), digests([*parts.values()]), strict=True):
        paths = getattr(part, "paths", None)
        for index, (key, label) in enumerate(zip(keys, part.labels, strict=True)):
            at = printable("/".join(paths[index].parts[-2:])) if paths else f"{name} {index}"
            places[key].append((name, label.tobytes(), at))
    several = [items for items in places.values() if len(items) > 1]
    return Duplicates(
        within=sum(len({(name, label) for name, label, _ in items}) < len(items) for items in several),
        across_classes=sum(len({label for _, label, _ in items}) > 1 for items in several),
        across_parts=sum(len({name for name, _, _ in items}) > 1 for items in several),
        examples=tuple(" = ".join(at for _, _, at in items[:3]) for items in several[:3]),
    )
