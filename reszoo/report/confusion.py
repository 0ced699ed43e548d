"""A confusion matrix as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reszoo.report.pictures import figure, save


def draw_confusion(confusion: Any, classes: Sequence[str], file: Path, *, title: str) -> None:
    """Writes a confusion matrix as PNG: the share of every class (rows) that was predicted as every class (columns)."""
    import numpy as np

    counts = np.asarray(confusion, "float64")
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = min(4 + 0.35 * len(classes), 16)
    drawing = figure(size, size)
    axis = drawing.subplots()
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(classes) <= 40:
        axis.set_xticks(range(len(classes)), classes, rotation=90)
        axis.set_yticks(range(len(classes)), classes)
    if len(classes) <= 20:
        for row, column in np.argwhere(counts > 0):
            color = "white" if shares[row, column] > 0.5 else "black"
            text = f"{counts[row, column]:.0f}"
            axis.text(column, row, text, ha="center", va="center", color=color, fontsize=8)
    axis.set(title=title, xlabel="predicted", ylabel="true class")
    save(drawing, file)
