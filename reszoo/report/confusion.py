"""A confusion matrix as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reszoo.report.pictures import INK, Picture, figure, literal


def confusion_picture(confusion: Any, classes: Sequence[str]) -> Picture:
    """Returns a confusion matrix: the share of every class (rows) that was predicted as every class (columns)."""
    import numpy as np

    counts = np.asarray(confusion, "float64")
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = min(4 + 0.35 * len(classes), 16)
    drawing = figure(size, size)
    axis = drawing.subplots()
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = [literal(name) for name in classes]
    if len(classes) <= 40:
        axis.set_xticks(range(len(classes)), names, rotation=90, color=INK)
        axis.set_yticks(range(len(classes)), names, color=INK)
    if len(classes) <= 20:
        for row, column in np.argwhere(counts > 0):
            color = "white" if shares[row, column] > 0.5 else "#222222"
            text = f"{counts[row, column]:.0f}"
            axis.text(column, row, text, ha="center", va="center", color=color, fontsize=8)
    axis.set_xlabel("predicted", color=INK)
    axis.set_ylabel("true class", color=INK)
    caption = "Confusion matrix: of every class (rows) the examples that were predicted as every class (columns)."
    return Picture("confusion", caption, drawing)
