"""A run folder: the names of its files, and the lock that lets one process at a time write to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from reszoo.errors import ReszooError

STATE = "state"
HISTORY = "history.jsonl"
BEST = "best.keras"
FINAL = "model.keras"
SETTINGS = "run.json"
CARD = "README.md"
LOCK = ".lock"


@contextmanager
def locked(folder: Path | None) -> Iterator[None]:
    """Holds the lock of an existing folder, if one is named; the operating system ends it with the process.

    Raises:
        ReszooError: another process holds it.
    """
    if folder is None:
        yield
        return
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        hint = "wait until that run ends, or choose another folder"
        raise ReszooError(str(folder), got="a run folder in use by another process", hint=hint) from None
    except (OSError, NotImplementedError):
        # A read-only folder is refused when it is written to; file systems without locks have none.
        pass
    try:
        yield
    finally:
        lock.release()


def saved_epochs(folder: Path) -> int:
    """Returns the number of epochs of a run whose state is on disk."""
    return max((int(path.name.rpartition("-")[2]) for path in folder.glob(f"{STATE}-*")), default=0)
