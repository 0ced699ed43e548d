"""Zip archives: checks before an untrusted one is read, and appending to our own."""

from __future__ import annotations

import io
import re
import stat
import struct
import zipfile
from pathlib import Path, PurePosixPath

from reszoo.weights.formats.checkpoint import BrokenFileError

_RATIO = 64
"""Largest accepted ratio of unpacked to stored size, of a member and of the whole archive."""


class _Stream(io.FileIO):
    """Limits every read to 16 MiB: `zipfile` then refuses a central directory with millions of members."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(1 << 24 if size is None or size < 0 else min(size, 1 << 24)) or b""

    def __del__(self) -> None:
        self.close()


def checked_zip(path: Path) -> zipfile.ZipFile:
    """Returns an opened archive without duplicate, escaping, encrypted, overlapping or oversized members.

    Raises:
        BrokenFileError: a member is invalid; the message names it.
    """
    try:
        archive = zipfile.ZipFile(_Stream(path))
    except Exception as error:
        # A forged directory makes zipfile raise struct.error, UnicodeDecodeError, OverflowError and others.
        raise BrokenFileError(path, f"a damaged or truncated zip archive ({error})") from None
    seen: set[str] = set()
    total = path.stat().st_size
    end = unpacked = 0
    for member in sorted(archive.infolist(), key=lambda member: member.header_offset):
        if fault := _fault(member, seen):
            raise BrokenFileError(path, f"a zip archive with {fault}")
        if member.header_offset < end:
            raise BrokenFileError(path, f"a zip archive with the member {member.filename!r}, which overlaps another")
        seen.add(member.filename)
        end = member.header_offset + zipfile.sizeFileHeader + member.compress_size  # type: ignore[attr-defined]
        unpacked += member.file_size
    if end > total or unpacked > _RATIO * total:
        raise BrokenFileError(path, f"a zip archive of {total:,} bytes that claims {max(end, unpacked):,}")
    return archive


def _fault(member: zipfile.ZipInfo, seen: set[str]) -> str:
    """Returns why a member is refused, or an empty string."""
    name, packed = member.filename, member.compress_size
    pure = PurePosixPath(name)
    if name in seen:
        return f"two members {name!r}"
    if pure.is_absolute() or ".." in pure.parts or "\\" in member.orig_filename or re.match("[A-Za-z]:/", name):
        return f"the member {name!r}, which points outside the archive"
    if stat.S_ISLNK(member.external_attr >> 16):
        return f"the member {name!r}, which is a link"
    if member.flag_bits & 1:
        return f"the encrypted member {name!r}"
    # Decompressors of the other methods have no output limit.
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"the member {name!r}, which is neither stored nor deflated"
    largest = packed if member.compress_type == zipfile.ZIP_STORED else _RATIO * max(packed, 1024)
    if member.file_size > largest:
        return f"the member {name!r}, which would unpack to {member.file_size:,} bytes"
    return ""


def read_member(path: Path, archive: zipfile.ZipFile, name: str, *, limit: int | None = None) -> bytes:
    """Returns the bytes of a member after its checksum was verified.

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


def locate_member(path: Path, archive: zipfile.ZipFile, name: str) -> tuple[int, int]:
    """Returns offset and size in bytes of an uncompressed member after its checksum was verified.

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
    """Whether a file ends like a zip archive; a truncated one does not."""
    return zipfile.is_zipfile(path)


def append_member(path: Path, name: str, text: str) -> None:
    """Adds a member to an archive of our own."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, text)
