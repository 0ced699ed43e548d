"""Families of lines: a value per epoch, per block or per depth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reszoo.report.pictures import Picture, hover, legend, literal, panel, style

WEIGHTS = {"faint": (0.9, 0.3), "normal": (1.6, 0.95), "bold": (2.6, 1.0)}


@dataclass(frozen=True)
class Line:
    """One line: its values in order, and how it is shown."""

    label: str
    """Its name under the pointer, and in the legend unless it is faint."""
    values: Sequence[float]
    at: Sequence[float] = ()
    """Where on the horizontal axis; 1, 2, 3 ... when left out."""
    kind: str = ""
    """residual, plain or control: the colour. Others take the next free one."""
    weight: str = "normal"
    """faint, normal or bold."""
    low: Sequence[float] = ()
    """Lower edge of a band, as the quartiles of several seeds; with `high`."""
    high: Sequence[float] = ()
    marks: str = "none"
    """none, or each: a mark at every value."""

    @property
    def places(self) -> list[float]:
        """Returns where each value is on the horizontal axis."""
        return list(self.at) or [float(place) for place in range(1, len(self.values) + 1)]


def draw_lines(
    lines: Sequence[Line],
    *,
    name: str,
    title: str,
    caption: str,
    xlabel: str,
    ylabel: str,
    xscale: str = "linear",
    yscale: str = "linear",
    reference: float | None = None,
) -> Picture:
    """Returns a picture of lines, each named under the pointer.

    A value that cannot be drawn (not finite, or not positive on a logarithmic scale) leaves a gap, the legend counts
    them, and the text under the pointer says where: an overflow at block 37 is a finding.

    Args:
        lines: what to draw; the later above the earlier.
        name: file name of the picture without a suffix.
        title: above the panel.
        caption: what is to be seen, in a sentence.
        xlabel: quantity along the horizontal axis.
        ylabel: quantity and unit.
        xscale: linear or log.
        yscale: linear or log.
        reference: a level to compare with, as chance.
    """
    axis = panel(title, xlabel=xlabel, ylabel=ylabel)
    for place, line in enumerate(lines):
        draw_line(axis, line, place, xscale=xscale, yscale=yscale)
    axis.set(xscale=xscale, yscale=yscale)
    if reference is not None:
        axis.axhline(reference, color=style("", 1)[0], linestyle=":", linewidth=1.2)
    legend(axis)
    return Picture(name, caption, axis.figure)


def draw_line(axis: Any, line: Line, place: int, *, xscale: str, yscale: str) -> None:
    """Draws one line on a panel; `place` is its number among the others."""
    known, lost = [], []
    for at, value in zip(line.places, line.values, strict=True):
        seen = _drawable(value, yscale) and _drawable(at, xscale)
        known.append(value if seen else math.nan)
        if not seen:
            lost.append(f"{at:g} ({value:g})")
    first = f"{', '.join(lost[:3])}{' ...' * (len(lost) > 3)}"
    missing = f" ({len(lost)} not drawn)" if lost else ""
    color, mark = style(line.kind, place)
    thick, alpha = WEIGHTS[line.weight]
    shown = None if line.weight == "faint" else literal(line.label + missing)
    marker = mark if line.marks == "each" or sum(map(math.isfinite, known)) == 1 else ""
    axis.plot(line.places, known, color=color, linewidth=thick, alpha=alpha, label=shown, marker=marker, markersize=4)
    if line.low:
        axis.fill_between(line.places, line.low, line.high, color=color, alpha=0.18, linewidth=0)
    broad = axis.plot(line.places, known, color=color, linewidth=9, alpha=0)[0]  # a thin line is hard to point at
    hover(broad, f"{line.label}: cannot be drawn at {first}" if lost else line.label)


def _drawable(value: float, scale: str) -> bool:
    return math.isfinite(value) and (scale != "log" or value > 0)
