"""The interface of examples that can be counted and taken by index."""

from __future__ import annotations

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
