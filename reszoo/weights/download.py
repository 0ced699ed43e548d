"""Downloads that resume, verify hashes, write atomically and lock against concurrent processes."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from reszoo.errors import ReszooError
from reszoo.weights.catalogue import File

CHUNK = 1 << 20
TIMEOUT = 30
"""Seconds without data after which a connection is closed."""
ATTEMPTS = 5
"""Most connections to one location; each resumes where the last one was interrupted."""


def home() -> Path:
    """Returns the folder for downloads: `RESZOO_HOME`, or `reszoo` in Keras' home (`KERAS_HOME`, `~/.keras`)."""
    folder = os.environ.get("RESZOO_HOME")
    if folder:
        return Path(folder).expanduser()
    return keras_home() / "reszoo"


def keras_home() -> Path:
    """Returns Keras' folder for downloads: `KERAS_HOME`, or `~/.keras`."""
    return Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()


def offline() -> bool:
    """Returns whether `RESZOO_OFFLINE` or `HF_HUB_OFFLINE` forbids downloads."""
    return any(os.environ.get(name, "").lower() in ("1", "true", "yes", "on") for name in _OFFLINE)


_OFFLINE = ("RESZOO_OFFLINE", "HF_HUB_OFFLINE")


class _DownloadError(Exception):
    """The download from one location failed."""


def fetch(name: str, files: Sequence[File]) -> Path:
    """Returns the path of one of `files`, downloaded into the cache if it is not there.

    Args:
        name: folder in the cache, such as the record's name.
        files: locations, tried in order.

    Raises:
        ReszooError: no location has a file with the right hash; the message says where to put a copy.
    """
    folder = home() / "weights" / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        hint = "set RESZOO_HOME to a writable folder"
        raise ReszooError(
            str(folder), got=f"a cache folder that is not writable ({error.strerror})", hint=hint
        ) from None
    failures = []
    for file in files:
        try:
            return _from_hub(file) if file.url.startswith("hf://") else _from_web(file, folder)
        except _DownloadError as error:
            failures.append(f"{file.url}: {error}")
    web = next((file for file in files if not file.url.startswith("hf://")), None)
    hint = f"put {_file_name(web.url)} into {folder}" if web else "download the folder and pass its path as weights=..."
    raise ReszooError(name, got=f"weights that could not be downloaded ({'; '.join(failures)})", hint=hint)


def _file_name(url: str) -> str:
    name = re.sub(r"[^\w.-]", "_", Path(unquote(urlsplit(url).path)).name)
    return name.lstrip(".") or "weights"


def file_at(url: str) -> File:
    """Returns the file at an address, with the hash digits that PyTorch puts into file names."""
    digits = re.search(r"-([0-9a-f]{8,64})\.(?:pth|pt|th|tar)$", urlsplit(url).path)
    return File(url=url, sha256=digits[1] if digits else None)


def _from_web(file: File, folder: Path) -> Path:
    from filelock import FileLock

    target = folder / _file_name(file.url)
    others = keras_home() / "models" / target.name
    if file.md5 and others.is_file() and _wrong_hash(others, file) is None:
        # keras.applications has downloaded it.
        return others
    with FileLock(f"{target}.lock"):
        exists = target.is_file()
        if exists and _wrong_hash(target, file) is None:
            return target
        if offline():
            raise _DownloadError(f"offline{f', and {target} is a different file' if exists else ''}")
        part = target.with_name(f"{target.name}.part")
        is_resumed = part.exists()
        _download(file.url, part)
        problem = _wrong_hash(part, file)
        if problem and is_resumed:
            # The part of an earlier run may belong to another version of the file.
            part.unlink()
            _download(file.url, part)
            problem = _wrong_hash(part, file)
        if problem:
            part.unlink()
            raise _DownloadError(problem)
        part.replace(target)
    return target


def _wrong_hash(path: Path, file: File) -> str | None:
    """Returns how the hash of a file differs from the published one, or None if it does not."""
    for kind, expected in (("sha256", file.sha256), ("md5", file.md5)):
        if expected and not (actual := digest(path, kind)).startswith(expected):
            return f"{kind} {actual[: len(expected)]} instead of {expected}"
    return None


