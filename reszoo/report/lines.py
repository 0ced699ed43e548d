"""Line plots: a value per epoch, per block or per depth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from reszoo.report.pictures import Picture, hover, legend, literal, panel, style

WEIGHTS = {"faint": (0.9, 0.3), "normal": (1.6, 0.95), "bold": (2.6, 1.0)}


@dataclass(frozen=True)
class Line:
    """One line: its values in order, and its style."""

    label: str
    """Its name in the hover text, and in the legend unless it is faint."""
    values: Sequence[float] = field(repr=False)
    at: Sequence[float] = field(default=(), repr=False)
    """Horizontal positions; by default 1, 2, 3, ..."""
    kind: str = ""
    """residual, plain or control: its color. Other kinds take the next color of the palette."""
    weight: str = "normal"
    """faint, normal or bold."""
    low: Sequence[float] = field(default=(), repr=False)
    """Lower edge of a band, such as the quartiles of several seeds; needs `high`."""
    high: Sequence[float] = field(default=(), repr=False)
    marks: str = "none"
    """none, or each for a mark at every value."""

    @property
    def positions(self) -> list[float]:
        """The horizontal position of each value."""
        return list(self.at) or [float(number) for number in range(1, len(self.values) + 1)]


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
    """Returns a plot of lines, each with its name as hover text.

    A value that cannot be drawn (not finite, or not positive on a logarithmic scale) leaves a gap; the legend counts
    such values and the hover text lists their positions, because an overflow at block 37 is a result.

    Args:
        lines: later ones are drawn above earlier ones.
        name: file name of the picture without a suffix.
        title: shown above the panel.
        caption: one sentence that says what the plot shows.
        xlabel: quantity along the horizontal axis.
        ylabel: quantity and unit.
        xscale: linear or log.
        yscale: linear or log.
        reference: a horizontal reference line, such as chance level.
    """
    axis = panel(title, xlabel=xlabel, ylabel=ylabel)
    for index, line in enumerate(lines):
        draw_line(axis, line, index, xscale=xscale, yscale=yscale)
    axis.set(xscale=xscale, yscale=yscale)
    if reference is not None:
        axis.axhline(reference, color=style("", 1)[0], linestyle=":", linewidth=1.2)
    legend(axis)
    return Picture(name, caption, axis.figure)


def draw_line(axis: Any, line: Line, index: int, *, xscale: str, yscale: str) -> None:
    """Draws one line on a panel; `index` selects its color where its kind has none."""
    heights, gaps = [], []
    for at, value in zip(line.positions, line.values, strict=True):
        if _drawable(value, yscale) and _drawable(at, xscale):
            heights.append(value)
        else:
            heights.append(math.nan)
            gaps.append(f"{at:g} ({value:g})")
    first = f"{', '.join(gaps[:3])}{' ...' * (len(gaps) > 3)}"
    missing = f" ({len(gaps)} not drawn)" if gaps else ""
    color, mark = style(line.kind, index)
    width, alpha = WEIGHTS[line.weight]
    label = None if line.weight == "faint" else literal(line.label + missing)
    marker = mark if line.marks == "each" or sum(map(math.isfinite, heights)) == 1 else ""
    axis.plot(
        line.positions, heights, color=color, linewidth=width, alpha=alpha, label=label, marker=marker, markersize=4
    )
    if line.low:
        axis.fill_between(line.positions, line.low, line.high, color=color, alpha=0.18, linewidth=0)
    target = axis.plot(line.positions, heights, color=color, linewidth=9, alpha=0)[
        0
    ]  # a thin line is a small target for the pointer
    hover(target, f"{line.label}: cannot be drawn at {first}" if gaps else line.label)


def _drawable(value: float, scale: str) -> bool:
    return math.isfinite(value) and (scale != "log" or value > 0)
