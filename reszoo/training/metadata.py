"""Metadata in `.keras` files: class names and scaling of the training data, in an archive member that Keras ignores."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reszoo.data.columns import Columns
from reszoo.data.sources import Data, Scaling
from reszoo.errors import ReszooError
from reszoo.weights.catalogue import Record
from reszoo.weights.formats.archives import append_member, checked_zip, read_member

MEMBER = "reszoo.json"


@dataclass(frozen=True)
class Metadata:
    """What predicting needs to know about the training data."""

    classes: tuple[str, ...]
    scaling: Scaling
    data: str
    seed: int
    """Of the split."""
    columns: Columns | None = None
    """The encoding of a table."""

    def __repr__(self) -> str:
        return f"Metadata({len(self.classes):,} classes of {self.data[:40]!r}, scale {self.scaling.scale:g})"


def write_metadata(path: Path, data: Data) -> None:
    """Adds the metadata to a `.keras` file."""
    content = {"classes": list(data.classes), "scaling": asdict(data.scaling), "data": data.name, "seed": data.seed}
    if data.columns is not None:
        content["columns"] = data.columns.to_dict()
    append_member(path, MEMBER, json.dumps(content))


def read_metadata(path: str | Path) -> Metadata:
    """Returns the metadata of a `.keras` file.

    Raises:
        ReszooError: the file has none, so it does not come from a run.
    """
    try:
        with checked_zip(Path(path)) as archive:
            content: dict[str, Any] = json.loads(read_member(Path(path), archive, MEMBER))
        scale, mean, std = (content["scaling"][name] for name in ("scale", "mean", "std"))
        scaling = Scaling(float(scale), tuple(mean), tuple(std))
        columns = Columns.from_dict(content["columns"]) if content.get("columns") else None
        classes = tuple(map(str, content["classes"]))
        return Metadata(classes, scaling, str(content["data"]), int(content["seed"]), columns)
    except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        expected = "a .keras file of a run (reszoo train)"
        raise ReszooError(str(path), got=f"no metadata about its data ({error})", expected=expected) from None


def columns_of(path: str | Path) -> Columns | None:
    """Returns the encoding that a `.keras` file holds; None for a network that was not trained on a table."""
    try:
        return read_metadata(path).columns
    except ReszooError:
        return None


def features_of(weights: str | Path) -> Columns | None:
    """Returns the encoding of a table's columns, without its target, that a `.keras` file of weights holds."""
    columns = columns_of(weights) if Path(weights).suffix == ".keras" else None
    return None if columns is None else columns.with_targets((), (), columns.task)


def check_columns(data: Data, columns: Columns | None) -> None:
    """Refuses a table that was not encoded by the columns of a network.

    Raises:
        ReszooError: the features of the table are not those that the network was trained on.
    """
    if data.columns is None:
        return
    if columns is None:
        warn_of(["the network's file names no columns: those of this table are taken in their order"], data.name)
    elif not data.columns.same_features(columns):
        hint = "give the file itself, or the result of open_data(..., columns=...) with the columns of training"
        raise ReszooError(data.name, got="a table encoded by itself", expected="the columns of training", hint=hint)


def warn_of(notes: Iterable[str], name: str) -> None:
    """Warns of what is odd about a table."""
    for note in notes:
        warnings.warn(f"{name}: {note}", stacklevel=4)


def scaling_for(record: Record, data: Data) -> Scaling:
    """Returns the scaling that published weights expect, for the value range of these data.

    Raises:
        ReszooError: the weights take images with other channels.
    """
    preprocessing = record.preprocessing
    if preprocessing.channels == "bgr" or data.shape[-1] != len(preprocessing.mean):
        got = f"weights for {preprocessing.channels} images, and images with {data.shape[-1]} channels"
        expected = "weights for rgb with 3 channels, or gray with 1"
        raise ReszooError(record.name, got=got, expected=expected)
    return Scaling(data.scaling.scale * preprocessing.scale / 255, preprocessing.mean, preprocessing.std)
