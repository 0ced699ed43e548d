"""Training curves as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from reszoo.report.profiles import Panel, save_profiles


def draw_curves(
    panels: Mapping[str, Mapping[str, Sequence[float]]], file: Path, *, title: str, ylabel: str, xlabel: str = "epoch"
) -> None:
    """Writes a PNG with one panel per group of curves, on logarithmic scales.

    Args:
        panels: panel title -> curve label -> value per epoch or step, the first one first.
        file: path of the PNG.
        title: shown above all panels.
        ylabel: quantity and unit of the values.
        xlabel: what is counted: epochs or steps.
    """
    groups = [
        Panel(name, xlabel, ylabel, {label: (range(1, len(y) + 1), y) for label, y in curves.items()}, "log")
        for name, curves in panels.items()
    ]
    save_profiles(groups, file, title=title)
