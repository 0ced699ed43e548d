"""Predictions as files: CSV, JSON, NumPy."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from reszoo.atomic import atomic_write
from reszoo.errors import ReszooError
from reszoo.strict_json import strict_json
from reszoo.training.predict import Predictions

SUFFIXES = (".csv", ".json", ".npz")


def check_output(output: str | Path, /) -> None:
    """Checks the name of a file for predictions.

    Raises:
        ReszooError: its suffix names no known format.
    """
    if str(output) != "-" and Path(output).suffix not in SUFFIXES:
        raise ReszooError(
            "predict.output", got=str(output), expected=f"- or a file that ends with {', '.join(SUFFIXES)}"
        )


def write_predictions(predictions: Predictions, output: str | Path, /, *, every: bool = False) -> Path:
    """Returns the path of a file after writing predictions to it, in the format of its suffix.

    Args:
        predictions: see `predict`.
        output: a `.csv`, `.json` or `.npz` file.
        every: whether to write the probability of every class.
    """
    check_output(output)
    path = Path(output).expanduser()
    with atomic_write(path) as temporary:
        if path.suffix == ".csv":
            temporary.write_text(as_csv(predictions, every=every), encoding="utf-8", newline="")
        elif path.suffix == ".json":
            temporary.write_text(as_json(predictions, every=every), encoding="utf-8")
        else:
            _write_npz(predictions, temporary)
    return path


def as_csv(predictions: Predictions, /, *, every: bool = False) -> str:
    """Returns predictions as CSV: a row for every example, with a column for every class if `every` is true."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    rows = zip(predictions, predictions.values, strict=True)
    if predictions.task == "regression":
        names = predictions.classes or tuple(f"output {number}" for number in range(1, predictions.values.shape[1] + 1))
        writer.writerow(("example", *names))
        writer.writerows((each.example, *(f"{value:.9g}" for value in row)) for each, row in rows)
        return stream.getvalue()
    numbers = range(2, min(predictions.top, len(predictions.classes)) + 1)
    more = [f"{word} {number}" for number in numbers for word in ("class", "probability")]
    columns = [f"probability of {name}" for name in predictions.classes] if every else []
    writer.writerow(("example", "class", "probability", *more, *columns))
    for each, row in rows:
        further = [cell for label, value in each.top[1:] for cell in (label, f"{value:.6f}")]
        probabilities = [f"{value:.6f}" for value in row] if every else []
        writer.writerow((each.example, each.label, f"{each.probability:.6f}", *further, *probabilities))
    return stream.getvalue()


def as_json(predictions: Predictions, /, *, every: bool = False) -> str:
    """Returns predictions as JSON, with the files that were left out."""
    rows = []
    for each, row in zip(predictions, predictions.values, strict=True):
        content: dict[str, object] = {"example": each.example, "class": each.label, "probability": each.probability}
        if predictions.task == "regression":
            content = {"example": each.example, "values": row}
        elif predictions.top > 1:
            content["top"] = [label._asdict() for label in each.top]
        if every and predictions.task != "regression":
            content["probabilities"] = dict(zip(predictions.classes, row, strict=True))
        rows.append(content)
    left_out = [each._asdict() for each in predictions.left_out]
    data = {"task": predictions.task, "predictions": rows, "left_out": left_out, "notes": predictions.notes}
    return strict_json(data, indent=2)


def _write_npz(predictions: Predictions, path: Path) -> None:
    import numpy as np

    values = "values" if predictions.task == "regression" else "probabilities"
    arrays: dict[str, Any] = {
        "examples": np.array(predictions.examples),
        "classes": np.array(predictions.classes, "str"),
    }
    arrays[values] = predictions.values
    arrays["labels"] = np.array([each.label for each in predictions], "str")
    with path.open("wb") as stream:
        np.savez(stream, **arrays)
