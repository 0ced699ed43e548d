"""Curves over the depth of a network as pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from reszoo.report.lines import Line, draw_lines, plot_lines
from reszoo.report.panels import styled
from reszoo.report.pictures import HEIGHT, WIDTH, Picture, figure, save


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
    for axis, panel in zip(drawing.subplots(1, len(full), squeeze=False)[0], full, strict=True):
        styled(axis, panel.title, xlabel=panel.xlabel, ylabel=panel.ylabel)
        plot_lines(axis, panel.lines, yscale=panel.scale, reference=panel.controls)
    drawing.suptitle(title, fontsize=12)
    save(drawing, file)
