"""Folders of image files."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from reszoo.errors import ReszooError
from reszoo.types import Array

CACHE_BYTES = 1 << 30
"""Limit of the cache of decoded images."""

FULL_CHECK = 20_000
"""Up to this many files are decoded once before training starts; in larger folders only the headers are checked."""

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "PPM", "MPO")
"""Without GIF: among photographs a GIF is a button, an animation, or a server's placeholder."""


class FolderIndex(NamedTuple):
    """The image files of a folder."""

    paths: tuple[Path, ...]
    labels: Array
    classes: tuple[str, ...]
    notes: tuple[str, ...]
    """Skipped files, and classes without images."""

    def __repr__(self) -> str:
        return f"FolderIndex({len(self.paths):,} images, {len(self.classes)} classes, {len(self.notes)} notes)"


def index_folder(folder: Path, classes: Sequence[str] | None = None) -> FolderIndex:
    """Returns the images in a folder of class folders; unreadable files are skipped and noted.

    Args:
        folder: holds one folder per class.
        classes: the expected classes, in order; by default the folders' names, sorted.

    Raises:
        ReszooError: fewer than two classes, a class that is not in `classes`, or no readable image.
    """
    import numpy as np

    try:
        present = [path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    except OSError as error:
        raise ReszooError(str(folder), got=f"an unreadable folder ({error.strerror})") from None
    if classes is None and len(present) < 2:
        got = f"{len(present)} folders in it"
        raise ReszooError(str(folder), got=got, expected="a folder for every class, at least two")
    unknown = [name for name in sorted(present) if classes is not None and name not in classes]
    if unknown:
        raise ReszooError(str(folder), got=f"class {unknown[0]!r}", expected=", ".join(classes or ()))
    classes = tuple(classes or sorted(present))
    pairs = [(path, index) for index, name in enumerate(classes) for path in _files(folder / name)]
    with ThreadPoolExecutor() as pool:
        problems = list(pool.map(lambda pair: _problem(pair[0], decode=len(pairs) <= FULL_CHECK), pairs))
    good = [pair for pair, problem in zip(pairs, problems, strict=True) if not problem]
    skipped = [f"skipped {path}: {problem}" for (path, _), problem in zip(pairs, problems, strict=True) if problem]
    labels = np.array([index for _, index in good], "int64")
    empty = [f"no image of {name} in {folder}" for index, name in enumerate(classes) if index not in labels]
    if not good:
        raise ReszooError(str(folder), got="no readable image", expected=", ".join(FORMATS))
    return FolderIndex(tuple(path for path, _ in good), labels, classes, (*skipped, *empty))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))


def is_image(path: Path) -> bool:
    """Returns whether a file is a readable image."""
    return not _problem(path, decode=False)


def _problem(path: Path, *, decode: bool) -> str:
    from PIL import Image

    try:
        with Image.open(path) as image:
            if image.format not in FORMATS:
                return f"{image.format} is not a supported photo format ({', '.join(FORMATS)})"
            image.draft("RGB", (64, 64))
            (image.load if decode else image.verify)()
    except Exception as error:
        # Pillow's readers raise anything on a damaged file.
        return "not an image" if type(error).__name__ == "UnidentifiedImageError" else f"damaged ({error})"
    return ""


@dataclass(frozen=True)
class ImageFiles:
    """Image files, decoded when they are taken; the first ones stay in a cache."""

    paths: tuple[Path, ...]
    labels: Array
    size: int
    """Side of the square that images are resized to, in pixels."""
    _cache: dict[int, Any] = field(default_factory=dict, compare=False, repr=False)

    def __repr__(self) -> str:
        return f"ImageFiles({len(self):,} images, size={self.size})"

    def __len__(self) -> int:
        return len(self.paths)

    def subset(self, indices: Any) -> ImageFiles:
        """Returns the images at these indices as a new source."""
        return ImageFiles(tuple(self.paths[i] for i in indices), self.labels[indices], self.size)

    def take(self, indices: Any, boxes: Any = None) -> Array:
        """Returns images as `(n, size, size, 3)`, values 0 to 255.

        Args:
            indices: of the images.
            boxes: one crop for every image, as fractions of its sides `(left, top, right, bottom)`; by default the
                central square, seven eighths of the shorter side (resize 256, crop 224).
        """
        import numpy as np

        crops = [None] * len(indices) if boxes is None else boxes
        return np.stack([self._crop(int(i), box) for i, box in zip(indices, crops, strict=True)])

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
            with Image.open(path) as file:
                file.draft("RGB", (2 * self.size, 2 * self.size))
                image = file.convert("RGB")
        except Exception as error:
            raise ReszooError(str(path), got=f"an unreadable image ({error})") from None
        scale = 2 * self.size / min(image.size)
        if scale < 1:
            image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
        return image
