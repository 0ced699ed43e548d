"""Opens any checkpoint: what a file is, is told by its first bytes, never by its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from reszoo.errors import ReszooError
from reszoo.weights.formats import keras_files, torch_files
from reszoo.weights.formats.archives import checked_zip
from reszoo.weights.formats.checkpoint import JSON_LIMIT, MEND, BrokenFileError, Checkpoint, Tensor, json_object

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
    checkpoint = _opened(Path(path).expanduser(), key)
    return replace(checkpoint, tensors=_without_prefix(checkpoint.tensors))


def _opened(path: Path, key: str | None) -> Checkpoint:
    if path.is_dir():
        return _folder(path, key)
    if not path.is_file():
        raise ReszooError(str(path), got="no such file", expected=KNOWN)
    try:
        reader = _reader(path)
        found = _sharded(path, key) if reader is _sharded else _checked(reader(path, key))
        return _with_config(found, path.parent) if path.name in _IN_FOLDER else found
    except OSError as error:
        hint = "see who may read it, and whether its disk is there"
        raise BrokenFileError(path, f"a file that cannot be read ({error})", hint=hint) from None


def _reader(path: Path) -> Callable[[Path, str | None], Checkpoint]:
    with path.open("rb") as stream:
        head = stream.read(512)
    if head.startswith(b"PK"):
        names = {*checked_zip(path).namelist()}
        return keras_files.read_keras if {"config.json", "model.weights.h5"} <= names else torch_files.read_zip
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return keras_files.read_h5
    if head.startswith(torch_files.MAGIC):
        return torch_files.read_legacy
    if path.name.endswith(".index.json"):
        return _sharded
    if head[8:9] == b"{":
        return _safetensors
    found, hint = _told(head)
    raise BrokenFileError(path, found, expected=KNOWN, hint=hint)


_NAME = 1000
"""Longest name of a tensor."""


def _checked(checkpoint: Checkpoint) -> Checkpoint:
    """A file's tensors, with names fit to print and sizes fit for the file, and named where they cannot be read."""
    path, tensors = checkpoint.path, checkpoint.tensors
    for name in tensors:
        if len(name) > _NAME or not name.isprintable():
            raise BrokenFileError(path, f"a tensor with the name {name[:100]!r}", expected=f"{_NAME} printable letters")
    promised, size = sum(tensor.nbytes for tensor in tensors.values()), path.stat().st_size
    # Tensors may share what is stored, but hardly all of them.
    if promised > 64 * size:
        raise BrokenFileError(path, f"tensors of {promised:,} bytes in a file of {size:,}")
    return replace(checkpoint, tensors={name: _named(path, name, tensor) for name, tensor in tensors.items()})


def _named(path: Path, name: str, tensor: Tensor) -> Tensor:
    def read() -> Any:
        try:
            array = tensor.read()
            if (array.shape, array.dtype.name) == (tensor.shape, tensor.dtype):
                return array
            why = "another shape or type than promised"
        except BrokenFileError as error:
            why = str(error.got)
        except Exception as error:
            # The file was cut or overwritten since it was opened, or NumPy cannot hold what it promises.
            why = f"{type(error).__name__}: {error}"
        raise BrokenFileError(path, f"tensor {name!r}, which cannot be read ({why})")

    return replace(tensor, read=read)


def _told(head: bytes) -> tuple[str, str]:
    """What a file that is no checkpoint looks like, and what helps."""
    text = head.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page, not a checkpoint: the download went wrong", MEND
    if text.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the file itself", "`git lfs pull` fetches the file"
    if not head:
        return "an empty file", MEND
    if head.startswith(b"\x80"):
        return "a pickle that torch.save did not write", "torch.save(model.state_dict(), path) writes one that is read"
    return "no checkpoint", ""


def _safetensors(path: Path, _key: str | None = None) -> Checkpoint:
    from safetensors import safe_open

    # The library checks header and offsets against the file before anything is read.
    try:
        file: Any = safe_open(path, "np")
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        told = {name: (tuple(part.get_shape()), part.get_dtype()) for name, part in slices.items()}
        metadata = file.metadata() or {}
    except Exception as error:
        raise BrokenFileError(path, f"a damaged or truncated safetensors file ({error})") from None

    def tensor(name: str) -> Tensor:
        shape, dtype = told[name]
        if dtype not in _DTYPES:
            raise BrokenFileError(path, f"tensor {name!r} of type {dtype}", expected=", ".join(_DTYPES))
        return Tensor(shape, _DTYPES[dtype], read=lambda: file.get_tensor(name))

    return Checkpoint(path, "safetensors", {name: tensor(name) for name in told}, metadata)


_DTYPES = {
    **{"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "BOOL": "bool"},
    **{
        f"{letter}{8 * size}": f"{word}{8 * size}"
        for letter, word in (("I", "int"), ("U", "uint"))
        for size in (1, 2, 4, 8)
    },
}


def _sharded(path: Path, key: str | None = None) -> Checkpoint:
    shards = _json(path).get("weight_map")
    if not isinstance(shards, dict) or not shards or not all(isinstance(name, str) for name in shards.values()):
        raise BrokenFileError(path, "an index of shards that is none", expected="a weight_map of tensors to files")
    names = sorted({*shards.values()})
    for name in names:
        # A shard that is an index could name itself.
        if Path(name).name != name or not name.isprintable() or name.endswith(".index.json"):
            raise BrokenFileError(path, f"the shard {name!r}", expected="names of files in the same folder")
        if not (path.parent / name).is_file():
            raise BrokenFileError(path, f"a missing shard {name!r}", hint=f"put it into {path.parent}")
    parts = {name: _opened(path.parent / name, key) for name in names}
    for tensor, name in shards.items():
        if tensor not in parts[name].tensors:
            raise BrokenFileError(path, f"tensor {tensor!r}, which is not in its shard {name!r}")
    tensors = {tensor: parts[name].tensors[tensor] for tensor, name in shards.items()}
    return Checkpoint(path, f"{len(names)} shards", tensors)


_IN_FOLDER = (
    *("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"),
    *("model.weights.h5",),
)


def _folder(folder: Path, key: str | None) -> Checkpoint:
    found = next((folder / name for name in _IN_FOLDER if (folder / name).is_file()), None)
    if found is None:
        raise ReszooError(str(folder), got="a folder without a checkpoint", expected=", ".join(_IN_FOLDER))
    checkpoint, task = _opened(found, key), folder / "task.weights.h5"
    # KerasHub keeps the classifier in a file of its own.
    more = _opened(task, key).tensors if task.is_file() else {}
    return replace(checkpoint, tensors={**checkpoint.tensors, **more})


def _with_config(checkpoint: Checkpoint, folder: Path) -> Checkpoint:
    """What a `config.json` beside a file says of it; a folder is no more than its file."""
    config = _json(folder / "config.json") if (folder / "config.json").is_file() else {}
    return replace(checkpoint, config={**checkpoint.config, **config})


def _json(path: Path) -> dict[str, Any]:
    with path.open("rb") as stream:
        return json_object(path, stream.read(JSON_LIMIT + 1), path.name)


_WRAPPERS = ("module.", "_orig_mod.")
"""DistributedDataParallel and torch.compile put their own attribute before every name."""


def _without_prefix(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    # Not before all: averaged weights come with a count of the averages.
    while wrapped := [
        prefix for prefix in _WRAPPERS if 2 * sum(name.startswith(prefix) for name in tensors) > len(tensors)
    ]:
        bare = {name.removeprefix(wrapped[0]): tensor for name, tensor in tensors.items()}
        if len(bare) < len(tensors):
            break
        tensors = bare
    return tensors
