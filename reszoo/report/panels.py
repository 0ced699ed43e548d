"""Panels of pictures: axes with plain numbers, labels at the ends of lines, bars, cells of a matrix."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any, NamedTuple

from reszoo.report.pictures import HEIGHT, INK, PALETTE, SIZE, WIDTH, Picture, Style, figure, hover, literal

LABEL = 18
"""Characters of a line of a label beside a curve."""


def panel(title: str, *, ylabel: str, xlabel: str = "", width: float = WIDTH, height: float = HEIGHT) -> Any:
    """Returns the axes of a figure with one panel; its `.figure` is the figure."""
    return styled(figure(width, height).subplots(), title, xlabel=xlabel, ylabel=ylabel)


def styled(axis: Any, title: str, *, xlabel: str = "", ylabel: str = "") -> Any:
    """Returns axes with title, names and colors."""
    axis.set_title(fill(literal(title), 36), color=INK, fontsize=11, loc="left", fontweight="bold")
    axis.set_xlabel(literal(xlabel), color=INK, fontsize=SIZE)
    axis.set_ylabel(literal(ylabel), color=INK, fontsize=SIZE)
    axis.tick_params(colors=INK, which="both", labelsize=SIZE)
    axis.grid(color=INK, alpha=0.13, linewidth=0.8)
    axis.set_axisbelow(True)
    for side, spine in axis.spines.items():
        spine.set_edgecolor(INK)
        spine.set_alpha(0.5)
        spine.set_visible(side in ("left", "bottom"))
    return axis


def scale(axis: Any, side: str, values: Sequence[float], word: str = "linear") -> None:
    """Sets the scale of a panel with plain numbers, and horizontally whole ones where all values are whole.

    Args:
        axis: the panel.
        side: x or y.
        values: what is drawn along it.
        word: linear or log.
    """
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    axis.set(**{f"{side}scale": word})
    ticks = getattr(axis, f"{side}axis")
    finite = [value for value in values if math.isfinite(value) and (word != "log" or value > 0)]
    if not finite:
        return
    low, high = min(finite), max(finite)
    if side == "x" and low == high:
        ticks.set_major_locator(FixedLocator([low]))
    elif word == "log":
        decades = math.log10(high / low)
        subs = (1, 2, 5) if decades < 1.6 else (1, 3) if decades < 2.5 else (1,)
        few = MaxNLocator(4, steps=[1, 2, 5, 10])
        ticks.set_major_locator(few if decades < 0.6 else LogLocator(subs=subs, numticks=7))
    elif side == "x" and all(float(value).is_integer() for value in finite):
        ticks.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    ticks.set_minor_formatter(NullFormatter())
    ticks.set_major_formatter(FuncFormatter(lambda value, _: plain_number(value)))


def plain_number(value: float) -> str:
    """Returns a number as on an axis: 0.001, 20, 5,000, 1e-12.

    Example:
        >>> [plain_number(value) for value in (1e-3, 20.0, 5e3, 1e-12)]
        ['0.001', '20', '5,000', '1e-12']
    """
    if value and not 1e-4 < abs(value) < 1e6:
        mantissa, _, exponent = f"{value:.3g}".partition("e")
        return f"{mantissa}e{int(exponent)}" if exponent else mantissa
    return f"{value:,.6g}"


class Label(NamedTuple):
    """The name of a line, to be written beside its end."""

    text: str
    style: Style
    points: Sequence[tuple[float, float]]
    """The line, at least one point."""


def label_ends(axis: Any, labels: Sequence[Label]) -> None:
    """Writes labels with a sample of each line to the right of a panel, as high as its end, moved apart to be readable.

    Lines that end at one height are named in the order in which they begin. Scales and limits must be final.
    """
    if not labels:
        return
    axis.autoscale_view()
    place = (axis.transScale + axis.transLimits).transform
    starts, ends = place([label.points[0] for label in labels]), place([label.points[-1] for label in labels])
    height = axis.figure.get_figheight() - 1.0
    line = 1.28 * SIZE / 72 / height
    texts = [fill(literal(label.text), LABEL, break_on_hyphens=False) for label in labels]
    order = sorted(range(len(labels)), key=lambda index: (round(ends[index][1] / line), starts[index][1]))
    rooms = [line * (texts[index].count("\n") + 1) for index in order]
    heights = _apart([min(max(ends[index][1], 0.0), 1.0) for index in order], rooms)
    outside: dict[str, Any] = {"transform": axis.transAxes, "clip_on": False, "scalex": False, "scaley": False}
    for index, y in zip(order, heights, strict=True):
        (x, end), (color, marker, dashes) = ends[index], labels[index].style
        if abs(end - y) < 2 * line:
            axis.plot([x, 1.03], [end, y], color=color, linewidth=0.8, alpha=0.6, in_layout=False, **outside)
        sample = [1.03, 1.075, 1.12]
        axis.plot(sample, [y] * 3, color=color, linestyle=dashes, marker=marker, markevery=[1], markersize=4, **outside)
        axis.text(1.14, y, texts[index], transform=axis.transAxes, color=INK, fontsize=SIZE, va="center")


def _apart(heights: Sequence[float], rooms: Sequence[float]) -> list[float]:
    """Returns ascending heights moved so far that each has its room, and the top one stays within the panel."""
    heights = [*heights]
    for _ in range(60):
        for index in range(1, len(heights)):
            overlap = (rooms[index] + rooms[index - 1]) / 2 - (heights[index] - heights[index - 1])
            if overlap > 1e-6:
                heights[index - 1] -= overlap / 2
                heights[index] += overlap / 2
        if heights and heights[-1] > 1:
            heights[-1] = 1.0
    return heights


def draw_cell(axis: Any, column: int, row: int, *, share: float, color: str, text: str, note: str) -> None:
    """Draws a cell of a matrix: the larger its share (0 to 1), the stronger its color.

    The color is never so strong that text in `INK` would be hard to read on it, on white and in dark mode.
    """
    from matplotlib.patches import Rectangle

    place = Rectangle((column - 0.48, row - 0.48), 0.96, 0.96, facecolor=color, alpha=0.1 + 0.4 * share, linewidth=0)
    hover(axis.add_patch(place), note)
    if text:
        hover(axis.text(column, row, text, ha="center", va="center", color=INK, fontsize=SIZE), note)


def name_cells(axis: Any, columns: Sequence[str], rows: Sequence[str]) -> None:
    """Names the columns and rows of a matrix; without names, leaves them out."""
    names = [_cut(name) for name in columns]
    rotation, align = (45, "right") if sum(map(len, names)) > 30 else (0, "center")
    axis.set_xticks(range(len(names)), names, rotation=rotation, ha=align, rotation_mode="anchor")
    axis.set_yticks(range(len(rows)), [_cut(name) for name in rows])
    axis.set(xlim=(-0.5, len(columns) - 0.5), ylim=(-0.5, len(rows) - 0.5))
    axis.grid(visible=False)
    axis.tick_params(length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)


def _cut(name: str) -> str:
    return literal(name if len(name) <= LABEL else f"{name[: LABEL - 1]}…")


def legend(axis: Any) -> None:
    """Adds a legend below a panel, where it covers nothing; for marks that have no end to write a name at."""
    handles, labels = axis.get_legend_handles_labels()
    if labels:
        columns = max(1, min(len(labels), 44 // (max(map(len, labels)) + 5)))
        rows = -(-len(labels) // columns)
        width, height = axis.figure.get_size_inches()
        axis.figure.set_size_inches(width, height + 0.2 * rows)
        axis.figure.legend(
            handles, labels, loc="outside lower left", ncols=columns, frameon=False, labelcolor=INK, fontsize=SIZE
        )


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
