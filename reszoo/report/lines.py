"""Line plots: a value per epoch, per block, per depth or per learning rate; and panels of them for a measurement."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from reszoo.report.panels import Label, label_ends, panel, scale, styled
from reszoo.report.pictures import COLORS, HEIGHT, INK, KINDS, SIZE, WIDTH, Picture, Style, figure, hover, save, style

WEIGHTS = {"faint": (0.9, 0.3), "normal": (1.7, 1.0), "bold": (2.6, 1.0)}
REFERENCE = Style(COLORS["gray"], "", (0, (1, 1.5)))
MARKS = 24
"""Most values of a line that has a mark at each; a longer one has about eight marks."""


@dataclass(frozen=True)
class Line:
    """One line: its values in order, and its style."""

    label: str
    """Its name in the hover text, and beside its end unless it is faint."""
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
    """none, or each for a mark at every value; a line that is not faint always has some, to tell it without color."""

    @property
    def positions(self) -> list[float]:
        """The horizontal position of each value."""
        return [*map(float, self.at)] or [float(number) for number in range(1, len(self.values) + 1)]

    def is_drawable(self, yscale: str) -> bool:
        """Returns whether any value can be drawn."""
        return any(
            _drawable(value, yscale) and math.isfinite(at)
            for at, value in zip(self.positions, self.values, strict=True)
        )


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
    reference: float | Mapping[str, float] | None = None,
) -> Picture:
    """Returns a plot of lines, each with its name at its end and as hover text.

    A value that cannot be drawn (not finite, or not positive on a logarithmic scale) leaves a gap; the name counts
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
        reference: horizontal reference lines by name, such as chance level; a number has no name.
    """
    axis = panel(title, xlabel=xlabel, ylabel=ylabel)
    plot_lines(axis, lines, xscale=xscale, yscale=yscale, reference=reference)
    return Picture(name, caption, axis.figure)


def plot_lines(
    axis: Any,
    lines: Sequence[Line],
    *,
    xscale: str = "linear",
    yscale: str = "linear",
    reference: float | Mapping[str, float] | None = None,
) -> None:
    """Draws lines and reference lines on a panel, sets its scales and names the lines at their ends."""
    if reference is not None and not isinstance(reference, Mapping):
        reference = {"": reference}
    levels = {name: value for name, value in (reference or {}).items() if _drawable(value, yscale)}
    # Colors of the palette are counted apart, so that lines with the color of their kind use up none.
    others = [sum(line.kind not in KINDS for line in lines[:number]) for number in range(len(lines))]
    labels = [
        draw_line(axis, line, index, xscale=xscale, yscale=yscale) for index, line in zip(others, lines, strict=True)
    ]
    for name, value in levels.items():
        level = axis.axhline(value, color=REFERENCE.color, linestyle=REFERENCE.dashes, linewidth=1.6)
        hover(level, f"{name} {value:.4g}".strip())
    heights = [value for line in lines for value in (*line.values, *line.low, *line.high)]
    scale(axis, "x", [at for line in lines for at in line.positions], xscale)
    scale(axis, "y", [*heights, *levels.values()], yscale)
    names = [label for label in labels if label is not None]
    names += [Label(name, REFERENCE, [(axis.get_xlim()[1], value)]) for name, value in levels.items() if name]
    label_ends(axis, names if len(names) > 1 or "(" in "".join(label.text for label in names) else [])


def draw_line(axis: Any, line: Line, index: int, *, xscale: str, yscale: str) -> Label | None:
    """Draws one line on a panel and returns its label; `index` selects its style where its kind has none."""
    points, gaps = [], []
    for place, value in zip(line.positions, line.values, strict=True):
        if _drawable(value, yscale) and _drawable(place, xscale):
            points.append((place, value))
        else:
            points.append((place, math.nan))
            gaps.append(f"{place:g} ({value:g})")
    drawn = [point for point in points if not math.isnan(point[1])]
    look = style(line.kind, index)
    width, alpha = WEIGHTS[line.weight]
    at, heights = [point[0] for point in points], [point[1] for point in points]
    faint = line.weight == "faint" and line.marks == "none" and len(drawn) > 1
    every = 1 if line.marks == "each" or len(points) <= MARKS else max(len(points) // 8, 1)
    axis.plot(
        at,
        heights,
        color=look.color,
        linewidth=width,
        alpha=alpha,
        linestyle="solid" if faint else look.dashes,
        marker="" if faint else look.marker,
        markersize=4,
        markevery=every,
    )
    if line.low:
        axis.fill_between(line.positions, line.low, line.high, color=look.color, alpha=0.18, linewidth=0)
    # A thin line is a small target for the pointer.
    target = axis.plot(at, heights, color=look.color, linewidth=9, alpha=0)[0]
    first = f"{', '.join(gaps[:3])}{' ...' * (len(gaps) > 3)}"
    hover(target, f"{line.label}: cannot be drawn at {first}" if gaps else line.label)
    if line.weight == "faint":
        return None
    missing = f" ({len(gaps)} not drawn)" if gaps else ""
    return Label(line.label + missing, look, drawn or [(at[-1] if at else 1.0, 1.0)])


def _drawable(value: float, scale: str) -> bool:
    return math.isfinite(value) and (scale != "log" or value > 0)


def draw_rates(rates: Sequence[float], losses: Sequence[float], suggestion: float, file: Path) -> None:
    """Writes a PNG of losses by learning rate, with the suggested rate marked.

    Args:
        rates: learning rate of every step.
        losses: loss of every step.
        suggestion: rate to mark.
        file: path of the PNG.
    """
    axis = panel("loss by learning rate", xlabel="learning rate", ylabel="loss (moving average)", width=6)
    plot_lines(axis, [Line("loss", losses, at=rates)], xscale="log")
    axis.axvline(suggestion, linestyle="--", color=COLORS["gray"])
    text = f"suggestion {suggestion:.2g}"
    axis.annotate(
        text,
        (suggestion, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(4, -2),
        textcoords="offset points",
        va="top",
        color=INK,
        fontsize=SIZE,
    )
    save(axis.figure, file)


class Panel(NamedTuple):
    """Curves on one pair of axes."""

    title: str
    xlabel: str
    ylabel: str
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    """Label -> x and y."""
    scale: Literal["linear", "log"] = "linear"
    """Of the y axis; a logarithmic one omits values that are not above 0."""
    controls: Mapping[str, float] = {}
    """Label -> the quantity where the answer is known: horizontal lines."""

    @property
    def lines(self) -> list[Line]:
        """The curves that have a value to draw."""
        lines = [Line(label, [*map(float, y)], at=[*map(float, x)]) for label, (x, y) in self.curves.items()]
        return [line for line in lines if line.is_drawable(self.scale)]


def draw_profiles(panels: Sequence[Panel], *, name: str, caption: str) -> list[Picture]:
    """Returns a picture of every panel that has something to draw; values that are not finite are omitted.

    Args:
        panels: of one measurement.
        name: file name of the first picture without a suffix; further ones have a number behind it.
        caption: one sentence that says what they show.
    """
    full = [panel for panel in panels if panel.lines]
    return [
        draw_lines(
            panel.lines,
            name=f"{name}_{number}" if number > 1 else name,
            title=panel.title,
            caption=f"{caption[:1].upper()}{caption[1:].removesuffix('.')}."
            if number == 1
            else f"{panel.title[:1].upper()}{panel.title[1:]}: {panel.ylabel} by {panel.xlabel}.",
            xlabel=panel.xlabel,
            ylabel=panel.ylabel,
            yscale=panel.scale,
            reference=panel.controls,
        )
        for number, panel in enumerate(full, 1)
    ]


def save_profiles(panels: Sequence[Panel], file: Path, *, title: str) -> None:
    """Writes a PNG of panels side by side."""
    full = [panel for panel in panels if panel.lines] or list(panels[:1])
    drawing = figure(WIDTH * len(full), HEIGHT)
    for axis, each in zip(drawing.subplots(1, len(full), squeeze=False)[0], full, strict=True):
        styled(axis, each.title, xlabel=each.xlabel, ylabel=each.ylabel)
        plot_lines(axis, each.lines, yscale=each.scale, reference=each.controls)
    drawing.suptitle(title, fontsize=12)
    save(drawing, file)
