"""What went where when weights were loaded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from reszoo.arch.spec import NetSpec

Fate = Literal["copied", "adapted", "new", "ignored", "missing"]


@dataclass(frozen=True)
class Placement:
    """What becomes of one variable of the model, or of one tensor of the file."""

    fate: Fate
    target: str
    """Our `layer/variable`; empty where the model has no such place."""
    source: str
    """The tensor's name in the file; empty where the file has none."""
    shape: tuple[int, ...]
    why: str = ""


@dataclass(frozen=True)
class Report:
    """What went where. `str(report)` tells it in a few lines."""

    file: str
    container: str
    dialect: str
    spec: NetSpec
    """The network that the file holds."""
    placements: tuple[Placement, ...]
    notes: tuple[str, ...] = ()

    def names(self, fate: Fate) -> tuple[str, ...]:
        """Returns the model's variables with this fate (of `ignored`: the file's tensors)."""
        return tuple(item.target or item.source for item in self.placements if item.fate == fate)

    copied = property(lambda self: self.names("copied"), doc="Placed as they are.")
    adapted = property(lambda self: self.names("adapted"), doc="Placed after a change, such as to other channels.")
    new = property(lambda self: self.names("new"), doc="Left as the model was initialised.")
    ignored = property(lambda self: self.names("ignored"), doc="Tensors of the file that were not needed.")
    missing = property(lambda self: self.names("missing"), doc="Variables that the file has nothing for.")

    def __str__(self) -> str:
        counts = {fate: len(self.names(fate)) for fate in ("copied", "adapted", "new", "ignored", "missing")}
        lines = [f"{self.file} ({self.container}; {self.dialect})"]
        lines.append("  " + ", ".join(f"{count} {fate}" for fate, count in counts.items() if count))
        lines += [f"  {line}" for line in _reasons(self.placements)]
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])


def _reasons(placements: Iterable[Placement]) -> Iterator[str]:
    by_reason: dict[tuple[str, str], list[str]] = {}
    for item in placements:
        if item.why:
            by_reason.setdefault((item.fate, item.why), []).append(item.target or item.source)
    for (fate, why), names in by_reason.items():
        shown = ", ".join(names[:3]) + (f", ... ({len(names)})" if len(names) > 3 else "")
        yield f"{fate}: {shown}: {why}"
