"""New examples without labels: image files, folders, lists of files, arrays. One bad file ends nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from reszoo.data.image_folder import ImageFiles, is_passed_over, list_files
from reszoo.data.pictures import FORMATS, Channels, dark_note, problem
from reszoo.data.ranges import FILES, Range, value_range
from reszoo.data.table import read_rows
from reszoo.data.table_files import is_table
from reszoo.errors import ReszooError
from reszoo.training.network import Network
from reszoo.types import Array

NewSource: TypeAlias = str | Path | Sequence[str | Path] | Array
"""An image, a folder, a table, a `.npz`, `.npy` or `.txt` list of files, several images or folders, or an array."""
EXPECTED = (
    f"an image, a folder of images ({', '.join(FORMATS)}), a .txt list of files, a table, a .npz or .npy, an array"
)


class LeftOut(NamedTuple):
    """A file that was not predicted."""

    example: str
    reason: str


@dataclass(frozen=True)
class NewExamples:
    """Examples that are read batch by batch."""

    count: int
    """Including files that turn out to be unreadable."""
    values: Range
    """The range of their values."""
    notes: tuple[str, ...]
    """Missing values and other oddities of a table; pictures that are nearly black."""
    batches: Callable[[int, list[LeftOut]], Iterator[tuple[list[str], Array]]]
    """Yields names and examples, for a number of examples per batch; adds unreadable files to the list."""

    def __repr__(self) -> str:
        return f"NewExamples({self.count:,} examples, values from {self.values.low:.3g} to {self.values.high:.3g})"


def open_new(source: NewSource, network: Network, /, *, size: int | None) -> NewExamples:
    """Returns new examples in the form that a network takes.

    Args:
        source: see `NewSource`.
        network: the network.
        size: side of the images in pixels.

    Raises:
        ReszooError: there is no such file, or nothing in it is of a known kind.
    """
    if is_table(source):
        return _table(source, network)
    left_out: list[LeftOut] = []
    if isinstance(source, (str, Path)):
        path = _existing(source)
        if path.suffix in (".npz", ".npy") and path.is_file():
            return _arrays(_read_array(path), network, size, where=str(path))
        return _files(_paths(path, left_out), left_out, network, size, where=str(source))
    if isinstance(source, (list, tuple)) and source and all(isinstance(each, (str, Path)) for each in source):
        paths = [path for each in source for path in _paths(_existing(each), left_out)]
        return _files(paths, left_out, network, size, where="predict")
    return _arrays(source, network, size, where="predict")


def _table(source: Any, network: Network) -> NewExamples:
    """Rows of a table, encoded by the columns of the training, which are found by name."""
    if network.takes_images:
        raise ReszooError("predict", got="a table", expected="images, as in training")
    rows = read_rows(source, network.metadata.columns)

    def batches(batch: int, left_out: list[LeftOut]) -> Iterator[tuple[list[str], Array]]:
        for start in range(0, len(rows.x), batch):
            yield [*rows.names[start : start + batch]], rows.x[start : start + batch]

    return NewExamples(len(rows.x), Range(0.0, 0.0, None), rows.notes, batches)


def check_source(source: Any, /) -> None:
    """Checks that the files of a source exist.

    Raises:
        ReszooError: one does not.
    """
    for each in source if isinstance(source, (list, tuple)) else [source]:
        if isinstance(each, (str, Path)):
            _existing(each)


def _existing(source: str | Path) -> Path:
    path = Path(source).expanduser()
    if not str(source) or not path.exists():
        raise ReszooError(str(source) or "predict", got="no such file or folder", expected=EXPECTED)
    return path


def _paths(path: Path, left_out: list[LeftOut]) -> list[Path]:
    """The files of a source; what is left out of a folder is added to the list."""
    if path.suffix == ".txt" and path.is_file():
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ReszooError(str(path), got=f"an unreadable list ({error})", expected="a path on every line") from None
        return [path.parent / Path(line.strip()).expanduser() for line in lines if line.strip()]
    if not path.is_dir():
        return [path]
    listing = list_files(path)
    left_out += [
        LeftOut(str(each.path), each.reason) for each in listing.left_out if not is_passed_over(each.path.name)
    ]
    return [*listing.files]


def _files(paths: list[Path], before: list[LeftOut], network: Network, size: int | None, *, where: str) -> NewExamples:
    import numpy as np

    if not network.takes_images:
        raise ReszooError(where, got="images", expected=f"rows of shape {network.shape}: a .npz, a .npy or an array")
    if not paths and not before:
        raise ReszooError(where, got="no file", expected=EXPECTED)
    channels: Channels = "gray" if network.shape[-1] == 1 else "rgb"
    images = ImageFiles(tuple(paths), np.zeros(len(paths), int), size or 224, channels)

    def read(index: int) -> Array | str:
        return _reason(paths[index]) or _taken(images, index)

    def batches(batch: int, left_out: list[LeftOut]) -> Iterator[tuple[list[str], Array]]:
        left_out += before
        with ThreadPoolExecutor() as pool:
            for start in range(0, len(paths), batch):
                part = range(start, min(start + batch, len(paths)))
                pairs = list(zip((str(paths[index]) for index in part), pool.map(read, part), strict=True))
                left_out += [LeftOut(name, image) for name, image in pairs if isinstance(image, str)]
                good = [(name, image) for name, image in pairs if not isinstance(image, str)]
                if good:
                    yield [name for name, _ in good], np.stack([image for _, image in good])

    return NewExamples(len(paths), FILES, tuple(filter(None, [dark_note(paths)])), batches)


def _taken(images: ImageFiles, index: int) -> Array | str:
    try:
        image: Array = images.take([index])[0]
    except ReszooError as error:
        return str(error.got)
    return image


def _reason(path: Path) -> str:
    """Why a file is no image that can be predicted, or an empty string."""
    if not path.is_file():
        return "a link that leads nowhere" if path.is_symlink() else "no such file"
    return problem(path, thorough=False)


def _read_array(path: Path) -> Array:
    import numpy as np

    try:
        content = np.load(path, allow_pickle=False)
        if path.suffix == ".npy":
            return content
        with content as arrays:
            if "x" not in arrays.files:
                got = f"arrays {', '.join(arrays.files)}, no array x"
                raise ReszooError(str(path), got=got, expected="x of (examples, ...)")
            x: Array = arrays["x"]
            return x
    except (OSError, ValueError, EOFError, KeyError) as error:
        if isinstance(error, ReszooError):
            raise
        got = f"a file that is not {path.suffix} ({error})"
        raise ReszooError(str(path), got=got, expected="an array x") from None


def _arrays(source: Any, network: Network, size: int | None, *, where: str) -> NewExamples:
    import numpy as np

    expected = f"an array of (examples, {', '.join('any' if side is None else str(side) for side in network.shape)})"
    try:
        x = source.detach().cpu().numpy() if hasattr(source, "detach") else np.asarray(source)
    except (TypeError, ValueError) as error:
        raise ReszooError(where, got=f"{type(source).__name__} ({error})", expected=EXPECTED) from None
    if x.dtype.kind not in "fiub":
        raise ReszooError(where, got=f"values of type {x.dtype}", expected=f"{expected}, or paths")
    x = _with_axes(x, network)
    if x.ndim != len(network.shape) + 1 or not len(x):
        raise ReszooError(where, got=f"an array of shape {np.shape(source)}", expected=expected)
    if x.dtype.kind == "f" and not np.abs(x).max() <= np.finfo("float32").max:
        raise ReszooError(where, got="x with NaN, infinity or larger numbers", expected="numbers, at most 3.4e+38")
    if network.takes_images and x.shape[-1] not in (1, 3, network.shape[-1]):
        hint = "x.transpose(0, 2, 3, 1)" if x.shape[1] in (1, 3) else ""
        raise ReszooError(where, got=f"an array of shape {x.shape}", expected=expected, hint=hint)
    values = value_range(x) if network.takes_images else Range(0.0, 0.0, None)
    converted = network.takes_images and x.shape[-1] != network.shape[-1]
    notes = (f"images of {x.shape[-1]} channels were converted to {network.shape[-1]}",) if converted else ()

    def batches(batch: int, left_out: list[LeftOut]) -> Iterator[tuple[list[str], Array]]:
        from reszoo.data.arrays import Arrays

        images = Arrays(x, np.zeros(len(x), int), size if x.ndim == 4 else None)
        for start in range(0, len(x), batch):
            indices = range(start, min(start + batch, len(x)))
            yield [str(index) for index in indices], images.take(np.arange(start, indices.stop))

    return NewExamples(len(x), values, notes, batches)


def _with_axes(x: Array, network: Network) -> Array:
    """An array with an axis for the examples, and one for the channels of gray images."""
    shape = network.shape
    if len(shape) == 1 and x.ndim == 1 and shape[0] in (None, len(x)):
        return x[None]
    if len(shape) == 3 and x.ndim == 2:
        return x[None, :, :, None]
    if len(shape) == 3 and x.ndim == 3:
        one = x.shape[-1] in (1, 3) and all(side in (None, actual) for side, actual in zip(shape, x.shape, strict=True))
        return x[None] if one else x[..., None]
    return x
