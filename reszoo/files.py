"""Writing files: each is replaced as a whole or remains unchanged; and JSON that every reader accepts."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path, PurePath
from stat import S_IMODE
from typing import Any


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


def write_file(path: Path, content: str | bytes) -> None:
    """Writes a text, in UTF-8, or bytes as a whole file."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def _new_file_mode(path: Path) -> int:
    """The permissions of a new file. Reading the umask itself would change it for all threads for a moment."""
    path.unlink(missing_ok=True)
    path.touch()
    mode = S_IMODE(path.stat().st_mode)
    path.unlink()
    return mode


def strict_json(data: Any, /, *, indent: int | None = None) -> str:
    """Returns data as strict JSON: RFC 8259 has no NaN and no infinity, so they become `null`.

    Example:
        >>> from reszoo.files import strict_json
        >>> strict_json({"precision": float("nan"), "classes": ("ant", "bee")})
        '{"precision": null, "classes": ["ant", "bee"]}'

    Args:
        data: numbers, texts, paths, NumPy arrays and numbers, and mappings, lists, tuples and data classes
            of them.
        indent: spaces per level; by default everything is on one line.
    """
    return json.dumps(_plain(data), indent=indent, allow_nan=False)


def _plain(data: Any) -> Any:
    if hasattr(data, "tolist"):
        # A NumPy array or number; this module does not import NumPy.
        data = data.tolist()
    if hasattr(data, "_asdict"):
        data = data._asdict()
    elif is_dataclass(data) and not isinstance(data, type):
        data = {field.name: getattr(data, field.name) for field in fields(data)}
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, Mapping):
        return {str(name): _plain(value) for name, value in data.items()}
    if isinstance(data, (list, tuple, set, frozenset)):
        return [_plain(value) for value in data]
    return str(data) if isinstance(data, PurePath) else data
