"""How much memory is free."""

from __future__ import annotations

import os
from pathlib import Path

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
