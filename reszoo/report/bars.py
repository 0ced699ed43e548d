"""Horizontal bars: an amount for every name, divided into parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reszoo.report.panels import legend, panel, scale
from reszoo.report.pictures import INK, PALETTE, SIZE, Picture, hover, literal


def draw_bars(
    bars: Mapping[str, Sequence[float]], *, parts: Sequence[str], name: str, title: str, caption: str, xlabel: str
) -> Picture:
    """Returns bars, one for every name, with the total at the end of each.

    Args:
        bars: name -> amount of every part.
        parts: names of the parts of a bar.
        name: file name of the picture without a suffix.
        title: shown above the panel.
        caption: one sentence that says what the plot shows.
        xlabel: quantity and unit.
    """
    axis = panel(title, xlabel=xlabel, height=1.1 + 0.27 * len(bars), ylabel="")
    rows = range(len(bars))
    starts = [0.0] * len(bars)
    for index, part in enumerate(parts):
        amounts = [values[index] for values in bars.values()]
        color = PALETTE[index % len(PALETTE)].color
        drawn = axis.barh(rows, amounts, left=starts, height=0.7, color=color, alpha=0.85, label=literal(part))
        for bar, label, amount in zip(drawn, bars, amounts, strict=True):
            hover(bar, f"{label}, {part}: {amount:,.6g}")
        starts = [start + amount for start, amount in zip(starts, amounts, strict=True)]
    for row, total in zip(rows, starts, strict=True):
        text = f"{total:,.0f}" if float(total).is_integer() else f"{total:.3g}"
        axis.annotate(
            text, (total, row), xytext=(4, 0), textcoords="offset points", va="center", color=INK, fontsize=SIZE
        )
    axis.set_yticks(rows, [literal(label if len(label) < 25 else f"{label[:23]}…") for label in bars])
    axis.set_ylim(len(bars) - 0.5, -0.5)
    axis.grid(visible=False, axis="y")
    scale(axis, "x", starts)
    axis.set_xlim(0, 1.18 * max([*starts, 1e-9]))
    if len(parts) > 1:
        legend(axis)
    return Picture(name, caption, axis.figure)
