"""A confusion matrix as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reszoo.report.panels import draw_cell, name_cells, panel
from reszoo.report.pictures import COLORS, Picture

CELL = 0.42
"""Side of a cell in inches: room for four digits."""
COUNTED = 40
"""Most classes whose cells contain counts."""


def confusion_picture(confusion: Any, classes: Sequence[str]) -> Picture:
    """Returns a confusion matrix: counts of every true class (rows) by predicted class (columns).

    Colors are shares of a row: blue on the diagonal, vermilion for errors. Cells without examples are empty.
    """
    import numpy as np

    counts = np.asarray(confusion, "float64")
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = CELL if len(classes) <= COUNTED else 0.24
    size = max(1.3 + side * len(classes), 3.2)
    axis = panel("", xlabel="predicted class", ylabel="true class", width=size + 0.3, height=size)
    name_cells(axis, classes, classes)
    axis.invert_yaxis()
    for row, column in np.argwhere(counts > 0):
        # A square root, so that a few errors of many examples can be seen.
        share, count = float(shares[row, column]), f"{counts[row, column]:,.0f}"
        color = COLORS["blue" if row == column else "vermilion"]
        note = f"true {classes[row]}, predicted {classes[column]}: {count} ({share:.1%} of the true class)"
        text = count if len(classes) <= COUNTED else ""
        draw_cell(axis, column, row, share=share**0.5, color=color, text=text, note=note)
    right = float(np.trace(counts) / max(counts.sum(), 1))
    caption = (
        f"Confusion matrix: examples of every true class (rows) by predicted class (columns); {right:.1%} are on the "
        "diagonal. The stronger the color, the larger the share of the row."
    )
    return Picture("confusion", caption, axis.figure)
