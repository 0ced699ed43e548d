"""Atomic file writes: a file is replaced as a whole or remains unchanged."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_IMODE


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yields a temporary path in the folder of `path`; it replaces `path` if the block succeeds, else it is removed.

    The file has the permissions of any new file (0o666 less the umask), whichever library writes it.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     with atomic_write(Path(folder) / "a.txt") as temporary:
        ...         _ = temporary.write_text("all of it")
        ...     (Path(folder) / "a.txt").read_text()
        'all of it'
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        mode = _new_file_mode(temporary)
        yield temporary
        # Some libraries write by way of a private file of their own (safetensors: 0o600).
        if S_IMODE(temporary.stat().st_mode) != mode:
            temporary.chmod(mode)
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _new_file_mode(path: Path) -> int:
    """The permissions of a new file. Reading the umask itself would change it for all threads for a moment."""
    path.unlink(missing_ok=True)
    path.touch()
    mode = S_IMODE(path.stat().st_mode)
    path.unlink()
    return mode
