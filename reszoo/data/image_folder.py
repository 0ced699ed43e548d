"""Folders of image files: which files are pictures, which are left out and why, and reading them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from reszoo.data.labels import plain
from reszoo.data.pictures import FORMATS as FORMATS, Channels, dark_note, decode, problem
from reszoo.data.table_files import is_table_file
from reszoo.errors import ReszooError, nearest
from reszoo.types import Array

SYSTEM_FOLDERS = frozenset({"__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"})
"""What systems leave beside people's folders, in lower case."""

OUTPUTS = ("run.json", "study.db", "evaluation.json")
"""Files of a run folder, of that of a study, and of the page of an evaluation."""
OUTPUT = "the folder of a run, a study or an evaluation"

FULL_CHECK = 20_000
"""Up to this many files are decoded once before training starts; in larger folders only the headers are checked."""


class LeftOut(NamedTuple):
    """A file or folder that is not read."""

    path: Path
    reason: str

    def __repr__(self) -> str:
        return f"LeftOut({str(self.path)[-60:]!r}: {self.reason[:60]})"

    def __str__(self) -> str:
        return f"skipped {printable(self.path)}: {self.reason}"


class Listing(NamedTuple):
    """Files, and what was left out beside them."""

    files: tuple[Path, ...]
    left_out: tuple[LeftOut, ...]

    def __repr__(self) -> str:
        return f"Listing({len(self.files):,} files, {len(self.left_out):,} left out)"


def printable(path: str | Path) -> str:
    """Returns a path as text that every console takes: names that are no UTF-8 have question marks in them."""
    return str(path).encode("utf-8", "replace").decode("utf-8")


def is_passed_over(name: str) -> bool:
    """Returns whether a name is hidden (a leading dot) or one of the folders that systems make."""
    return name.startswith(".") or name.lower() in SYSTEM_FOLDERS


def is_output(folder: Path) -> bool:
    """Returns whether a folder is that of a run, of a study or of an evaluation, or holds nothing but such folders.

    They may be written beside class folders, and into them; their pictures are no examples.
    """
    if _has_outputs(folder):
        return True
    try:
        inside = [name for name in os.listdir(folder) if not is_passed_over(name)]
    except OSError:
        return False
    return bool(inside) and all(_has_outputs(folder / name) for name in inside)


def _has_outputs(folder: Path) -> bool:
    return any((folder / name).is_file() for name in OUTPUTS)


def list_files(folder: Path) -> Listing:
    """Returns all files in a folder and in the folders in it, sorted; links are followed.

    Hidden files and folders, and those of systems (`__MACOSX`), are passed over. Links that lead nowhere or back to
    a folder above them, and unreadable folders, are left out with their reason.
    """
    left_out: list[LeftOut] = []
    start, target = Path(os.path.abspath(folder)), Path(os.path.realpath(folder))
    # A folder that is a link is below two folders.
    above = {os.path.realpath(path) for path in (*start.parents, *target.parents)}
    files = sorted(_walk(folder, tuple(above), left_out))
    return Listing(tuple(files), tuple(sorted(left_out)))


def _walk(folder: Path, above: tuple[str, ...], left_out: list[LeftOut]) -> Iterator[Path]:
    here = os.path.realpath(folder)
    if here in above:
        left_out.append(LeftOut(folder, "a link back to a folder above it"))
        return
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        left_out.append(LeftOut(folder, f"an unreadable folder ({error.strerror})"))
        return
    for entry in entries:
        path = Path(entry.path)
        try:
            if is_passed_over(entry.name):
                if entry.is_dir():
                    left_out.append(LeftOut(path, "a hidden folder, or one of the system"))
            elif entry.is_dir() and is_output(path):
                left_out.append(LeftOut(path, OUTPUT))
            elif entry.is_dir():
                yield from _walk(path, (*above, here), left_out)
            elif entry.is_file():
                yield path
            else:
                reason = "a link that leads nowhere" if entry.is_symlink() else "not a regular file"
                left_out.append(LeftOut(path, reason))
        except OSError as error:
            left_out.append(LeftOut(path, f"unreadable ({error.strerror})"))


def readable(files: Sequence[Path]) -> Listing:
    """Returns the files that are pictures; the others are left out with their reason."""
    with ThreadPoolExecutor() as pool:
        problems = list(pool.map(lambda path: problem(path, thorough=len(files) <= FULL_CHECK), files))
    pairs = list(zip(files, problems, strict=True))
    left_out = tuple(LeftOut(path, reason) for path, reason in pairs if reason)
    return Listing(tuple(path for path, reason in pairs if not reason), left_out)


CACHE_BYTES = 1 << 30
"""Limit of the cache of decoded images."""


class FolderIndex(NamedTuple):
    """The image files of a folder."""

    paths: tuple[Path, ...]
    labels: Array
    classes: tuple[str, ...]
    left_out: tuple[LeftOut, ...]
    """Files and folders that are not read."""
    notes: tuple[str, ...]
    """Classes without images, and pictures that are nearly black."""

    def __repr__(self) -> str:
        return f"FolderIndex({len(self.paths):,} images, {len(self.classes)} classes, {len(self.left_out)} left out)"


