"""What a network knows of the data it was trained on: classes, task, scaling, range; stored in its `.keras` file."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from reszoo.arch.facts import Facts, facts_in
from reszoo.data.columns import Columns
from reszoo.data.dataset import range_of
from reszoo.data.labels import TASKS
from reszoo.data.ranges import scaling_for_range
from reszoo.data.sources import Data, Scaling
from reszoo.errors import ReszooError
from reszoo.files import strict_json
from reszoo.weights.catalogue import Preprocessing, Record
from reszoo.weights.formats.archives import append_member, checked_zip, read_member
from reszoo.weights.formats.checkpoint import JSON_LIMIT, json_object
from reszoo.weights.formats.keras_files import FACTS_MEMBER as MEMBER
from reszoo.weights.labels import words
from reszoo.weights.origin import preprocessing_in

SAVE = "reszoo.save(model, path, classes=[...], preprocessing=...) stores them"


class DataWarning(UserWarning):
    """Data that differ from those of the training, and what was done about it."""


@dataclass(frozen=True)
class Metadata:
    """What predicting needs to know about the training data."""

    classes: tuple[str, ...]
    """Names of the classes, or of the outputs of a regression."""
    scaling: Scaling
    data: str
    seed: int
    """Of the split."""
    task: str = "classification"
    """classification, multilabel or regression."""
    white: float | None = None
    """The value of white in the training images; None for tables and for values that are no pixels."""
    digest: str = ""
    """Of the training data (`reszoo.data.dataset.digest`); empty if it is unknown."""
    size: int | None = None
    """Side of the images of the training, in pixels."""
    columns: Columns | None = None
    """The encoding of a table."""

    def __repr__(self) -> str:
        return f"Metadata({len(self.classes):,} classes of {self.data[:40]!r}, scale {self.scaling.scale:g})"


def metadata_of(data: Data, /, *, digest: str = "") -> Metadata:
    """Returns what a network trained on these data knows about them.

    Args:
        data: the training data.
        digest: of the data, where it is known.
    """
    shape = data.shape
    white = range_of(data).white if len(shape) == 3 else None
    size = shape[0] if len(shape) == 3 and shape[0] == shape[1] else None
    return Metadata(data.classes, data.scaling, data.name, data.seed, data.task, white, digest, size, data.columns)


def facts_of(metadata: Metadata, /) -> Facts:
    """Returns metadata as facts that travel with the network (`reszoo.arch.facts`)."""
    columns = None if metadata.columns is None else metadata.columns.to_dict()
    facts = {**asdict(replace(metadata, columns=None)), "classes": list(metadata.classes), "columns": columns}
    settings = _preprocessing(metadata)
    return facts if settings is None else {**facts, "preprocessing": settings.model_dump(mode="json")}


def _preprocessing(metadata: Metadata) -> Preprocessing | None:
    """The preprocessing of images from 0 to 255 that is the same as the scaling, or None where there is none."""
    white, scaling, channels = metadata.white, metadata.scaling, {1: "gray", 3: "rgb"}
    if white is None or metadata.size is None or len(scaling.mean) not in channels:
        return None
    return Preprocessing.model_validate(
        {
            "resize": metadata.size,
            "crop": metadata.size,
            "scale": scaling.scale * 255 / white,
            "mean": scaling.mean,
            "std": scaling.std,
            "channels": channels[len(scaling.mean)],
        }
    )


def write_metadata(path: Path, content: Data | Metadata | Mapping[str, Any], /) -> None:
    """Adds metadata, or facts, to a `.keras` file."""
    if isinstance(content, Data):
        content = metadata_of(content)
    facts = facts_of(content) if isinstance(content, Metadata) else content
    append_member(path, MEMBER, strict_json(facts))


def read_metadata(path: str | Path) -> Metadata:
    """Returns the metadata of a `.keras` file.

    Raises:
        ReszooError: there is no such file, or it says nothing about its classes and inputs.
    """
    facts, _ = read_file(path)
    return metadata_from(facts, where=str(path))


def read_file(path: str | Path) -> tuple[Facts, Mapping[str, Any]]:
    """Returns the facts in a `.keras` file and the configuration of its model, without Keras.

    Raises:
        ReszooError: there is no such file.
        BrokenFileError: the file is damaged.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise ReszooError(str(path), got="no such file", expected="a .keras file")
    with checked_zip(path) as archive:
        config = json_object(path, read_member(path, archive, "config.json", limit=JSON_LIMIT), "a config.json")
        if MEMBER not in archive.namelist():
            return facts_in(config), config
        return json_object(path, read_member(path, archive, MEMBER, limit=JSON_LIMIT), f"a {MEMBER}"), config


