"""Folders of image files."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from reszoo.errors import ReszooError

KEPT = 1 << 30
"""Bytes of decoded images that are kept in memory."""

READ_WHOLE = 20_000
"""Up to so many files are decoded once before training begins; of more, only the headers are checked."""


FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "PPM", "MPO")
"""A GIF in a folder of photographs is a button, an animation, or what a server shows in place of a photograph."""


class Found(NamedTuple):
    """The image files of a folder."""

    paths: tuple[Path, ...]
    labels: Any
    classes: tuple[str, ...]
    notes: tuple[str, ...]
    """Files that were left out, and classes without any."""


def found_in(folder: Path, classes: Sequence[str] | None = None) -> Found:
    """Returns the images of a folder of class folders; what is no readable image is named and left out.

    Raises:
        ReszooError: it has fewer than two classes, or classes that the training folder has not.
    """
    import numpy as np

    try:
        own = tuple(sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")))
    except OSError as error:
        raise ReszooError(str(folder), got=f"a folder that cannot be read ({error.strerror})") from None
    if classes is None and len(own) < 2:
        got = f"{len(own)} folders in it"
        raise ReszooError(str(folder), got=got, expected="a folder for every class, at least two")
    strange = [name for name in own if classes is not None and name not in classes]
    if strange:
        raise ReszooError(str(folder), got=f"class {strange[0]!r}", expected=", ".join(classes or ()))
    classes = tuple(classes or own)
    paths = [(path, number) for number, name in enumerate(classes) for path in _files(folder / name)]
    with ThreadPoolExecutor() as pool:
        problems = list(pool.map(lambda pair: _problem(pair[0], whole=len(paths) <= READ_WHOLE), paths))
    good = [pair for pair, problem in zip(paths, problems, strict=True) if not problem]
    bad = [f"left out {path}: {problem}" for (path, _), problem in zip(paths, problems, strict=True) if problem]
    labels = np.array([number for _, number in good], "int64")
    empty = [f"no image of {name} in {folder}" for number, name in enumerate(classes) if number not in labels]
    if not good:
        raise ReszooError(str(folder), got="no readable image", expected=", ".join(FORMATS))
    return Found(tuple(path for path, _ in good), labels, classes, (*bad, *empty))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))


def is_picture(path: Path) -> bool:
    """Returns whether a file is an image that can be read."""
    return not _problem(path, whole=False)


def _problem(path: Path, *, whole: bool) -> str:
    from PIL import Image

    try:
        with Image.open(path) as image:
            if image.format not in FORMATS:
                return f"a {image.format}, which is no format of photographs ({', '.join(FORMATS)})"
            image.draft("RGB", (64, 64))
            (image.load if whole else image.verify)()
    except Exception as error:
        # Pillow's readers raise whatever a damaged file leads them to.
        return "not an image" if type(error).__name__ == "UnidentifiedImageError" else f"damaged ({error})"
    return ""


@dataclass(frozen=True)
class Pictures:
    """Image files, decoded when they are taken; those taken first stay in memory."""

    paths: tuple[Path, ...]
    labels: Any
    size: int
    """Side of the square they are shown in, in pixels."""
    _kept: dict[int, Any] = field(default_factory=dict, compare=False, repr=False)

    def __len__(self) -> int:
        return len(self.paths)

    def only(self, numbers: Any) -> Pictures:
        """Returns the pictures with these numbers."""
        return Pictures(tuple(self.paths[i] for i in numbers), self.labels[numbers], self.size)

    def take(self, numbers: Any, shown: Any = None) -> Any:
        """Returns pictures as `(n, size, size, 3)`, values 0 to 255.

        Args:
            numbers: which.
            shown: for every picture the part to show, as shares of its sides `(left, top, right, bottom)`; by default
                the central square, seven eighths of the shorter side (resize 256, crop 224).
        """
        import numpy as np

        boxes = [None] * len(numbers) if shown is None else shown
        return np.stack([self._shown(int(i), box) for i, box in zip(numbers, boxes, strict=True)])

    def _shown(self, number: int, box: Any) -> Any:
        import numpy as np
        from PIL import Image

        image = self._kept.get(number)
        if image is None:
            image = self._decoded(self.paths[number])
            if len(self._kept) * 4 * self.size**2 * 3 < KEPT:
                self._kept[number] = image
        width, height = image.size
        if box is None:
            side = min(width, height) * 0.875
            left, top = (width - side) / 2, (height - side) / 2
            corners = (left, top, left + side, top + side)
        else:
            corners = (box[0] * width, box[1] * height, box[2] * width, box[3] * height)
        return np.asarray(image.resize((self.size, self.size), Image.Resampling.BILINEAR, box=corners))

    def _decoded(self, path: Path) -> Any:
        """An image whose shorter side is at most twice what is shown: JPEG decodes to that much faster."""
        from PIL import Image

        try:
            with Image.open(path) as file:
                file.draft("RGB", (2 * self.size, 2 * self.size))
                image = file.convert("RGB")
        except Exception as error:
            raise ReszooError(str(path), got=f"an image that cannot be read ({error})") from None
        share = 2 * self.size / min(image.size)
        if share < 1:
            image = image.resize((round(image.width * share), round(image.height * share)), Image.Resampling.BILINEAR)
        return image
