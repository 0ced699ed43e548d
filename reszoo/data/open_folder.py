"""Opening of folders of pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from reszoo.data.dataset import Data
from reszoo.data.duplicates import copies, digests
from reszoo.data.files import LeftOut
from reszoo.data.image_folder import ImageFiles, index_folder
from reszoo.data.labels import Task
from reszoo.data.parts import layout
from reszoo.data.pictures import Channels
from reszoo.data.ranges import Scaling
from reszoo.data.splits import divide, refuse_own_validation
from reszoo.errors import ReszooError


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
        numbers = [groups(path) for path in train.paths] if groups else None
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
