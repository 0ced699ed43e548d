"""Opens any checkpoint: what a file is, is told by its first bytes, never by its name."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from reszoo.errors import ReszooError
from reszoo.weights import keras_files, torch_files
from reszoo.weights.tensors import BrokenFileError, Checkpoint, Tensor

KNOWN = (
    "PyTorch (.pth .pt .th .bin, zip or legacy), .safetensors, Keras (.keras .weights.h5 .h5), a Hugging Face folder"
)


def read(path: str | Path, *, key: str | None = None) -> Checkpoint:
    """Returns a checkpoint, opened: names, shapes and types are known, the arrays are read when they are placed.

    No foreign library is needed, and nothing in the file is executed.

    Args:
        path: a file; a `*.index.json` of shards; or a folder with one of these and, as Hugging Face has it, a
            `config.json`.
        key: of a PyTorch file that wraps several networks, the one to take (such as `model_ema`).

    Raises:
        ReszooError: there is no such file.
        BrokenFileError: it is truncated, damaged, made to harm or no checkpoint.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        return _folder(path, key)
    if not path.is_file():
        raise ReszooError(str(path), given="no such file", allowed=KNOWN)
    try:
        checkpoint = _reader(path)(path, key)
    except OSError as error:
        raise BrokenFileError(path, f"a file that cannot be read ({error})") from None
    return replace(checkpoint, tensors=_without_prefix(checkpoint.tensors))


def _reader(path: Path) -> Callable[[Path, str | None], Checkpoint]:
    with path.open("rb") as stream:
        head = stream.read(512)
    if head.startswith(b"PK"):
        try:
            names = zipfile.ZipFile(path).namelist()
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError) as error:
            raise BrokenFileError(path, f"a damaged or truncated zip archive ({error})") from None
        return keras_files.read_keras if {"config.json", "model.weights.h5"} <= {*names} else torch_files.read_zip
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return keras_files.read_h5
    if head.startswith(torch_files.MAGIC):
        return torch_files.read_legacy
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 100_000_000:
        return _safetensors
    if path.name.endswith(".index.json"):
        return _sharded
    raise BrokenFileError(path, _told(head), allowed=KNOWN)


def _told(head: bytes) -> str:
    """What a file that is no checkpoint looks like."""
    text = head.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page, not a checkpoint: the download went wrong"
    if text.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the file itself (`git lfs pull` fetches it)"
    if not head:
        return "an empty file"
    return "a pickle that torch.save did not write" if head.startswith(b"\x80") else "no checkpoint"


def _safetensors(path: Path, _key: str | None = None) -> Checkpoint:
    from safetensors import SafetensorError, safe_open

    # The library checks header and offsets against the file before anything is read.
    try:
        file = safe_open(path, "np")
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        told = {name: (tuple(part.get_shape()), _DTYPES[part.get_dtype()]) for name, part in slices.items()}
        metadata = file.metadata() or {}
    except KeyError as error:
        raise BrokenFileError(path, f"tensors of type {error}", allowed=", ".join(_DTYPES)) from None
    except (SafetensorError, OSError, ValueError) as error:
        raise BrokenFileError(path, f"a damaged or truncated safetensors file ({error})") from None

    def tensor(name: str) -> Tensor:
        return Tensor(*told[name], read=lambda: file.get_tensor(name))

    return Checkpoint(path, "safetensors", {name: tensor(name) for name in told}, metadata)


_DTYPES = {
    **{"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "BOOL": "bool", "U8": "uint8"},
    **{"I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8"},
}


def _sharded(path: Path, key: str | None = None) -> Checkpoint:
    try:
        shards = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        names = sorted({str(name) for name in shards.values()})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BrokenFileError(path, f"an index of shards that is none ({type(error).__name__}: {error})") from None
    for name in names:
        if Path(name).name != name:
            raise BrokenFileError(path, f"a shard {name!r} outside the folder")
        if not (path.parent / name).is_file():
            raise BrokenFileError(path, f"a missing shard {name!r}", mend=f"put it into {path.parent}")
    parts = {name: read(path.parent / name, key=key) for name in names}
    tensors = {}
    for tensor, name in shards.items():
        if tensor not in parts[name].tensors:
            raise BrokenFileError(path, f"tensor {tensor!r}, which is not in its shard {name!r}")
        tensors[tensor] = parts[name].tensors[tensor]
    return Checkpoint(path, f"{len(names)} shards", tensors)


_IN_FOLDER = (
    *("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"),
    *("model.weights.h5",),
)


def _folder(folder: Path, key: str | None) -> Checkpoint:
    found = next((folder / name for name in _IN_FOLDER if (folder / name).is_file()), None)
    if found is None:
        raise ReszooError(str(folder), given="a folder without a checkpoint", allowed=", ".join(_IN_FOLDER))
    checkpoint = read(found, key=key)
    return replace(checkpoint, config={**checkpoint.config, **_json(folder / "config.json")})


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise BrokenFileError(path, f"a file that is not JSON ({error})") from None
    return content if isinstance(content, dict) else {}


_WRAPPERS = ("module.", "_orig_mod.")
"""DistributedDataParallel and torch.compile put their own attribute before every name."""


def _without_prefix(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    for prefix in _WRAPPERS:
        if tensors and sum(name.startswith(prefix) for name in tensors) > len(tensors) // 2:
            return _without_prefix({name.removeprefix(prefix): tensor for name, tensor in tensors.items()})
    return tensors
