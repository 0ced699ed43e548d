"""Resolves the argument `weights=` (a name, a file or an address) to an opened checkpoint."""

from __future__ import annotations

import hashlib
import re
import warnings
from pathlib import Path
from typing import NamedTuple

from reszoo.arch.spec import NetSpec
from reszoo.errors import ReszooError
from reszoo.weights import infer
from reszoo.weights.catalogue import WEIGHTS, File, Record, find, records
from reszoo.weights.download import digest, fetch, file_at, home
from reszoo.weights.formats.read import read
from reszoo.weights.formats.write import write_safetensors
from reszoo.weights.translate import LayerNames, Translated, translate


class SourceWeights(NamedTuple):
    """An opened checkpoint and the record of its publication, if there is one."""

    translated: Translated
    record: Record | None


def open_weights(
    weights: str | Path,
    spec: NetSpec | None = None,
    *,
    names: LayerNames | None = None,
    key: str | None = None,
    prefix: str | None = None,
) -> SourceWeights:
    """Returns the opened checkpoint that `weights` refers to, with its record.

    Args:
        weights: a file or folder, `https://...`, `hf://org/repo[@revision]`, or the name of published weights
            (`resnet50.tv2_in1k`; with a spec also `tv2_in1k` and `imagenet`).
        spec: the network whose tags are looked up.
        names: our layer names -> those in the file (see `translate`).
        key: which network to read from a file that holds several (see `translate`).
        prefix: the beginning of the network's names (see `translate`).

    Raises:
        ReszooError: the weights do not exist, cannot be downloaded, or cannot be read.
    """
    where = f"{spec.name}.weights" if spec else "weights"
    # An empty text would be the current folder.
    if not isinstance(weights, (str, Path)) or weights == "":
        raise ReszooError(where, got=repr(weights), expected=WEIGHTS)
    text = str(weights)
    if isinstance(weights, Path) or Path(text).expanduser().exists():
        return SourceWeights(translate(read(weights), names, key=key, prefix=prefix), published_record(text))
    if re.match(r"https?://|hf://", text):
        return SourceWeights(
            _download(f"from_{hashlib.sha256(text.encode()).hexdigest()[:12]}", (file_at(text),)), None
        )
    if "://" in text:
        raise ReszooError(where, got=repr(text), expected="https://..., hf://org/repo[@revision]")
    record = find(text, spec)
    if record.non_commercial:
        message = f"{record.name}: the license {record.licence} forbids commercial use"
        warnings.warn(message, stacklevel=4)
    if record.packaged:
        return SourceWeights(translate(read(record.packaged)), record)
    return SourceWeights(_download(record.name, record.files), record)


def _download(name: str, files: tuple[File, ...]) -> Translated:
    """Returns a downloaded checkpoint from the cache, preferably the copy in our own layout, which loads faster."""
    keys = [key for file in files if (key := file.sha256 or file.md5)]
    copies = [home() / "converted" / f"{name}-{key}.safetensors" for key in keys]
    for copy in copies:
        if copy.is_file():
            try:
                return translate(read(copy))
            except ReszooError:
                # Discard a damaged copy; it is written again below.
                copy.unlink(missing_ok=True)
    path = fetch(name, files)
    translated = translate(read(path))
    if path.is_file():
        verified = next(
            (key for key in keys if digest(path, "md5" if len(key) == 32 else "sha256").startswith(key)), None
        )
        if verified:
            _write_copy(translated, home() / "converted" / f"{name}-{verified}.safetensors")
    return translated


def _write_copy(translated: Translated, copy: Path) -> None:
    if translated.is_inferred or translated.head:
        # Under our names the file would look like one whose network is known.
        return
    try:
        specs = infer.specs(translated)
        arrays = {name: named.tensor.read() for name, named in translated.tensors.items()}
        metadata = {"reszoo_spec": specs[0].model_dump_json()} if len(specs) == 1 else None
        write_safetensors(arrays, copy, metadata)
    except (OSError, ReszooError):
        # The copy only saves time: a full disk or an unsupported network is reported elsewhere.
        copy.unlink(missing_ok=True)


def published_record(source: str | Path) -> Record | None:
    """Returns the record of a local file with the name and hash of published weights, or None."""
    path = Path(source).expanduser()
    for record in records().values():
        for file in record.files:
            if path.is_file() and file.url.endswith(f"/{path.name}") and (file.sha256 or file.md5):
                kind = "sha256" if file.sha256 else "md5"
                if digest(path, kind).startswith(file.sha256 or file.md5 or "?"):
                    return record
    return None
