"""Folders of image files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple
from unicodedata import normalize

from reszoo.data.files import LeftOut, is_output, is_passed_over, list_files, printable, readable
from reszoo.data.pictures import FORMATS as FORMATS, Channels, dark_note, decode, problem
from reszoo.errors import ReszooError, nearest
from reszoo.types import Array

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
    # Archives of macOS decompose letters with accents.
    folders = [path for path in entries if path.is_dir() and not _beside(path)]
    present = {normalize("NFC", printable(path.name)): path for path in folders}
    if classes is None and len(present) < 2:
        got, hint = f"{len(present)} folders in it", "" if present else "pictures without classes: predict"
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
        return passed_over or ("the folder of a run or a study" if is_output(path) else "")
    if is_passed_over(path.name):
        return ""
    return "in no class folder" if path.exists() else "a link that leads nowhere"


def is_image(path: Path) -> bool:
    """Returns whether a file is a readable image."""
    return not problem(path, thorough=False)


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
