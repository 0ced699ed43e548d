"""The place of a file: refused if something is there, and filled at once when the file has passed its check."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from reszoo.deployment.formats import Format
from reszoo.errors import ReszooError


def target_path(path: str | Path, entry: Format, *, overwrite: bool) -> Path:
    """Returns the path of the file, with the format's suffix.

    Args:
        path: as the user wrote it.
        entry: the format.
        overwrite: whether a file of the same format may be there.

    Raises:
        ReszooError: another suffix, or something is there.
    """
    target = Path(path).expanduser()
    if not target.suffix and entry.suffix:
        target = target.with_name(target.name + entry.suffix)
    if entry.suffix and target.suffix != entry.suffix:
        raise ReszooError("deploy.path", got=str(path), expected=f"a name that ends with {entry.suffix}")
    _check_folder(target.parent)
    for file in files_of(target, entry):
        if file.exists() and not overwrite:
            raise ReszooError("deploy.path", got=f"{file}, which exists", expected="a new path", hint="overwrite=True")
        if file.exists() and file.is_dir() != (not entry.suffix):
            raise ReszooError("deploy.path", got=f"{file}, which is no {entry.name}", expected="a new path")
        if file.is_dir() and not (file / "saved_model.pb").is_file():
            got = f"{file}, a folder that is no SavedModel"
            raise ReszooError("deploy.path", got=got, expected="a new path", hint="such folders are not overwritten")
    return target


def _check_folder(folder: Path) -> None:
    """Refuses a folder that cannot be written, or not be made."""
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not existing.is_dir():
        raise ReszooError("deploy.path", got=f"{existing}, which is a file", expected="a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ReszooError("deploy.path", got=f"{existing}, which cannot be written", expected="a folder of yours")


def files_of(path: Path, entry: Format) -> tuple[Path, ...]:
    """Returns the files of a format, those that the first one needs at the end."""
    return (path, path.with_suffix(".bin")) if entry.name == "openvino" else (path,)


def size_of(path: Path, entry: Format) -> int:
    """Returns the bytes of all files of a format."""
    parts = [part for file in files_of(path, entry) for part in (file.rglob("*") if file.is_dir() else [file])]
    return sum(part.stat().st_size for part in parts if part.is_file())


@contextmanager
def moved_into_place(target: Path, entry: Format) -> Iterator[Path]:
    """Yields a path in a temporary folder beside the target; its files are moved there if the block succeeds."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = TemporaryDirectory(dir=target.parent, prefix=".reszoo-")
    except OSError as error:
        got = f"{target.parent}: {error.strerror}"
        raise ReszooError("deploy.path", got=got, expected="a folder that can be written") from None
    with folder as name:
        yield Path(name) / target.name
        pairs = zip(files_of(Path(name) / target.name, entry), files_of(target, entry), strict=True)
        for number, (file, place) in enumerate(reversed([*pairs])):
            if place.is_dir():
                place.rename(Path(name) / f"before{number}")
            os.replace(file, place)
