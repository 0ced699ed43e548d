"""Zip archives: what must hold before `zipfile` may open one of a stranger, and what is added to our own."""

from __future__ import annotations

import io
import re
import stat
import struct
import zipfile
from pathlib import Path, PurePosixPath

from reszoo.weights.formats.checkpoint import BrokenFileError

_RATIO = 64
"""How many times its size in the file a member, or the whole archive, may unpack to."""


class _Stream(io.FileIO):
    """Gives little at a time: a directory of millions of members is cut short, and `zipfile` refuses what is."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(1 << 24 if size is None or size < 0 else min(size, 1 << 24)) or b""

    def __del__(self) -> None:
        self.close()


def checked_zip(path: Path) -> zipfile.ZipFile:
    """Returns an archive whose names and sizes can be trusted: nothing twice, elsewhere, encrypted or blown up.

    Raises:
        BrokenFileError: naming the member that is wrong.
    """
    try:
        archive = zipfile.ZipFile(_Stream(path))
    except Exception as error:
        # A made-up directory leads zipfile to struct.error, UnicodeDecodeError, OverflowError and others.
        raise BrokenFileError(path, f"a damaged or truncated zip archive ({error})") from None
    seen: set[str] = set()
    total, end, unpacked = path.stat().st_size, 0, 0
    for member in sorted(archive.infolist(), key=lambda member: member.header_offset):
        if wrong := _wrong(member, seen):
            raise BrokenFileError(path, f"a zip archive with {wrong}")
        if member.header_offset < end:
            raise BrokenFileError(path, f"a zip archive with the member {member.filename!r}, which overlaps another")
        seen.add(member.filename)
        end = member.header_offset + zipfile.sizeFileHeader + member.compress_size  # type: ignore[attr-defined]
        unpacked += member.file_size
    if end > total or unpacked > _RATIO * total:
        raise BrokenFileError(path, f"a zip archive of {total:,} bytes that promises {max(end, unpacked):,}")
    return archive


def _wrong(member: zipfile.ZipInfo, seen: set[str]) -> str:
    """What speaks against a member, if anything."""
    name, packed = member.filename, member.compress_size
    pure = PurePosixPath(name)
    if name in seen:
        return f"two members {name!r}"
    if pure.is_absolute() or ".." in pure.parts or "\\" in member.orig_filename or re.match("[A-Za-z]:/", name):
        return f"the member {name!r}, which leads out of it"
    if stat.S_ISLNK(member.external_attr >> 16):
        return f"the member {name!r}, which is a link"
    if member.flag_bits & 1:
        return f"the encrypted member {name!r}"
    # The decompressors of the other methods unpack without a limit.
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"the member {name!r}, which is neither stored nor deflated"
    largest = packed if member.compress_type == zipfile.ZIP_STORED else _RATIO * max(packed, 1024)
    return (
        f"the member {name!r}, which would unpack to {member.file_size:,} bytes" if member.file_size > largest else ""
    )


def read_member(path: Path, archive: zipfile.ZipFile, name: str, *, limit: int | None = None) -> bytes:
    """Returns a member's bytes, its checksum checked.

    Raises:
        BrokenFileError: the member is damaged, or longer than `limit`.
    """
    try:
        size = archive.getinfo(name).file_size
        if limit is None or size <= limit:
            return archive.read(name)
    except Exception as error:
        raise BrokenFileError(path, f"a damaged member {name!r} ({error})") from None
    raise BrokenFileError(path, f"the member {name!r} of {size:,} bytes", expected=f"up to {limit:,}")


def stored_member(path: Path, archive: zipfile.ZipFile, name: str) -> tuple[int, int]:
    """Returns where in an archive an uncompressed member's bytes begin and how many they are, its checksum checked.

    Raises:
        BrokenFileError: the member is damaged or compressed.
    """
    member = archive.getinfo(name)
    if member.compress_type != zipfile.ZIP_STORED:
        raise BrokenFileError(path, f"the compressed member {name!r}", hint="zip it again without compression")
    try:
        with archive.open(name) as source, path.open("rb") as stream:
            while source.read(1 << 20):
                pass
            stream.seek(member.header_offset)
            head = stream.read(zipfile.sizeFileHeader)  # type: ignore[attr-defined]
    except Exception as error:
        raise BrokenFileError(path, f"a damaged member {name!r} ({error})") from None
    return member.header_offset + len(head) + sum(struct.unpack("<HH", head[-4:])), member.file_size


def is_zip(path: Path) -> bool:
    """Whether a file ends as a zip archive does, so that it was not cut short."""
    return zipfile.is_zipfile(path)


def append_member(path: Path, name: str, text: str) -> None:
    """Adds a member to an archive of our own."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, text)
