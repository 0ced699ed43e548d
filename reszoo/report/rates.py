"""The curve of a range test of the learning rate, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reszoo.report.lines import Line, plot_lines
from reszoo.report.panels import panel
from reszoo.report.pictures import COLORS, INK, SIZE, save


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
