"""The files of a folder, and which of them are left out and why."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from reszoo.data.pictures import problem

SYSTEM_FOLDERS = frozenset({"__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"})
"""What systems leave beside people's folders, in lower case."""

OUTPUTS = ("run.json", "study.db")
"""Files of a run folder and of that of a study."""

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
    """Returns whether a folder is that of a run or of a study, which may be written beside class folders."""
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


def list_pictures(folder: Path) -> Listing:
    """Returns the pictures in a folder and in the folders in it; everything else is left out with its reason."""
    listing = list_files(folder)
    pictures = readable(listing.files)
    return Listing(pictures.files, (*listing.left_out, *pictures.left_out))
