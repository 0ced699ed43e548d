"""Zip archives from strangers."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path, PurePosixPath

from reszoo.weights.tensors import BrokenFileError


def checked_zip(path: Path) -> zipfile.ZipFile:
    """Returns an archive whose names and sizes can be trusted: nothing compressed, encrypted, twice or elsewhere.

    Raises:
        BrokenFileError: naming the member that is wrong.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError) as error:
        raise BrokenFileError(path, f"a damaged or truncated zip archive ({error})") from None
    seen: set[str] = set()
    total = path.stat().st_size
    for member in archive.infolist():
        name = member.filename
        if name in seen:
            raise BrokenFileError(path, f"a zip archive with two members {name!r}")
        seen.add(name)
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or "\\" in member.orig_filename or ":" in pure.parts[0:1]:
            raise BrokenFileError(path, f"a zip archive with the member {name!r}, which leads out of it")
        if member.flag_bits & 1:
            raise BrokenFileError(path, f"an encrypted member {name!r}")
        if member.compress_type != zipfile.ZIP_STORED and member.file_size > 64 * max(member.compress_size, 1024):
            raise BrokenFileError(path, f"member {name!r}, which would unpack to {member.file_size:,} bytes")
    if sum(member.compress_size for member in archive.infolist()) > total:
        raise BrokenFileError(path, f"members larger than the file's {total:,} bytes")
    if sum(member.file_size for member in archive.infolist()) > 64 * total:
        raise BrokenFileError(path, f"members that would unpack to more than 64 times the file's {total:,} bytes")
    return archive


def read_member(path: Path, archive: zipfile.ZipFile, name: str) -> bytes:
    """Returns a member's bytes, its checksum checked.

    Raises:
        BrokenFileError: the member is damaged.
    """
    try:
        return archive.read(name)
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise BrokenFileError(path, f"a damaged member {name!r} ({error})") from None