def digest(path: Path, kind: str = "sha256") -> str:
    """Returns a file's hash in hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, kind).hexdigest()


def _download(url: str, part: Path) -> None:
    """Downloads the rest of `part`; reconnects after interruptions as long as each connection brings data."""
    if urlsplit(url).scheme not in ("http", "https"):
        raise _DownloadError("not an http or https address")
    with _progress(_file_name(url)) as progress:
        for attempt in range(ATTEMPTS):
            before = part.stat().st_size if part.exists() else 0
            try:
                if _receive(url, part, progress):
                    return
                problem = f"interrupted after {part.stat().st_size:,} bytes"
            except urllib.error.HTTPError as error:
                if error.code == 416 and before:
                    # Nothing follows: the part is complete, or belongs to another file; the hash decides.
                    return
                problem = f"HTTP {error.code} {error.reason}"
                if error.code < 500:
                    break
            except (OSError, http.client.HTTPException) as error:
                problem = str(getattr(error, "reason", error)) or type(error).__name__
            if attempt and (part.stat().st_size if part.exists() else 0) <= before:
                break
    raise _DownloadError(problem)


def _receive(url: str, part: Path, progress: Any) -> bool:
    """Appends the data of one connection to `part`; returns whether the file is complete."""
    size = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(
        url, headers={"User-Agent": "reszoo", **({"Range": f"bytes={size}-"} if size else {})}
    )
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        resumes = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {size}-")
        size = size if resumes else 0
        length = answer.headers.get("Content-Length")
        total = size + int(length) if length and length.isdecimal() else None
        with part.open("ab" if resumes else "wb") as stream:
            progress(size, total)
            while chunk := answer.read(CHUNK):
                stream.write(chunk)
                size += len(chunk)
                progress(size, total)
            stream.flush()
            os.fsync(stream.fileno())
    return total is None or size >= total


@contextmanager
def _progress(name: str) -> Iterator[Any]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn(name), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


_IN_REPOSITORY = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
_BESIDE = ("config.json", "preprocessor_config.json")


def _from_hub(file: File) -> Path:
    """Returns the folder of a Hugging Face repository in the cache of huggingface_hub."""
    match = re.fullmatch(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", file.url)
    if match is None:
        raise _DownloadError("not of the form hf://org/repo or hf://org/repo@revision")
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
    except ImportError:
        raise _DownloadError("needs huggingface_hub (pip install 'reszoo[hub]')") from None

    def get(name: str) -> Path:
        return Path(hf_hub_download(match[1], name, revision=match[2], local_files_only=offline()))

    def first(names: Sequence[str]) -> Path:
        for name in names:
            try:
                return get(name)
            except EntryNotFoundError as error:
                if isinstance(error, LocalEntryNotFoundError):
                    raise
        raise _DownloadError(f"contains none of {', '.join(names)}")

    try:
        path = first(_IN_REPOSITORY)
        if path.name.endswith(".index.json"):
            for shard in _shards(path):
                _check_blob(get(shard))
        _check_blob(path)
        for name in _BESIDE:
            try:
                get(name)
            except EntryNotFoundError:
                continue
    except _DownloadError:
        raise
    except Exception as error:
        # huggingface_hub raises its own errors, those of its HTTP library and OSError.
        raise _DownloadError(" ".join(str(error).split())[:300] or type(error).__name__) from None
    return path.parent


def _shards(index: Path) -> list[str]:
    import json

    names = sorted({str(name) for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()})
    if any(Path(name).name != name for name in names):
        raise _DownloadError("its index refers to shards outside the repository")
    return names


def _check_blob(path: Path) -> None:
    """Verifies the sha256 of a large file: the hub's cache uses it as the file name, and does not check it."""
    expected = path.resolve().name
    if re.fullmatch(r"[0-9a-f]{64}", expected) and (actual := digest(path)) != expected:
        path.resolve().unlink()
        raise _DownloadError(f"sha256 {actual[:8]} instead of {expected[:8]}")