def metadata_from(facts: Mapping[str, Any], /, *, where: str) -> Metadata:
    """Returns the metadata in the facts of a network.

    Raises:
        ReszooError: they do not name the classes or the scaling.
    """
    expected = "a network of a run (reszoo train), or one with published weights"
    settings = preprocessing_in(facts)
    try:
        scaling = facts.get("scaling") or (settings and settings.model_dump(include={"scale", "mean", "std"}))
        task, labels = str(facts.get("task", TASKS[0])), facts.get("classes")
        if not scaling or labels is None or task not in TASKS:
            lacking = "its inputs" if not scaling else "its classes"
            got = f"no metadata about {lacking}" if facts else "no metadata about its data"
            raise ReszooError(where, got=got, expected=expected, hint=SAVE)
        scale = Scaling(float(scaling["scale"]), tuple(map(float, scaling["mean"])), tuple(map(float, scaling["std"])))
        return Metadata(
            classes=tuple(words(labels) or ()),
            scaling=scale,
            data=str(facts.get("data", facts.get("record", ""))),
            seed=int(facts.get("seed", 0)),
            task=task,
            white=_white(facts, scale),
            digest=str(facts.get("digest", "")),
            size=facts.get("size") or (settings.crop if settings else None),
            columns=Columns.from_dict(facts["columns"]) if facts.get("columns") else None,
        )
    except (AttributeError, KeyError, ValueError, TypeError) as error:
        if isinstance(error, ReszooError):
            raise
        raise ReszooError(where, got=f"unreadable metadata ({error})", expected=expected, hint=SAVE) from None


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


def check_columns(data: Data, columns: Columns | None) -> str:
    """Returns a note if the columns of a table are taken in their order, because those of a network are unknown.

    Raises:
        ReszooError: the features of the table are not those that the network was trained on.
    """
    if data.columns is None:
        return ""
    if columns is None:
        return "the network's file names no columns: those of this table are taken in their order"
    if not data.columns.same_features(columns):
        hint = "give the file itself, or the result of open_data(..., columns=...) with the columns of training"
        raise ReszooError(
            data.name, got="a table with an encoding of its own", expected="the columns of training", hint=hint
        )
    return ""


def warn_of(notes: Iterable[str], name: str) -> None:
    """Warns of what is odd about data."""
    for note in notes:
        warnings.warn(f"{name}: {note}", DataWarning, stacklevel=3)


def _white(facts: Mapping[str, Any], scaling: Scaling) -> float | None:
    """The range of the training; files of the version before do not name it, and published weights take 0 to 255."""
    if "white" in facts:
        return None if facts["white"] is None else float(facts["white"])
    if "scaling" not in facts:
        return 255.0
    if scaling.scale != 1:
        return scaling.scale
    if max(scaling.mean) > 1:
        return 255.0
    in_unit_range = all(0 <= mean <= 1 for mean in scaling.mean) and all(std <= 0.5 for std in scaling.std)
    return 1.0 if in_unit_range else None


def scaling_for(weights: Record | Preprocessing, data: Data) -> Scaling:
    """Returns the scaling that published weights expect, for the value range of these data.

    Raises:
        ReszooError: the weights take images with other channels, or the range of the data is unclear.
    """
    settings, name = (weights.preprocessing, weights.name) if isinstance(weights, Record) else (weights, "weights")
    if settings.channels == "bgr" or data.shape[-1] != len(settings.mean):
        got = f"weights for {settings.channels} images, and images with {data.shape[-1]} channels"
        expected = "weights for rgb with 3 channels, or gray with 1"
        raise ReszooError(name, got=got, expected=expected)
    scaling = Scaling(settings.scale, settings.mean, settings.std)
    return scaling_for_range(scaling, 255.0, range_of(data), where=f"{name} on {data.name}").scaling


def scaling_of_weights(facts: Mapping[str, Any], data: Data, /) -> Scaling:
    """Returns the scaling of the weights that a run starts from, for the range of its data; else that of the data.

    Args:
        facts: of the weights (`reszoo.weights.origin.Origin`).
        data: of the new run.
    """
    settings = preprocessing_in(facts)
    if len(data.shape) == 3 and settings is not None and ("record" in facts or len(settings.mean) == data.shape[-1]):
        return scaling_for(settings, data)
    # Columns of a table, and values that are no pixels, are taken as they are.
    scaling = facts.get("scaling") or {"mean": ()}
    if len(scaling["mean"]) != len(data.scaling.mean):
        return data.scaling
    return Scaling(scaling["scale"], tuple(scaling["mean"]), tuple(scaling["std"]))
