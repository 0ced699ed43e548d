"""Predictions for new examples, and files of them; the `.keras` file alone is enough."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, overload

from reszoo.data.ranges import scaling_for_range
from reszoo.errors import ReszooError
from reszoo.files import atomic_write, strict_json, write_file
from reszoo.notebook import html_table
from reszoo.training.metadata import warn_of
from reszoo.training.network import check_size, open_network, outputs_of, probabilities
from reszoo.training.new_examples import LeftOut, NewSource, check_source, open_new
from reszoo.types import Array, KerasModel
from reszoo.weights.labels import DecodedLabel

THRESHOLD = 0.5
"""Probability from which one of several classes is predicted."""


class Prediction(NamedTuple):
    """The prediction for one example."""

    example: str
    """Path of the file, or index in the array."""
    label: str
    """The most probable class; of several classes at once those above one half, of a regression the number."""
    probability: float | None
    """Of the most probable class; None for a regression."""
    top: tuple[DecodedLabel, ...] = ()
    """The most probable classes, most probable first."""

    def __repr__(self) -> str:
        value = "" if self.probability is None else f", {self.probability:.4f}"
        return f"Prediction({self.example[-60:]!r}: {self.label[:40]!r}{value})"


@dataclass(frozen=True)
class Predictions(Sequence[Prediction]):
    """The predictions for new examples, in their order, and the files that were left out."""

    task: str
    classes: tuple[str, ...]
    examples: tuple[str, ...] = field(repr=False)
    """Paths of the files, or indices in the array."""
    values: Array = field(repr=False)
    """Probabilities, `(examples, classes)`, or the numbers of a regression."""
    top: int = 1
    left_out: tuple[LeftOut, ...] = ()
    """Files that are no readable images."""
    notes: tuple[str, ...] = ()
    """What was converted."""

    @overload
    def __getitem__(self, index: int) -> Prediction: ...
    @overload
    def __getitem__(self, index: slice) -> list[Prediction]: ...
    def __getitem__(self, index: int | slice) -> Prediction | list[Prediction]:
        """Returns one prediction, or several as a list."""
        if isinstance(index, slice):
            return [self._prediction(each) for each in range(*index.indices(len(self)))]
        return self._prediction(range(len(self))[index])

    def __len__(self) -> int:
        return len(self.examples)

    def __iter__(self) -> Iterator[Prediction]:
        return map(self._prediction, range(len(self)))

    def _prediction(self, index: int) -> Prediction:
        row = self.values[index]
        if self.task == "regression":
            return Prediction(self.examples[index], ", ".join(f"{value:.6g}" for value in row), None)
        order = [int(place) for place in (-row).argsort(kind="stable")[: self.top]]
        top = tuple(DecodedLabel(self.classes[place], float(row[place])) for place in order)
        label = top[0].label
        if self.task == "multilabel":
            label = ", ".join(name for name, value in zip(self.classes, row, strict=True) if value >= THRESHOLD)
        return Prediction(self.examples[index], label, top[0].probability, top)

    @property
    def summary(self) -> str:
        """How many examples were predicted: `18 of 23 predicted`."""
        total = len(self) + len(self.left_out)
        return f"{len(self):,} of {total:,} predicted"

    def __repr__(self) -> str:
        return f"Predictions({self.summary}; {self.task} with {len(self.classes):,} classes)"

    def _repr_html_(self) -> str:
        rows = [(each.example, each.label, each.probability) for each in self[:20]]
        notes = [f"and {len(self) - 20:,} more"] if len(self) > 20 else []
        notes += [f"left out {name}: {reason}" for name, reason in self.left_out[:20]]
        note = "; ".join([*notes, *self.notes])
        return html_table(("example", "class", "probability"), rows, title=self.summary, note=note)


def predict(
    network: str | Path | KerasModel,
    source: NewSource,
    /,
    *,
    top: int = 1,
    size: int | None = None,
    flip: bool = False,
    batch: int = 64,
) -> Predictions:
    """Returns the predictions for new examples, a sequence of `Prediction`.

    A file that is no readable image is left out and named; the others are predicted. Pixels of another range than in
    training are converted.

    `reszoo.predict("runs/a/model.keras", "photos")`

    Args:
        network: see `evaluate`.
        source: an image, a folder of images (searched recursively, hidden files are passed over), a `.txt` list of
            files, several of these as a list, a `.npz` with `x`, a `.npy`, an array of examples, or a table (`.csv`,
            `.tsv`, a data frame), whose columns are matched by name and which may lack the target.
        top: number of classes in every prediction.
        size: side of the images in pixels, for a network of any size.
        flip: whether to average the outputs for images and for their mirror images.
        batch: examples per batch.

    Raises:
        ReszooError: there is no readable example, or it does not match what the network was trained on.
    """
    check_source(source)
    opened = open_network(network)
    side = check_size(opened, size)
    for name, value in {"top": top, "batch": batch}.items():
        if value < 1:
            raise ReszooError(f"predict.{name}", got=value, expected="1 or more")
    examples, metadata = open_new(source, opened, size=side), opened.metadata
    scaling, note = metadata.scaling, ""
    if opened.takes_images:
        scaling, note = scaling_for_range(
            scaling, metadata.white, examples.values, where=f"{opened.name} on new images"
        )
    notes = (*examples.notes, *filter(None, [note]))
    warn_of(notes, "predict")
    left_out: list[LeftOut] = []
    names: list[str] = []
    outputs: list[Array] = []
    model = None
    for part, x in examples.batches(batch, left_out):
        model = model or opened.load()
        outputs.append(outputs_of(model, opened, x, scaling, flip=flip, rows=min(batch, examples.count)))
        names += part
    if not names:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out[:5])
        more = f"; and {len(left_out) - 5} more" if len(left_out) > 5 else ""
        raise ReszooError("predict", got=f"no image ({reasons}{more})", expected="at least one readable image")
    import numpy as np

    values = probabilities(np.concatenate(outputs), metadata, name=opened.name)
    return Predictions(metadata.task, metadata.classes, tuple(names), values, top, tuple(left_out), notes)


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
    if path.suffix == ".npz":
        with atomic_write(path) as temporary:
            _write_npz(predictions, temporary)
    else:
        write_file(path, (as_csv if path.suffix == ".csv" else as_json)(predictions, every=every))
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
