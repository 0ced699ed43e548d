"""Which consecutive blocks of a network differ only in their weights, so that a loop can run them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import Any

from reszoo.arch.ops import Segment
from reszoo.arch.plan import plan
from reszoo.arch.spec import NetSpec


def runs_of(
    segments: Iterable[Segment], learns: Callable[[str], bool] = lambda _: True
) -> Iterator[tuple[Segment, ...]]:
    """Yields consecutive segments that differ only in their weights and rates of drop path.

    Args:
        segments: of a plan.
        learns: whether the layer of a name is trainable.
    """

    def kind(segment: Segment) -> tuple[Any, ...]:
        ops = (op._replace(rate=0.0) if op.kind == "drop_path" else op for op in segment.ops)
        return segment.part, *((op, learns(segment.prefix + op.name)) for op in ops)

    for _, run in groupby(segments, kind):
        yield tuple(run)


def has_runs(spec: NetSpec) -> bool:
    """Returns whether a network has consecutive blocks that differ only in their weights."""
    return any(len(run) > 1 for run in runs_of(plan(spec).segments))


def warn_of_no_runs(spec: NetSpec) -> None:
    """Warns that loops have nothing to run in a network."""
    message = f"{spec.name}: got loops for a network without equal blocks in a row; it is built without loops"
    warnings.warn(message, stacklevel=4)
