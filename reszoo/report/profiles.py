"""Curves over the depth of a network as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from reszoo.report.pictures import figure


class Panel(NamedTuple):
    """Curves on one pair of axes."""

    title: str
    xlabel: str
    ylabel: str
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    """Label -> x and y."""
    scale: Literal["linear", "log"] = "linear"
    """Of the y axis; a logarithmic one omits values that are not above 0."""


def draw_profiles(panels: Sequence[Panel], *, title: str) -> Any:
    """Returns a Matplotlib figure of panels side by side; values that are not finite are omitted."""
    import numpy as np

    drawing = figure(5.5 * len(panels), 4)
    for axis, panel in zip(drawing.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for label, (x, y) in panel.curves.items():
            values = np.array(y, "float64")
            drawable = np.isfinite(values) & ((values > 0) | (panel.scale == "linear"))
            axis.plot(np.array(x, "float64")[drawable], values[drawable], marker="o", markersize=3, label=label)
        axis.set(title=panel.title, xlabel=panel.xlabel, ylabel=panel.ylabel, yscale=panel.scale)
        axis.grid(alpha=0.3, which="both")
        axis.legend(fontsize=8)
    drawing.suptitle(title)
    return drawing
