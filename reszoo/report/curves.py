"""Training curves as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from reszoo.report.pictures import figure, save


def draw_curves(panels: Mapping[str, Mapping[str, Sequence[float]]], file: Path, *, title: str, ylabel: str) -> None:
    """Writes a PNG with one panel per group of curves, on a shared logarithmic scale.

    Args:
        panels: panel title -> curve label -> value per epoch, first epoch first.
        file: path of the PNG.
        title: shown above all panels.
        ylabel: quantity and unit of the values.
    """
    drawing = figure(5 * len(panels), 4)
    axes = drawing.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, (name, curves) in zip(axes, panels.items(), strict=True):
        for label, values in curves.items():
            axis.plot(range(1, len(values) + 1), values, marker="o", markersize=3, label=label)
        axis.set(title=name, xlabel="epoch", yscale="log")
        axis.grid(alpha=0.3, which="both")
        axis.legend()
    axes[0].set_ylabel(ylabel)
    drawing.suptitle(title)
    save(drawing, file)
