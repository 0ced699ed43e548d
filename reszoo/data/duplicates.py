"""Examples that are exactly equal: in one class, in several classes, in several parts."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from reszoo.data.files import printable
from reszoo.types import Array

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
