"""Digests of data: whether two sources hold the same examples, labels, classes and split, wherever they are stored."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

from reszoo.data.dataset import Data
from reszoo.data.examples import Examples
from reszoo.types import Array

CONTENT_BYTES = 1 << 30
"""Up to this many bytes, all files together, are read; of larger folders only names and sizes count."""
CHUNK = 1024
"""Examples taken at once from a source that is neither an array nor a list of files."""

ASPECTS = {"classes": "class names", "values": "values of x", "labels": "labels", "split": "split or order"}
"""The aspects of data with the words for them; the first one that differs is reported."""
WEIGHTS = "sample weights"
"""One more aspect, where there are any."""


def digests(data: Data, /) -> dict[str, str]:
    """Returns the digest of every aspect of data: classes, values (of x), labels and split.

    Values and labels do not depend on the split, the split includes the order of the examples. Files count by their
    path within the folder, size and content.

    Example:
        >>> import reszoo
        >>> one = reszoo.open_data(([[0.0], [1.0]] * 10, [0, 1] * 10), seed=1)
        >>> other = reszoo.open_data(([[0.0], [1.0]] * 10, [0, 1] * 10), seed=1)
        >>> digests(one) == digests(other)
        True
    """
    parts = {"train": data.train, "validation": data.validation}
    if data.test is not None:
        parts["test"] = data.test
    rows = _row_digests(parts)
    labels = {part: _label_bytes(each.labels, data) for part, each in parts.items()}
    pairs = [row + label for part in parts for row, label in zip(rows[part], labels[part], strict=True)]
    columns = repr(getattr(getattr(data, "columns", None), "names", ""))
    weighted: list[bytes] = []
    for part, each in parts.items():
        weights = getattr(each, "weights", None)
        if weights is not None:
            weighted += [row + weight.tobytes() for row, weight in zip(rows[part], weights, strict=True)]
    return {
        **({"weights": _join(sorted(weighted))} if weighted else {}),
        "classes": _join([name.encode() for name in data.classes] + [columns.encode()]),
        "values": _join(sorted(row for part in parts for row in rows[part])),
        "labels": _join(sorted(pairs)),
        "split": _join([item for part in parts for item in (part.encode(), *rows[part])]),
    }


def digest(data: Data, /) -> str:
    """Returns one digest of all aspects of data; see `digests`."""
    return combined(digests(data))


def combined(parts: Mapping[str, str], /) -> str:
    """Returns one digest of the digests of all aspects but the weights, as `run.json` has them."""
    return _join([parts[name].encode() for name in ASPECTS])


def difference(before: Mapping[str, str], now: Mapping[str, str], /) -> str:
    """Returns the first aspect that differs between two sources, in words; empty where all are the same.

    Example:
        >>> difference({"values": "a", "labels": "b"}, {"values": "a", "labels": "c"})
        'labels'
    """
    return next(
        (words for name, words in (*ASPECTS.items(), ("weights", WEIGHTS)) if before.get(name) != now.get(name)), ""
    )


def _label_bytes(labels: Array, data: Data) -> list[bytes]:
    """The labels of examples: classes by their names, which remain where their indices change."""
    if data.task == "classification":
        return [data.classes[int(index)].encode() for index in labels]
    return [row.tobytes() for row in labels]


def _join(items: list[bytes]) -> str:
    total = blake2b(digest_size=16)
    for item in items:
        total.update(len(item).to_bytes(8, "little") + item)
    return total.hexdigest()


def _row_digests(parts: Mapping[str, Examples]) -> dict[str, list[bytes]]:
    """One digest for every example of every part."""
    paths = {name: getattr(part, "paths", None) for name, part in parts.items()}
    files = [Path(path) for part in paths.values() if part is not None for path in part]
    sizes = {path: path.stat().st_size for path in files if path.exists()}
    root = Path(os.path.commonpath([path.parent for path in files])) if files else Path()
    read = sum(sizes.values()) <= CONTENT_BYTES
    return {
        name: [_file_digest(Path(path), root, sizes.get(Path(path), 0), read=read) for path in paths[name] or ()]
        if paths[name] is not None
        else [_array_digest(row) for rows in _rows(part) for row in rows]
        for name, part in parts.items()
    }


def _file_digest(path: Path, root: Path, size: int, *, read: bool) -> bytes:
    total = blake2b(f"{path.relative_to(root).as_posix()}\0{size}\0".encode(errors="surrogateescape"), digest_size=16)
    if read and path.exists():
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                total.update(block)
    return total.digest()


def _array_digest(row: Array) -> bytes:
    head = f"{row.dtype.str}{row.shape}".encode()
    return blake2b(head + row.tobytes(), digest_size=16).digest()


def _rows(part: Any) -> Iterator[Array]:
    """The examples as stored, in chunks: resizing and the like are settings of the network, not of the data."""
    import numpy as np

    stored = getattr(part, "x", None)
    for start in range(0, len(part), CHUNK):
        stop = min(start + CHUNK, len(part))
        yield np.asarray(stored[start:stop] if stored is not None else part.take(np.arange(start, stop)))
