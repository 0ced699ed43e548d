"""An opened data source: examples for training, validation and testing, with what is known about them.

Digests say whether two sources hold the same examples, labels, classes and split, wherever they are stored.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

from reszoo.data.audit import Audit, audit
from reszoo.data.columns import Columns
from reszoo.data.examples import Examples, count_labels
from reszoo.data.image_folder import LeftOut
from reszoo.data.labels import Task
from reszoo.data.ranges import Range, Scaling, value_range
from reszoo.errors import ReszooError
from reszoo.notebook import html_table
from reszoo.types import Array

SAMPLE = 64
"""Examples that show the range of a source that is not an array."""
TABLE_ROWS = 20
"""Classes in a notebook's table; further ones are counted."""


@dataclass(frozen=True)
class Data:
    """Examples for training, validation and, where the source has them, testing."""

    name: str
    train: Examples
    validation: Examples
    classes: tuple[str, ...]
    """Names of the classes, or of the outputs of a regression."""
    scaling: Scaling
    test: Examples | None = None
    notes: tuple[str, ...] = ()
    """Skipped files and other oddities."""
    seed: int = 0
    """Of the split."""
    own_validation: bool = False
    """Whether the source itself has a validation part."""
    task: Task = "classification"
    """What the labels are: one class, several classes, or numbers."""
    white: float | None = None
    """Value of white in pictures; None for rows, and for values that are no pixel values."""
    left_out: tuple[LeftOut, ...] = ()
    """Files that are not read, with their reasons."""
    columns: Columns | None = None
    """The encoding of a table."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return tuple(int(side) for side in self.train.take([0]).shape[1:])

    def parts(self) -> dict[str, Examples]:
        """Returns the parts that there are, by name: train, validation, test."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: examples for name, examples in parts.items() if examples is not None}

    def arrays(self, part: Literal["train", "validation", "test"]) -> tuple[Array, Array]:
        """Returns all examples of a part, scaled, and their labels: for `model.fit(x, y)`.

        Weights of the examples, where the source has them, are `data.train.weights`, for `sample_weight=`.

        Raises:
            ReszooError: the source has no test part.
        """
        examples = self.parts().get(part)
        if examples is None:
            raise ReszooError(f"{self.name}: {part}", got="no such part", expected=", ".join(self.parts()))
        return self.scaling(examples.take(range(len(examples)))), examples.labels

    def counts(self) -> dict[str, tuple[int, int]]:
        """Returns class -> number of examples for training and for validation."""
        counts = [count_labels(part.labels, len(self.classes)) for part in (self.train, self.validation)]
        return {name: (a, b) for name, a, b in zip(self.classes, *counts, strict=True)}

    def audit(self) -> Audit:
        """Returns counts, sizes, what was left out, imbalance and exact duplicates; files are compared byte by byte."""
        return audit(
            self.parts(),
            name=self.name,
            task=self.task,
            classes=self.classes,
            left_out=self.left_out,
            notes=[note for note in self.notes if not note.startswith(("skipped ", "exact copies"))],
            targets=() if self.columns is None else self.columns.targets,
        )

    def check_trainable(self) -> None:
        """Raises a ReszooError if no network can be trained on these data: no validation example, or one class."""
        where = f"data: {self.name}"
        for name, part in (("training", self.train), ("validation", self.validation)):
            if not len(part):
                got = f"{len(self.train)} training and {len(self.validation)} validation examples: no {name} example"
                hint = "a source for it: validation=..., or more examples of every class"
                raise ReszooError(where, got=got, expected=f"at least one for {name}", hint=hint)
            weights = getattr(part, "weights", None)
            if weights is not None and not weights.any():
                got = f"{name} examples whose weights are all 0"
                raise ReszooError(where, got=got, expected="a weight above 0 in training and in validation")
        present = [name for name, pair in self.counts().items() if any(pair)]
        if self.task == "classification" and len(present) < 2:
            raise ReszooError(where, got=f"one class, {present[0]}", expected="examples of at least two classes")

    def check_classes(self, where: str) -> None:
        """Raises a ReszooError if these are no examples of one class each, all of the same weight."""
        if self.task != "classification":
            expected = "one class for every example"
            raise ReszooError(f"{where}: {self.name}", got=f"data for {self.task}", expected=expected)
        if any(getattr(part, "weights", None) is not None for part in self.parts().values()):
            expected = "(x, y): every example counts the same here"
            raise ReszooError(f"{where}: {self.name}", got="sample weights", expected=expected)

    def __repr__(self) -> str:
        test = "" if self.test is None else f", {len(self.test):,} test"
        sizes = f"{len(self.train):,} training, {len(self.validation):,} validation{test} examples"
        kind = "outputs" if self.task == "regression" else "classes"
        return f"Data({self.name[:40]!r}: {sizes} of {len(self.classes):,} {kind}, {len(self.notes)} notes)"

    def _repr_html_(self) -> str:
        """Examples of every class."""
        rows = [(name, *pair) for name, pair in self.counts().items()]
        remaining = [f"and {len(rows) - TABLE_ROWS} more classes"] if len(rows) > TABLE_ROWS else []
        notes = [f"and {len(self.notes) - 5} more notes"] if len(self.notes) > 5 else []
        note = "; ".join([*remaining, *self.notes[:5], *notes])
        return html_table(("class", "training", "validation"), rows[:TABLE_ROWS], title=repr(self), note=note)


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
