"""Parts of a data source: folders for training, validation and test; further parts become like the training part."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from reszoo.data.arrays import Arrays
from reszoo.data.dataset import Data
from reszoo.data.examples import Examples
from reszoo.data.image_folder import LeftOut, is_output, is_passed_over
from reszoo.data.labels import Task
from reszoo.errors import ReszooError, nearest
from reszoo.types import Array

Part: TypeAlias = Literal["train", "validation", "test"]
WORDS: dict[str, Part] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}

SUFFIXES = (
    *(".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"),
    *(".pbm", ".mpo", ".avif", ".jp2", ".heic", ".heif", ".gif"),
)
"""Of files that are pictures by their names."""


PICTURES = {"images", "image", "img", "imgs", "pictures", "photos", "jpegimages"}
MASKS = {"masks", "mask", "labels", "label", "annotations", "annots", "gt", "ground_truth", "segmentationclass"}
"""Names of folders for detection and segmentation, which are no classes."""


class Layout(NamedTuple):
    """The parts of a folder of pictures; without parts, the folder itself is for training."""

    parts: dict[Part, Path]
    notes: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()

    def __repr__(self) -> str:
        return f"Layout({', '.join(f'{part} in {path.name}' for part, path in self.parts.items())})"


class _Contents(NamedTuple):
    folders: tuple[str, ...]
    files: tuple[str, ...]

    @property
    def pictures(self) -> bool:
        return any(Path(name).suffix.lower() in SUFFIXES for name in self.files)


def part_of(name: str) -> Part | None:
    """Returns the part that a folder's name means: `Training`, `val`, `TEST_SET`; None for other names.

    Example:
        >>> from reszoo.data.parts import part_of
        >>> part_of("Valid"), part_of("train_set"), part_of("trains")
        ('validation', 'train', None)
    """
    return WORDS.get(re.sub(r"[ _-]?(set|data|split|images)$", "", name.strip().lower()))


def _loose_part_of(name: str) -> Part | None:
    """The part of a name that begins or ends with its word: `seg_train`, `test2017`."""
    words = re.findall(r"[^\W\d_]+", name.lower())
    return (part_of(words[0]) or part_of(words[-1])) if words else None


def layout(folder: Path) -> Layout:
    """Returns which folders are the parts of a folder of pictures, and what looks odd about them.

    A part is a folder of class folders; a folder named `test` that holds pictures is a class. A folder that holds
    nothing but one folder with folders in it is read as that one.

    Raises:
        ReszooError: the folder cannot be read, has two folders for one part, or has parts but none for training.
    """
    contents = _contents(folder)
    inner = _only_folder(folder, contents)
    if inner is not None:
        result = layout(inner)
        return result._replace(notes=(f"{inner} is read: nothing else is in {folder}", *result.notes))
    inside = {name: _contents(folder / name) for name in contents.folders}
    nested = {name for name, inner in inside.items() if inner.folders and not inner.pictures}
    # Beside annotations, for example.
    full = [name for name, item in inside.items() if item.pictures or item.folders]
    if len(full) > 1 and all(map(_loose_part_of, full)) and not any(item.folders for item in inside.values()):
        got = f"{', '.join(full)}, without class folders in them"
        hint = "pictures without classes: predict"
        raise ReszooError(str(folder), got=got, expected="a folder for every class in each of them", hint=hint)
    alike = len({contents.folders for contents in inside.values()}) == 1 and nested == set(inside)
    loose = alike and all(map(_loose_part_of, inside)) and not any(map(part_of, inside))
    parts: dict[Part, Path] = {}
    for name in contents.folders:
        part = _loose_part_of(name) if loose else part_of(name)
        # Beside other parts, a few pictures in no class folder do not make a part a class.
        beside_parts = len(inside[name].folders) > 1 and any(map(part_of, nested - {name}))
        if part is None or not (name in nested or beside_parts):
            continue
        if part in parts:
            got = f"two folders for {part}: {parts[part].name}, {name}"
            raise ReszooError(str(folder), got=got, expected="one folder for every part")
        parts[part] = folder / name
    others = [name for name in contents.folders if name not in {path.name for path in parts.values()}]
    if not parts or _are_classes(parts, others, inside):
        return Layout({"train": folder}, _doubts(folder, inside, nested))
    if "train" not in parts:
        got = f"parts {', '.join(path.name for path in parts.values())}"
        raise ReszooError(str(folder), got=got, expected="a part for training as well: train/ with class folders")
    reason = "beside train, and no part of class folders; for pictures without classes: predict"
    left_out = [LeftOut(folder / name, reason) for name in others]
    left_out += [LeftOut(folder / name, "beside the parts") for name in contents.files]
    deeper = {part: _only_folder(path, _contents(path)) for part, path in parts.items()}
    notes = tuple(f"{path} is read: nothing else is in {path.parent}" for path in deeper.values() if path)
    return Layout({part: deeper[part] or path for part, path in parts.items()}, notes, tuple(left_out))


def _only_folder(folder: Path, contents: _Contents) -> Path | None:
    """The first folder with several folders in it, if nothing else is above it: an archive unpacked into its name."""
    start = folder
    while len(contents.folders) == 1 and not contents.pictures:
        folder = folder / contents.folders[0]
        contents = _contents(folder)
    return folder if folder != start and len(contents.folders) > 1 else None


def _are_classes(parts: dict[Part, Path], others: list[str], inside: dict[str, _Contents]) -> bool:
    """Whether folders with the names of parts are classes, since they stand beside other classes."""
    words = [name for name in others if part_of(name) is None]
    if len(parts) > 1 or not words:
        return False
    (path,) = parts.values()
    own = set(inside[path.name].folders)
    alike = any(own & set(inside[name].folders) for name in words)
    return "train" not in parts or len(own) < 2 or alike


def _doubts(folder: Path, inside: dict[str, _Contents], nested: set[str]) -> tuple[str, ...]:
    """Notes about classes that may be meant as parts."""
    notes = []
    words = {name.lower(): name for name in inside}
    if len(inside) == 2 and {*words} & PICTURES and {*words} & MASKS:
        kinds = " and ".join(words.values())
        notes.append(f"{folder}: {kinds} are read as two classes; detection and segmentation are not supported")
    for name in filter(part_of, inside):
        reason = "stands beside other classes" if name in nested else "holds no class folders"
        notes.append(f"{folder / name} {reason}: it is read as a class")
    names = sorted({frozenset(contents.folders) for contents in inside.values()}, key=sorted)
    if len(inside) > 1 and nested == set(inside) and len(names) == 1:
        inner = sorted(names[0])
        if all(part_of(name) for name in inner):
            notes.append(f"all classes hold folders {', '.join(inner)}: they are read together, and split anew")
        elif len(inner) > 1:
            classes = ", ".join(sorted(inside)[:5])
            text = f"{classes} hold nothing but the same folders {', '.join(inner[:5])}: they are read as classes"
            notes.append(f"{text}; parts are named train, validation, test")
    return tuple(notes)


def _contents(folder: Path) -> _Contents:
    """Names of the visible folders and files; `Thumbs.db` and the like do not count."""
    try:
        entries = [entry for entry in os.scandir(folder) if not is_passed_over(entry.name)]
    except OSError as error:
        raise ReszooError(str(folder), got=f"an unreadable folder ({error.strerror})") from None
    # Of a link that leads back to itself, `entry.is_dir()` raises an error.
    folders = {entry.name for entry in entries if os.path.isdir(entry.path) and not is_output(Path(entry.path))}
    files = {entry.name for entry in entries if entry.name.lower() not in ("thumbs.db", "desktop.ini")}
    return _Contents(tuple(sorted(folders)), tuple(sorted(files - folders)))


def with_part(data: Data, part: str, other: Data, /) -> Data:
    """Returns data with all examples of a further source as its validation or test part.

    Args:
        data: the training data.
        part: `validation` or `test`.
        other: the further source, opened without a split.

    Raises:
        ReszooError: other shapes, classes, tasks or values.
    """
    if other.shape != data.shape:
        raise ReszooError(other.name, got=f"examples of shape {other.shape}", expected=str(data.shape))
    labels = match_labels(other.name, other.train.labels, other.classes, data.classes, data.task)
    examples, remarks = _in_range(data, other, replace(other.train, labels=labels))  # type: ignore[type-var]
    notes = [note if str(note).startswith("skipped ") else f"{part} part: {note}" for note in other.notes]
    changes: dict[str, Any] = {
        part: examples,
        "notes": (*data.notes, *notes, *(f"{part} part: {text}" for text in remarks)),
    }
    own = data.own_validation or part == "validation"
    return replace(data, left_out=(*data.left_out, *other.left_out), own_validation=own, **changes)


def match_labels(where: str, labels: Array, names: Sequence[str], classes: Sequence[str], task: Task, /) -> Array:
    """Returns labels in the order of other classes: matched by name.

    Integers, whose classes are named by numbers, are places where no class is named by a number.

    Args:
        where: the source, for messages.
        labels: class indices, or one column per class.
        names: their classes.
        classes: the classes to match.
        task: of both.

    Raises:
        ReszooError: a class that is not among `classes`.
    """
    import numpy as np

    numbered = all(name.isdecimal() for name in names) and not any(_is_number(name) for name in classes)
    if task == "regression" and len(names) == len(classes) and set(names) != set(classes):
        return labels
    if numbered and max(map(int, names)) < len(classes):
        indices = np.array([int(name) for name in names])
    else:
        unknown = [name for name in names if name not in classes]
        if unknown:
            expected = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
            raise ReszooError(where, got=f"class {unknown[0]!r}", expected=expected, hint=nearest(unknown[0], classes))
        indices = np.array([list(classes).index(name) for name in names])
    if task == "classification":
        result: Array = indices[labels]
        return result
    columns = np.zeros((len(labels), len(classes)), labels.dtype)
    columns[:, indices] = labels
    return columns


def _is_number(name: str) -> bool:
    return name.removeprefix("-").isdecimal()


def _in_range(data: Data, other: Data, examples: Examples) -> tuple[Examples, tuple[str, ...]]:
    """Pictures with the training part's value of white."""
    if len(data.shape) != 3 or data.white == other.white or data.white is None:
        return examples, ()
    if other.white is None:
        got = "; ".join(note for note in other.notes if "no range of pixel values" in note) or "no pixel values"
        raise ReszooError(other.name, got=got, expected=f"pixel values, as in training (white is {data.white:g})")
    note = f"white is {other.white:g}, and {data.white:g} in training: converted"
    if isinstance(examples, Arrays):
        factor = data.white / other.white
        return replace(examples, x=(examples.x * factor).astype("float32")), (note,)
    return replace(examples, white=data.white), (note,)  # type: ignore[type-var]
