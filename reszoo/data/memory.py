"""How much memory is free."""

from __future__ import annotations

import os
from pathlib import Path

from reszoo.errors import ReszooError

UNKNOWN = 4 << 30
"""Where the system does not say."""


def free_memory() -> int:
    """Returns the number of bytes that this process may still take, caches of the system included."""
    limits = [_of_machine()]
    try:
        # The limit of a container.
        group = Path("/sys/fs/cgroup")
        limit = (group / "memory.max").read_text(encoding="ascii").strip()
        if limit.isdecimal():
            statistics = dict(line.split() for line in (group / "memory.stat").read_text(encoding="ascii").splitlines())
            used = int((group / "memory.current").read_text(encoding="ascii")) - int(statistics["inactive_file"])
            limits.append(int(limit) - used)
    except (OSError, ValueError, KeyError):
        pass
    return max(min(limits), 0)


def check_memory(name: str, size: int) -> None:
    """Checks that arrays can be copied into their parts.

    Args:
        name: of the source.
        size: of its inputs, in bytes.

    Raises:
        ReszooError: they need more than the free memory.
    """
    free = free_memory()
    if size > free:
        got = f"x of {readable_size(size)}, which is copied into the parts of the split; {readable_size(free)} are free"
        hint = "{'train': (x, y), 'validation': (x2, y2)} is not copied; or fewer examples; pictures: a folder"
        raise ReszooError(f"{name}: x", got=got, expected="arrays that fit into memory twice", hint=hint)


def _of_machine() -> int:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return UNKNOWN


def readable_size(count: float) -> str:
    """Returns a number of bytes in words.

    Example:
        >>> from reszoo.data.memory import readable_size
        >>> readable_size(3 << 30)
        '3.0 GiB'
    """
    for unit, scale in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count:.0f} bytes"
