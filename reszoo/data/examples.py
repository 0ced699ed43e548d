"""Examples that can be counted and taken by index: their interface, and several sets as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

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
