"""The page of an evaluation and its pictures: measures, classes, confusion matrix, calibration, most wrong examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

from reszoo.report.page import Cell, Gallery, Image, Page, Section, Table
from reszoo.report.panels import draw_cell, name_cells, panel
from reszoo.report.pictures import COLORS, INK, SIZE, Picture, hover

SIDE = 128
"""Longest side of an example's image on the page, in pixels; smaller images are enlarged."""
UNDEFINED = "undefined: no example, or no prediction"
MATRIX = 60
"""Most classes of a confusion matrix that is drawn."""


def evaluation_page(evaluation: Any, *, title: str, foot: str = "") -> Page:
    """Returns the page of an evaluation.

    Args:
        evaluation: as from `reszoo.evaluate`.
        title: of the page, such as the name of the network's file.
        foot: a line at the end.
    """
    pictures: list[Any] = []
    if evaluation.confusion is not None and len(evaluation.classes) <= MATRIX:
        names = [row.name for row in evaluation.classes]
        pictures.append(confusion_picture(evaluation.confusion, names))
    if evaluation.reliability:
        pictures.append(reliability_picture(evaluation.reliability, error=evaluation.metrics["calibration_error"]))
    sections = [
        Section("Measures", [_metrics(evaluation.metrics), *evaluation.notes]),
        Section("Classes", [_classes(evaluation.classes)] if evaluation.classes else []),
        Section("Pictures", [Gallery(pictures, size="large")] if pictures else []),
        Section("Most wrong", _wrong(evaluation.wrong)),
    ]
    facts = {
        name.replace("_", " "): f"{value:.4f}" for name, value in [*evaluation.metrics.items()][:4] if value == value
    }
    return Page(
        title, evaluation.protocol, sections, facts, foot, numbers=numbers(evaluation), numbers_file="evaluation.json"
    )


def numbers(evaluation: Any) -> dict[str, Any]:
    """Returns an evaluation as plain data."""
    return {
        "task": evaluation.task,
        **evaluation.metrics,
        "classes": [row._asdict() for row in evaluation.classes],
        "confusion": evaluation.confusion,
        "reliability": [each._asdict() for each in evaluation.reliability],
        "wrong": [
            {name: getattr(each, name) for name in ("example", "label", "predicted", "error")}
            for each in evaluation.wrong
        ],
        "protocol": evaluation.protocol,
        "notes": evaluation.notes,
    }


def _metrics(metrics: Mapping[str, float]) -> Table:
    rows = [(name.replace("_", " "), _number(value)) for name, value in metrics.items()]
    return Table(("measure", "value"), rows, dash=UNDEFINED)


def _number(value: float) -> Cell | None:
    return Cell(f"{value:.4f}", value) if value == value else None


def _classes(rows: Sequence[Any]) -> Table:
    columns = ("class", "examples", "recall", "precision", "F1", "AUC", "average precision")
    values = ("recall", "precision", "f1", "auc", "average_precision")
    cells = [(row.name, row.examples, *(_number(getattr(row, name)) for name in values)) for row in rows]
    return Table(columns, cells, dash=UNDEFINED)


def _wrong(examples: Sequence[Any]) -> list[Any]:
    if not examples:
        return []
    columns = ("example", "class", "predicted", "error")
    table = Table(columns, [(each.example, each.label, each.predicted, _number(each.error)) for each in examples])
    images = [
        Image(f"wrong_{number}", f"{each.label}, predicted {each.predicted} (error {each.error:.2f})", _png(each.image))
        for number, each in enumerate(examples, 1)
        if each.image is not None
    ]
    return [*([Gallery(images)] if images else []), table]


def _png(image: Any) -> bytes:
    """An image of one or three channels as PNG."""
    from PIL import Image as PillowImage

    picture = PillowImage.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    scale = SIDE / max(picture.size)
    size = (max(round(picture.width * scale), 1), max(round(picture.height * scale), 1))
    method = PillowImage.Resampling.NEAREST if scale > 2 else PillowImage.Resampling.BILINEAR
    stream = BytesIO()
    picture.resize(size, method).save(stream, "PNG")
    return stream.getvalue()


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


Point = tuple[int, float, float]
"""Examples, mean confidence, accuracy of a bin."""


def reliability_picture(bins: Sequence[Point], *, error: float) -> Picture:
    """Returns the reliability diagram of a classification.

    Args:
        bins: of confidence.
        error: the expected calibration error.
    """
    axis = panel("calibration", xlabel="confidence", ylabel="accuracy")
    axis.plot([0, 1], [0, 1], color=INK, alpha=0.5, linewidth=1, linestyle="--")
    axis.text(0.03, 0.95, "above the line: underconfident\nbelow: overconfident", color=INK, fontsize=SIZE, va="top")
    most = max((count for count, _, _ in bins), default=1)
    axis.plot([each[1] for each in bins], [each[2] for each in bins], color=COLORS["blue"], alpha=0.5)
    for count, confidence, accuracy in bins:
        size = 20 + 180 * count / most
        point = axis.scatter([confidence], [accuracy], s=size, color=COLORS["blue"], alpha=0.8, clip_on=False)
        hover(point, f"{count:,} examples: confidence {confidence:.3f}, accuracy {accuracy:.3f}")
    axis.set(xlim=(0, 1.02), ylim=(-0.02, 1.02))
    caption = (
        f"Accuracy by confidence; on the dashed line confidence equals accuracy. Larger points hold more "
        f"examples. Expected calibration error {error:.4f}."
    )
    return Picture("reliability", caption, axis.figure)
