"""The report of loading weights: what became of every variable and tensor."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from reszoo.arch.spec import NetSpec
from reszoo.notebook import html_table

Status = Literal["copied", "adapted", "new", "ignored", "missing"]
STATUSES: tuple[Status, ...] = ("copied", "adapted", "new", "ignored", "missing")


@dataclass(frozen=True)
class Placement:
    """What became of one variable of the model, or of one tensor of the file."""

    status: Status
    target: str
    """Our `layer/variable`; empty if the model has no such variable."""
    source: str
    """The tensor's name in the file; empty if the file has none."""
    shape: tuple[int, ...]
    reason: str = ""


@dataclass(frozen=True)
class Report:
    """The report of loading weights. `str(report)` summarizes it in a few lines."""

    file: str
    container: str
    dialect: str
    spec: NetSpec
    """The network in the file."""
    placements: tuple[Placement, ...]
    notes: tuple[str, ...] = ()
    is_inferred: bool = False
    """Whether the names in the file were unknown, so that `table` was inferred."""

    @property
    def table(self) -> tuple[str, ...]:
        """Our layer, the layer in the file and its shape, a line for each layer with a kernel or norm."""
        rows: dict[str, tuple[str, str]] = {}
        for item in self.placements:
            layer, _, _ = item.target.rpartition("/")
            if layer and item.source and layer not in rows:
                rows[layer] = re.split(r"[./](?=[^./]*$)", item.source)[0], "x".join(map(str, item.shape))
        width = max(map(len, rows), default=0)
        return tuple(f"{layer:{width}}  {source} ({shape})" for layer, (source, shape) in rows.items())

    def names(self, status: Status) -> tuple[str, ...]:
        """Returns the names of the variables with a status; of `ignored`, those of the file's tensors."""
        return tuple(item.target or item.source for item in self.placements if item.status == status)

    @property
    def copied(self) -> tuple[str, ...]:
        """Variables loaded unchanged."""
        return self.names("copied")

    @property
    def adapted(self) -> tuple[str, ...]:
        """Variables loaded after a conversion, such as to other channels."""
        return self.names("adapted")

    @property
    def new(self) -> tuple[str, ...]:
        """Variables that keep their initial values."""
        return self.names("new")

    @property
    def ignored(self) -> tuple[str, ...]:
        """Tensors of the file that were not loaded."""
        return self.names("ignored")

    @property
    def missing(self) -> tuple[str, ...]:
        """Variables without a tensor in the file."""
        return self.names("missing")

    def __str__(self) -> str:
        lines = [f"{self.file} ({self.container}; {self.dialect})", f"  {self._counts()}"]
        lines += [f"  {line}" for line in _reasons(self.placements)]
        if self.is_inferred:
            lines += ["  names unknown; inferred:", *(f"    {row}" for row in self.table)]
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])

    def __repr__(self) -> str:
        return f"Report({self.file!r}, {self.container}, {self.dialect}: {self._counts()})"

    def _repr_html_(self) -> str:
        rows = [(status, len(names), _some(names)) for status in STATUSES if (names := self.names(status))]
        title = f"{self.file} ({self.container}; {self.dialect})"
        note = "; ".join((*_reasons(self.placements), *self.notes))
        return html_table(("status", "tensors", "names"), rows, title=title, note=note)

    def _counts(self) -> str:
        counts = {status: len(self.names(status)) for status in STATUSES}
        return ", ".join(f"{count} {status}" for status, count in counts.items() if count)


def _reasons(placements: Iterable[Placement]) -> Iterator[str]:
    by_reason: dict[tuple[str, str], list[str]] = {}
    for item in placements:
        if item.reason:
            by_reason.setdefault((item.status, item.reason), []).append(item.target or item.source)
    for (status, reason), names in by_reason.items():
        yield f"{status}: {_some(names)}: {reason}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f", ... ({len(names)})" if len(names) > 3 else "")
