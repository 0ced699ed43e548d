"""Folders for training, validation and test, by the names that people give them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from reszoo.data.files import LeftOut, is_output, is_passed_over
from reszoo.errors import ReszooError

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
    if len(inside) > 1 and all(map(_loose_part_of, inside)) and not any(item.folders for item in inside.values()):
        got = f"{', '.join(inside)}, without class folders in them"
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
