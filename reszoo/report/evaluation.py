"""The page of an evaluation: measures, classes, confusion matrix, calibration, and the most wrong examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

from reszoo.report.confusion import confusion_picture
from reszoo.report.page import Cell, Gallery, Image, Page, Section, Table
from reszoo.report.reliability import reliability_picture

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
