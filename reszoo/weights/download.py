"""Downloads that can be trusted: resumed, checked, renamed when whole, and done once however many ask."""

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
"""Seconds without a byte after which a connection is given up."""
ATTEMPTS = 5
"""Connections to one place; each goes on where the last one was cut."""


def home() -> Path:
    """Returns the folder for downloads: `RESZOO_HOME`, or `reszoo` in Keras' home (`KERAS_HOME`, `~/.keras`)."""
    own = os.environ.get("RESZOO_HOME")
    return Path(own).expanduser() if own else Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "reszoo"


def offline() -> bool:
    """Whether `RESZOO_OFFLINE` or `HF_HUB_OFFLINE` says that nothing is to be downloaded."""
    return any(os.environ.get(name, "").lower() in ("1", "true", "yes", "on") for name in _OFFLINE)


_OFFLINE = ("RESZOO_OFFLINE", "HF_HUB_OFFLINE")


class _FailedError(Exception):
    """One place did not give the file."""


def fetch(name: str, files: Sequence[File]) -> Path:
    """Returns the path of one of `files`, downloaded into the cache unless it is there.

    Args:
        name: folder in the cache, such as the record's name.
        files: places to try in turn.

    Raises:
        ReszooError: no place gave a file with the right hash; the message says what to put where.
    """
    folder = home() / "weights" / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        hint = "set RESZOO_HOME to a folder that can be written"
        raise ReszooError(str(folder), got=f"a cache that cannot be written ({error.strerror})", hint=hint) from None
    failed = []
    for file in files:
        try:
            return _from_hub(file) if file.url.startswith("hf://") else _from_web(file, folder)
        except _FailedError as error:
            failed.append(f"{file.url}: {error}")
    web = next((file for file in files if not file.url.startswith("hf://")), None)
    hint = f"put {_file_name(web.url)} into {folder}" if web else "download the folder and give its path as weights=..."
    raise ReszooError(name, got=f"weights that could not be fetched ({'; '.join(failed)})", hint=hint)


def _file_name(url: str) -> str:
    name = re.sub(r"[^\w.-]", "_", Path(unquote(urlsplit(url).path)).name)
    return name.lstrip(".") or "weights"


def at(url: str) -> File:
    """Returns the place of an address; a PyTorch file bears the first digits of its hash in its name."""
    digits = re.search(r"-([0-9a-f]{8,64})\.(?:pth|pt|th|tar)$", urlsplit(url).path)
    return File(url=url, sha256=digits[1] if digits else None)


def _from_web(file: File, folder: Path) -> Path:
    from filelock import FileLock

    target = folder / _file_name(file.url)
    with FileLock(f"{target}.lock"):
        here = target.is_file()
        if here and _wrong_hash(target, file) is None:
            return target
        if offline():
            raise _FailedError(f"offline{f', and {target} is another file' if here else ''}")
        part = target.with_name(f"{target.name}.part")
        resumed = part.exists()
        _download(file.url, part)
        wrong = _wrong_hash(part, file)
        if wrong and resumed:
            # What an earlier run left may be of another version of the file.
            part.unlink()
            _download(file.url, part)
            wrong = _wrong_hash(part, file)
        if wrong:
            part.unlink()
            raise _FailedError(wrong)
        part.replace(target)
    return target


def _wrong_hash(path: Path, file: File) -> str | None:
    for kind, wanted in (("sha256", file.sha256), ("md5", file.md5)):
        if wanted and not (found := digest(path, kind)).startswith(wanted):
            return f"{kind} {found[: len(wanted)]} instead of {wanted}"
    return None


def digest(path: Path, kind: str = "sha256") -> str:
    """Returns a file's hash in hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, kind).hexdigest()


def _download(url: str, part: Path) -> None:
    """Completes `part`, from where it ends; cut connections are taken up again as long as they bring anything."""
    if urlsplit(url).scheme not in ("http", "https"):
        raise _FailedError("not an address of the web")
    with _progress(_file_name(url)) as progress:
        for attempt in range(ATTEMPTS):
            before = part.stat().st_size if part.exists() else 0
            try:
                if _receive(url, part, progress):
                    return
                problem = f"cut after {part.stat().st_size:,} bytes"
            except urllib.error.HTTPError as error:
                if error.code == 416 and before:
                    # Nothing follows what is there: it is whole, or of another file; the hash tells.
                    return
                problem = f"HTTP {error.code} {error.reason}"
                if error.code < 500:
                    break
            except (OSError, http.client.HTTPException) as error:
                problem = str(getattr(error, "reason", error)) or type(error).__name__
            if attempt and (part.stat().st_size if part.exists() else 0) <= before:
                break
    raise _FailedError(problem)


def _receive(url: str, part: Path, progress: Any) -> bool:
    """Appends what one connection brings; returns whether that was all."""
    here = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(
        url, headers={"User-Agent": "reszoo", **({"Range": f"bytes={here}-"} if here else {})}
    )
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        goes_on = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {here}-")
        here = here if goes_on else 0
        length = answer.headers.get("Content-Length")
        total = here + int(length) if length and length.isdecimal() else None
        with part.open("ab" if goes_on else "wb") as stream:
            progress(here, total)
            while chunk := answer.read(CHUNK):
                stream.write(chunk)
                here += len(chunk)
                progress(here, total)
            stream.flush()
            os.fsync(stream.fileno())
    return total is None or here >= total


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
    """The folder of a repository of the Hugging Face hub, in that library's own cache."""
    match = re.fullmatch(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", file.url)
    if match is None:
        raise _FailedError("not of the form hf://org/repo or hf://org/repo@revision")
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
    except ImportError:
        raise _FailedError("needs huggingface_hub (pip install 'reszoo[hub]')") from None

    def get(name: str) -> Path:
        return Path(hf_hub_download(match[1], name, revision=match[2], local_files_only=offline()))

    def first(names: Sequence[str]) -> Path:
        for name in names:
            try:
                return get(name)
            except EntryNotFoundError as error:
                if isinstance(error, LocalEntryNotFoundError):
                    raise
        raise _FailedError(f"has none of {', '.join(names)}")

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
    except _FailedError:
        raise
    except Exception as error:
        # The hub's library raises errors of its own, of its HTTP library and of the file system.
        raise _FailedError(" ".join(str(error).split())[:300] or type(error).__name__) from None
    return path.parent


def _shards(index: Path) -> list[str]:
    import json

    names = sorted({str(name) for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()})
    if any(Path(name).name != name for name in names):
        raise _FailedError("its index names shards outside the repository")
    return names


def _check_blob(path: Path) -> None:
    """The hub's cache names a large file by its sha256, and does not check it."""
    wanted = path.resolve().name
    if re.fullmatch(r"[0-9a-f]{64}", wanted) and (found := digest(path)) != wanted:
        path.resolve().unlink()
        raise _FailedError(f"sha256 {found[:8]} instead of {wanted[:8]}")
