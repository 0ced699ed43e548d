"""Opening of tables, of examples in memory, and of folders of pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from reszoo.data.arrays import Arrays, axes_notes, check_inputs, check_weights, shrink_images, to_channels
from reszoo.data.columns import Columns
from reszoo.data.dataset import Data
from reszoo.data.examples import copies, digests
from reszoo.data.image_folder import ImageFiles, LeftOut, index_folder
from reszoo.data.labels import Task, read_labels
from reszoo.data.memory import check_memory
from reszoo.data.parts import layout
from reszoo.data.pictures import Channels
from reszoo.data.ranges import Range, Scaling, measure, value_range
from reszoo.data.splits import divide, refuse_own_validation, split, strata
from reszoo.data.table import open_table
from reszoo.errors import ReszooError
from reszoo.types import Array


def table_data(
    source: Any,
    *,
    target: str | Sequence[str] | None = None,
    task: Task | None = None,
    columns: Columns | None = None,
    groups: Any = None,
    sample_weight: Any = None,
    size: int | None = None,
    channels: str | None = None,
    **division: Any,
) -> Data:
    """Returns a table, encoded and split; the encoding is learned from the training rows.

    Args:
        source: a file or a data frame (`is_table`).
        target: see `open_table`.
        task: of the target.
        columns: an encoding to use instead of a new one.
        groups: see `open_table`.
        sample_weight: see `open_table`.
        size: of images; a table has none.
        channels: of images; a table has none.
        division: further settings of the split (`divide`).

    Raises:
        ReszooError: rows that no training can use.
    """

    def halves(labels: Array, members: Array | None) -> tuple[Array, Array]:
        result = divide(labels, groups=members, **division)
        return result.rest, result.held

    parts = open_table(source, halves, target=target, task=task, columns=columns, groups=groups, weights=sample_weight)
    return Data(
        name=parts.name,
        train=parts.train,
        validation=parts.validation,
        classes=parts.columns.classes,
        scaling=measure(parts.train.x, 1.0),
        notes=parts.notes,
        task=parts.columns.task,
        columns=parts.columns,
    )


def arrays_data(
    name: str,
    x: Any,
    y: Any,
    *,
    size: int | None = None,
    channels: Channels | None = None,
    task: Task | None = None,
    white: float | None = None,
    values: Range | None = None,
    classes: Sequence[str] | None = None,
    sample_weight: Any = None,
    test: float = 0.0,
    seed: int = 0,
    **division: Any,
) -> Data:
    """Returns examples in memory, checked and split.

    Args:
        name: of the source.
        x: inputs.
        y: labels of any form (`read_labels`).
        size: side of the square that images are resized to, in pixels.
        channels: that images are converted to.
        task: of the labels.
        white: value of white, where it is known; by default the values are judged.
        values: range of the values, where they belong to a larger source.
        classes: names of the classes, where the source has them.
        sample_weight: a weight for every example.
        test: fraction of every class that is held out for testing, before the validation part.
        seed: of the split.
        division: further settings of the split (`divide`).

    Raises:
        ReszooError: examples that no training can use.
    """
    x, labels = check_inputs(name, x), read_labels(name, y, task=task, classes=classes)
    if len(x) != len(labels.values) or not len(x):
        got = f"{len(x)} examples and {len(labels.values)} labels"
        raise ReszooError(name, got=got, expected="equal numbers of both, at least one")
    if isinstance(sample_weight, str) or callable(sample_weight):
        expected = f"for {name}: a number for every example"
        raise ReszooError("sample_weight", got=repr(sample_weight), expected=expected)
    weights = check_weights(name, sample_weight, len(x))
    notes = [*labels.notes, *axes_notes(name, x)]
    notes += [] if weights is None else [f"{name}: sample weights from {weights.min():g} to {weights.max():g}"]
    if white is None and x.ndim == 4:
        values = values or value_range(x)
        white = values.white
        notes += [f"{name}: {values.note}"] if values.note else []
    if channels and x.ndim == 4:
        before, x = x.shape[-1], to_channels(name, x, channels, white)
        notes += [f"{name}: images of {before} channels were converted to {channels}"] if x.shape[-1] != before else []
    remaining = Arrays(shrink_images(x, size), labels.values, size if x.ndim == 4 else None, weights)
    test_part = None
    groups = division.pop("groups", None)
    if callable(groups) or isinstance(groups, str):
        got = "a function" if callable(groups) else repr(groups)
        raise ReszooError("groups", got=got, expected=f"for {name}: a group for every example")
    if test or division["share"] or division.get("folds"):
        check_memory(name, remaining.x.nbytes)
    if test:
        rest, held = split(strata(remaining.labels), test, seed)
        remaining, test_part = remaining.subset(rest), remaining.subset(held)
        groups = groups if groups is None or len(groups) != len(x) else [groups[index] for index in rest]
    equal = copies(digests([remaining])[0]) if x.ndim == 4 and division["share"] else None
    rest, held, remarks = divide(remaining.labels, seed=seed, groups=groups, copies=equal, **division)
    train = remaining.subset(rest)
    scaling, validation = measure(train.x, white or 1.0), remaining.subset(held)
    return Data(
        name=name,
        train=train,
        validation=validation,
        test=test_part,
        classes=labels.classes,
        scaling=scaling,
        notes=(*notes, *remarks),
        task=labels.task,
        white=white,
    )


def folder_data(
    folder: Path,
    *,
    size: int | None,
    channels: Channels | None,
    task: Task | None = None,
    groups: Any = None,
    sample_weight: Any = None,
    **division: Any,
) -> Data:
    """Returns the pictures of a folder of class folders, or of parts with class folders, split.

    Args:
        folder: the folder.
        size: side of the square that pictures are resized to, in pixels; by default 224.
        channels: of the pictures; by default colors.
        task: classification, which is the default.
        sample_weight: None: pictures of a folder count the same.
        groups: a function of the path; pictures of one group stay on one side of the split.
        division: further settings of the split (`divide`).

    Raises:
        ReszooError: a folder that is none of these, or other settings than a folder can have.
    """
    if task not in (None, "classification"):
        raise ReszooError(str(folder), got=f"task={task!r}", expected="classification: one class folder per picture")
    if sample_weight is not None:
        expected, hint = "arrays or a table: pictures of a folder count the same", "class_weights of the recipe"
        raise ReszooError(f"{folder}: sample_weight", got="weights for a folder", expected=expected, hint=hint)
    plan = layout(folder)
    refuse_own_validation(str(folder), own="validation" in plan.parts, groups=groups, folds=division.get("folds"))
    index = index_folder(plan.parts["train"])
    others = {part: index_folder(path, index.classes) for part, path in plan.parts.items() if part != "train"}
    indices = [index, *others.values()]
    left_out: tuple[LeftOut, ...] = (*plan.left_out, *(item for one in indices for item in one.left_out))
    notes = (*map(str, left_out), *plan.notes, *(note for one in indices for note in one.notes))
    train = ImageFiles(index.paths, index.labels, size or 224, channels or "rgb")
    parts = {part: replace(train, paths=one.paths, labels=one.labels, _cache={}) for part, one in others.items()}
    validation = parts.get("validation")
    own = validation is not None
    if validation is None:
        if groups is not None and not callable(groups):
            raise ReszooError("groups", got="an array", expected="for a folder: a function of the path")
        numbers = [_group(groups, path) for path in train.paths] if groups else None
        rest, held, remarks = divide(train.labels, copies=copies(digests([train])[0]), groups=numbers, **division)
        train, validation, notes = train.subset(rest), train.subset(held), (*notes, *remarks)
    # ImageNet's channel statistics; of gray pictures those of its luminance.
    gray = channels == "gray"
    mean, std = ((0.458,), (0.226,)) if gray else ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    return Data(
        name=folder.resolve().name,
        train=train,
        validation=validation,
        test=parts.get("test"),
        classes=index.classes,
        scaling=Scaling(255.0, mean, std),
        notes=notes,
        own_validation=own,
        white=255.0,
        left_out=left_out,
    )


def _group(groups: Callable[[Path], object], path: Path) -> object:
    """The group of a picture, by a function of the user."""
    try:
        return groups(path)
    except Exception as error:
        got = f"{type(error).__name__} for {path} ({error})"
        raise ReszooError("groups", got=got, expected="a function of the path that returns a group") from error
