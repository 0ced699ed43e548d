"""Opening of tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reszoo.data.columns import Columns
from reszoo.data.dataset import Data
from reszoo.data.labels import Task
from reszoo.data.ranges import measure
from reszoo.data.splits import divide
from reszoo.data.table import open_table
from reszoo.types import Array


def table_data(
    source: Any,
    *,
    target: str | Sequence[str] | None = None,
    task: Task | None = None,
    columns: Columns | None = None,
    groups: Any = None,
    sample_weight: Any = None,
    size: int | None = None,
    channels: str | None = None,
    **division: Any,
) -> Data:
    """Returns a table, encoded and split; the encoding is learned from the training rows.

    Args:
        source: a file or a data frame (`is_table`).
        target: see `open_table`.
        task: of the target.
        columns: an encoding to use instead of a new one.
        groups: see `open_table`.
        sample_weight: see `open_table`.
        size: of images; a table has none.
        channels: of images; a table has none.
        division: further settings of the split (`divide`).

    Raises:
        ReszooError: rows that no training can use.
    """

    def halves(labels: Array, members: Array | None) -> tuple[Array, Array]:
        result = divide(labels, groups=members, **division)
        return result.rest, result.held

    parts = open_table(source, halves, target=target, task=task, columns=columns, groups=groups, weights=sample_weight)
    return Data(
        name=parts.name,
        train=parts.train,
        validation=parts.validation,
        classes=parts.columns.classes,
        scaling=measure(parts.train.x, 1.0),
        notes=parts.notes,
        task=parts.columns.task,
        columns=parts.columns,
    )
