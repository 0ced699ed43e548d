"""Several sets of examples as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reszoo.data.examples import Examples
from reszoo.types import Array


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