def index_folder(folder: Path, classes: Sequence[str] | None = None) -> FolderIndex:
    """Returns the images in a folder of class folders; unreadable files are left out with their reason.

    Args:
        folder: holds one folder per class.
        classes: the expected classes, in order; by default the folders' names, sorted.

    Raises:
        ReszooError: fewer than two classes, a class that is not in `classes`, or no readable image.
    """
    import numpy as np

    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise ReszooError(str(folder), got=f"an unreadable folder ({error.strerror})") from None
    present: dict[str, Path] = {}
    for path in entries:
        if not path.is_dir() or _beside(path):
            continue
        # Archives of macOS decompose letters with accents.
        name = plain(printable(path.name))
        if name in present:
            got, hint = f"two folders of the class {name!r}", "rename one of them, or join them"
            raise ReszooError(str(folder), got=got, expected="one folder for every class", hint=hint)
        present[name] = path
    if classes is None and len(present) < 2:
        tables = [path for path in entries if is_table_file(path)]
        hint = f"a table: {tables[0]}" if tables else "" if present else "pictures without classes: predict"
        got = f"{len(present)} folders in it"
        raise ReszooError(str(folder), got=got, expected="a folder for every class, at least two", hint=hint)
    unknown = [name for name in present if classes is not None and name not in classes]
    if unknown:
        got, hint = f"class {unknown[0]!r}", nearest(unknown[0], classes or ())
        raise ReszooError(str(folder), got=got, expected=", ".join(classes or ()), hint=hint)
    left_out = [LeftOut(path, _beside(path)) for path in entries if _beside(path)]
    classes = tuple(classes or present)
    listings = [list_files(present[name]) for name in classes if name in present]
    numbers = [index for index, name in enumerate(classes) if name in present]
    labels = {path: index for index, listing in zip(numbers, listings, strict=True) for path in listing.files}
    pictures = readable([*labels])
    left_out += [item for listing in listings for item in listing.left_out]
    indices = np.array([labels[path] for path in pictures.files], "int64")
    empty = [f"no image of {name} in {folder}" for index, name in enumerate(classes) if index not in indices]
    if not pictures.files:
        first = next((f": {item.path.name}: {item.reason}" for item in (*pictures.left_out, *left_out)), "")
        raise ReszooError(str(folder), got=f"no readable image{first}", expected=", ".join(FORMATS))
    notes = [*empty, *(f"{folder}: {note}" for note in [dark_note(pictures.files)] if note)]
    return FolderIndex(pictures.files, indices, classes, (*left_out, *pictures.left_out), tuple(notes))


def _beside(path: Path) -> str:
    """Why something beside the class folders is not read; hidden files are not worth a word."""
    if path.is_dir():
        passed_over = "a hidden folder, or one of the system" if is_passed_over(path.name) else ""
        return passed_over or (OUTPUT if is_output(path) else "")
    if is_passed_over(path.name):
        return ""
    return "in no class folder" if path.exists() else "a link that leads nowhere"


@dataclass(frozen=True)
class ImageFiles:
    """Image files, decoded when they are taken; the first ones stay in a cache."""

    paths: tuple[Path, ...]
    labels: Array
    size: int
    """Side of the square that images are resized to, in pixels."""
    channels: Channels = "rgb"
    white: float = 255.0
    """Value of white in what is taken; other values than 255 are floats."""
    _cache: dict[int, Any] = field(default_factory=dict, compare=False, repr=False)

    def __repr__(self) -> str:
        return f"ImageFiles({len(self):,} images, size={self.size}, {self.channels})"

    def __len__(self) -> int:
        return len(self.paths)

    def subset(self, indices: Any) -> ImageFiles:
        """Returns the images at these indices as a new source."""
        return replace(self, paths=tuple(self.paths[i] for i in indices), labels=self.labels[indices], _cache={})

    def take(self, indices: Any, boxes: Any = None) -> Array:
        """Returns images as `(n, size, size, 3)`, or 1 channel for gray; values from 0 to `white`.

        Args:
            indices: of the images.
            boxes: one crop for every image, as fractions of its sides `(left, top, right, bottom)`; by default the
                central square, seven eighths of the shorter side (resize 256, crop 224).
        """
        import numpy as np

        crops = [None] * len(indices) if boxes is None else boxes
        images = np.stack([self._crop(int(i), box) for i, box in zip(indices, crops, strict=True)])
        images = images[..., None] if self.channels == "gray" else images
        return images if self.white == 255 else images.astype("float32") * np.float32(self.white / 255)

    def _crop(self, index: int, box: Any) -> Array:
        import numpy as np
        from PIL import Image

        image = self._cache.get(index)
        if image is None:
            image = self._decode(self.paths[index])
            if len(self._cache) * 4 * self.size**2 * 3 < CACHE_BYTES:
                self._cache[index] = image
        width, height = image.size
        if box is None:
            side = min(width, height) * 0.875
            left, top = (width - side) / 2, (height - side) / 2
            corners = (left, top, left + side, top + side)
        else:
            corners = (box[0] * width, box[1] * height, box[2] * width, box[3] * height)
        return np.asarray(image.resize((self.size, self.size), Image.Resampling.BILINEAR, box=corners))

    def _decode(self, path: Path) -> Any:
        """An image whose shorter side is at most twice the target: JPEG decodes faster at reduced size."""
        from PIL import Image

        try:
            image = decode(path, channels=self.channels, side=2 * self.size)
        except Exception as error:
            got = "no such file" if isinstance(error, FileNotFoundError) else f"an unreadable image ({error})"
            raise ReszooError(str(path), got=got) from None
        scale = 2 * self.size / min(image.size)
        if scale < 1:
            sides = (max(round(image.width * scale), 1), max(round(image.height * scale), 1))
            image = image.resize(sides, Image.Resampling.BILINEAR)
        return image
