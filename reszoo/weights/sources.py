"""From what `weights=` may say to an opened checkpoint: a tag, a file, an address."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from reszoo.arch.spec import NetSpec
from reszoo.errors import ReszooError
from reszoo.weights import infer
from reszoo.weights.catalogue import WEIGHTS, File, Record, find, records
from reszoo.weights.download import at, digest, fetch, home
from reszoo.weights.formats.read import read
from reszoo.weights.formats.write import write_safetensors
from reszoo.weights.translate import Translated, translate


class Opened(NamedTuple):
    """Weights, opened, and what is known of them."""

    found: Translated
    record: Record | None


def open_weights(
    weights: str | Path,
    spec: NetSpec | None = None,
    *,
    names: Mapping[str, Any] | str | Path | None = None,
    key: str | None = None,
) -> Opened:
    """Returns opened weights.

    Args:
        weights: a file or folder, `https://...`, `hf://org/repo[@revision]`, or weights of the catalogue
            (`resnet50.tv2_in1k`; for a network also `tv2_in1k` and `imagenet`).
        spec: the network for which a tag is looked up.
        names: a map of our names to theirs (see `translate`).
        key: of a PyTorch file that wraps several networks, the one to take.

    Raises:
        ReszooError: there are no such weights, they cannot be fetched, or they cannot be read.
    """
    where = f"{spec.name}.weights" if spec else "weights"
    if not isinstance(weights, (str, Path)):
        raise ReszooError(where, got=repr(weights), expected=WEIGHTS)
    text = str(weights)
    if isinstance(weights, Path) or Path(text).expanduser().exists():
        found = translate(read(weights, key=key), names)
        return Opened(found, published(text))
    if re.match(r"https?://|hf://", text):
        return Opened(_fetched(f"from_{hashlib.sha256(text.encode()).hexdigest()[:12]}", (at(text),)), None)
    if "://" in text:
        raise ReszooError(where, got=repr(text), expected="https://..., hf://org/repo[@revision]")
    record = find(text, spec)
    if record.non_commercial:
        message = f"{record.name}: its licence, {record.licence}, forbids commercial use"
        warnings.warn(message, stacklevel=4)
    found = translate(read(record.packaged)) if record.packaged else _fetched(record.name, record.files)
    return Opened(found, record)


def _fetched(name: str, files: tuple[File, ...]) -> Translated:
    """The checkpoint from the cache: a copy in our own names and layout where one was made, which loads faster."""
    keys = [key for file in files if (key := file.sha256 or file.md5)]
    copies = [home() / "converted" / f"{name}-{key}.safetensors" for key in keys]
    for copy in copies:
        if copy.is_file():
            try:
                return translate(read(copy))
            except ReszooError:
                # A copy can be made again.
                copy.unlink(missing_ok=True)
    path = fetch(name, files)
    found = translate(read(path))
    if path.is_file():
        made_of = next(
            (key for key in keys if digest(path, "md5" if len(key) == 32 else "sha256").startswith(key)), None
        )
        if made_of:
            _keep_copy(found, home() / "converted" / f"{name}-{made_of}.safetensors")
    return found


def _keep_copy(found: Translated, copy: Path) -> None:
    try:
        specs = infer.specs(found)
        arrays = {name: named.tensor.read() for name, named in found.tensors.items()}
        metadata = {"reszoo_spec": specs[0].model_dump_json()} if len(specs) == 1 else None
        write_safetensors(arrays, copy, metadata)
    except (OSError, ReszooError):
        # The copy only saves time: a full disk or a network that the zoo cannot describe is told elsewhere.
        copy.unlink(missing_ok=True)


def published(source: str | Path) -> Record | None:
    """Returns the record of a file that lies at hand under its published name and has its hash."""
    path = Path(source).expanduser()
    for record in records().values():
        for file in record.files:
            if path.is_file() and file.url.endswith(f"/{path.name}") and (file.sha256 or file.md5):
                kind = "sha256" if file.sha256 else "md5"
                if digest(path, kind).startswith(file.sha256 or file.md5 or "?"):
                    return record
    return None
