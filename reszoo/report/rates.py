"""The curve of a range test of the learning rate, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reszoo.report.pictures import panel, save


def draw_rates(rates: Sequence[float], losses: Sequence[float], suggestion: float, file: Path) -> None:
    """Writes a PNG of losses by learning rate, with the suggested rate marked.

    Args:
        rates: learning rate of every step.
        losses: loss of every step.
        suggestion: rate to mark.
        file: path of the PNG.
    """
    axis = panel("loss by learning rate", xlabel="learning rate", ylabel="loss (moving average)", width=6)
    axis.plot(rates, losses)
    axis.axvline(suggestion, linestyle="--", color="gray")
    axis.annotate(f" {suggestion:.2g}", (suggestion, max(losses)))
    axis.set_xscale("log")
    save(axis.figure, file)
