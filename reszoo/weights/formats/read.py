"""Opens checkpoints of any format: a table of first bytes says which reader a file needs."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from reszoo.errors import ReszooError
from reszoo.weights.formats import (
    keras_files,
    msgpack_files,
    numpy_files,
    onnx_files,
    tensorflow_files,
    torch_export,
    torch_files,
)
from reszoo.weights.formats.archives import checked_zip
from reszoo.weights.formats.checkpoint import (
    JSON_LIMIT,
    BrokenFileError,
    Checkpoint,
    Tensor,
    check_count,
    json_object,
)
from reszoo.weights.formats.kinds import describe, describe_folder

Reader = Callable[[Path], Checkpoint]

KNOWN = (
    "PyTorch (.pth .pt .th .bin, zip or legacy; .pt2), .safetensors, Keras (.keras .weights.h5 .h5), NumPy (.npz), "
    "Flax (.msgpack), ONNX, TensorFlow checkpoints, a Hugging Face folder"
)


def read(path: str | Path) -> Checkpoint:
    """Returns an opened checkpoint with names, shapes and types of its tensors; arrays are read on demand.

    All tensors are listed by their full names (`state_dict.module.conv1.weight`), those of optimizers excepted;
    `reszoo.weights.select` chooses the network among them. No foreign library is needed, and no code in the file is
    executed.

    Args:
        path: a file, a `*.index.json` of shards, or a folder that holds one of these and, in Hugging Face's layout,
            a `config.json`.

    Raises:
        ReszooError: the file does not exist.
        BrokenFileError: the file is truncated, damaged, malicious or not a checkpoint.
    """
    return _open(Path(path).expanduser())


def _open(path: Path) -> Checkpoint:
    if path.is_dir():
        return _read_folder(path)
    index = _tensorflow_index(path)
    if not path.is_file() and index is None:
        raise ReszooError(str(path), got="no such file", expected=KNOWN)
    try:
        if index is not None:
            files = tuple(tensorflow_files.shards_of(index))
            return _check(replace(tensorflow_files.read_tensorflow(index), files=files))
        reader = _reader(path)
        checkpoint = _read_shards(path) if reader is _read_shards else _check(reader(path))
        return _with_config(checkpoint, path.parent) if path.name in _IN_FOLDER else checkpoint
    except OSError as error:
        hint = "check the file's permissions and its disk"
        raise BrokenFileError(path, f"an unreadable file ({error})", hint=hint) from None


def _reader(path: Path) -> Reader:
    with path.open("rb") as stream:
        head = stream.read(512)
    for beginning, endings, reader in _FORMATS:
        if path.name.endswith(endings) and re.match(beginning, head, re.DOTALL):
            return reader
    got, hint = describe(path, head)
    raise BrokenFileError(path, got, expected=KNOWN, hint=hint)


def _read_zip(path: Path) -> Checkpoint:
    names = {*checked_zip(path).namelist()}
    if {"config.json", "model.weights.h5"} <= names:
        return keras_files.read_keras(path)
    if names and all(name.endswith(".npy") for name in names):
        return numpy_files.read_npz(path)
    if any(name.endswith(torch_export.LIST) for name in names):
        return torch_export.read_exported(path)
    if not any(name.rpartition("/")[2] == "data.pkl" for name in names):
        is_exported = any(map(_EXPORTED.search, names))
        what = "a program of torch.export before 2.9" if is_exported else "a zip archive without a checkpoint"
        got = f"{what} ({', '.join(sorted(names)[:4])})"
        weights = sorted(name for name in names if name.endswith(_WEIGHTS))
        weights.sort(key=lambda name: "constants" in name or "inputs" in name)
        hint = f"unpack it and load {weights[0]!r}" if weights else ""
        raise BrokenFileError(path, got, expected=KNOWN, hint=hint)
    return torch_files.read_zip(path)


_WEIGHTS = (".pth", ".pt", ".h5", ".safetensors", ".bin", ".keras")
_EXPORTED = re.compile(r"(^|/)(serialized_exported_program\.json|archive_format)$")


def _tensorflow_index(path: Path) -> Path | None:
    """Returns the index of the checkpoint that a path means: its prefix, a part of it, or a folder; None if none."""
    if path.is_dir():
        saved = path / "variables" / "variables.index"
        indices = [saved] if saved.is_file() else sorted(path.glob("*.index"))
        return indices[0] if len(indices) == 1 else None
    stem = re.sub(r"\.(index|meta|data-\d{5}-of-\d{5})$", "", str(path))
    index = Path(f"{stem}.index")
    return index if index.is_file() else None


_NAME = 1000
"""Longest name of a tensor, in characters."""


def _check(checkpoint: Checkpoint) -> Checkpoint:
    """Returns the checkpoint after its names and sizes were checked; reading a tensor names it in every error."""
    path, tensors = checkpoint.path, checkpoint.tensors
    check_count(path, len(tensors))
    if not tensors:
        raise BrokenFileError(path, f"no tensors ({checkpoint.container})", expected="a network's weights")
    for name in tensors:
        if len(name) > _NAME or not name.isprintable():
            raise BrokenFileError(
                path, f"a tensor with the name {name[:100]!r}", expected=f"up to {_NAME} printable characters"
            )
    claimed = sum(tensor.nbytes for tensor in tensors.values())
    size = sum(file.stat().st_size for file in (path, *checkpoint.files))
    # Tensors may share storage, but not this much of it.
    if claimed > 64 * size:
        raise BrokenFileError(path, f"tensors of {claimed:,} bytes in a file of {size:,}")
    return replace(checkpoint, tensors={name: _with_name(path, name, tensor) for name, tensor in tensors.items()})


def _with_name(path: Path, name: str, tensor: Tensor) -> Tensor:
    def read() -> Any:
        try:
            array = tensor.read()
            if (array.shape, array.dtype.name) == (tensor.shape, tensor.dtype):
                return array
            reason = "its shape or type is not the declared one"
        except BrokenFileError as error:
            reason = str(error.got)
        except Exception as error:
            # The file was truncated or overwritten since it was opened, or NumPy cannot hold the declared size.
            reason = f"{type(error).__name__}: {error}"
        raise BrokenFileError(path, f"tensor {name!r}, which cannot be read ({reason})")

    return replace(tensor, read=read)


def _read_safetensors(path: Path) -> Checkpoint:
    from safetensors import safe_open

    # The library validates header and offsets against the file before it reads any tensor.
    try:
        file: Any = safe_open(path, "np")
        check_count(path, len(names := file.keys()))
        slices = {name: file.get_slice(name) for name in names}
        headers = {name: (tuple(part.get_shape()), part.get_dtype()) for name, part in slices.items()}
        metadata = file.metadata() or {}
    except BrokenFileError:
        raise
    except Exception as error:
        raise BrokenFileError(path, f"a damaged or truncated safetensors file ({error})") from None

    def tensor(name: str) -> Tensor:
        shape, dtype = headers[name]
        if dtype not in _DTYPES:
            raise BrokenFileError(path, f"tensor {name!r} of type {dtype}", expected=", ".join(_DTYPES))
        return Tensor(shape, _DTYPES[dtype], read=lambda: file.get_tensor(name))

    return Checkpoint(path, "safetensors", {name: tensor(name) for name in headers}, metadata)


_DTYPES = {
    **{"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "BOOL": "bool"},
    **{
        f"{letter}{8 * size}": f"{word}{8 * size}"
        for letter, word in (("I", "int"), ("U", "uint"))
        for size in (1, 2, 4, 8)
    },
}


def _read_shards(path: Path) -> Checkpoint:
    shards = _json(path).get("weight_map")
    if not isinstance(shards, dict) or not shards or not all(isinstance(name, str) for name in shards.values()):
        raise BrokenFileError(path, "an invalid index of shards", expected="a weight_map from tensors to files")
    names = sorted({*shards.values()})
    for name in names:
        # A shard that is itself an index could refer to itself.
        if Path(name).name != name or not name.isprintable() or name.endswith(".index.json"):
            raise BrokenFileError(path, f"the shard {name!r}", expected="names of files in the same folder")
        if not (path.parent / name).is_file():
            raise BrokenFileError(path, f"a missing shard {name!r}", hint=f"put it into {path.parent}")
    parts = {name: _open(path.parent / name) for name in names}
    for tensor, name in shards.items():
        if tensor not in parts[name].tensors:
            raise BrokenFileError(path, f"tensor {tensor!r}, which is not in its shard {name!r}")
    tensors = {tensor: parts[name].tensors[tensor] for tensor, name in shards.items()}
    return Checkpoint(path, f"{len(names)} shards", tensors)


_IN_FOLDER = (
    *("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"),
    *("model.weights.h5",),
)


def _read_folder(folder: Path) -> Checkpoint:
    file = next((folder / name for name in _IN_FOLDER if (folder / name).is_file()), None)
    if file is None and (index := _tensorflow_index(folder)):
        return _open(index)
    if file is None:
        got, hint = describe_folder(folder)
        raise ReszooError(str(folder), got=got, expected=", ".join(_IN_FOLDER), hint=hint)
    checkpoint = _open(file)
    # KerasHub stores the classifier in a separate file.
    task = folder / "task.weights.h5"
    classifier = _open(task).tensors if task.is_file() else {}
    return replace(checkpoint, tensors={**checkpoint.tensors, **classifier})


def _with_config(checkpoint: Checkpoint, folder: Path) -> Checkpoint:
    """Returns the checkpoint with the `config.json` beside its file."""
    config = _json(folder / "config.json") if (folder / "config.json").is_file() else {}
    return replace(checkpoint, config={**checkpoint.config, **config})


def _json(path: Path) -> dict[str, Any]:
    with path.open("rb") as stream:
        return json_object(path, stream.read(JSON_LIMIT + 1), path.name)


_ANY = ("",)
_MAP = rb"(?:[\x81-\x8f]|\xde.{2}|\xdf.{4})[\xa1-\xbf\xd9\xda]"
_FORMATS: tuple[tuple[bytes, tuple[str, ...], Reader], ...] = (
    (rb"PK", _ANY, _read_zip),
    (rb"\x89HDF\r\n\x1a\n", _ANY, keras_files.read_h5),
    # A pickle of PyTorch's magic number in any protocol; newer ones put a frame around it.
    (rb"\x80[\x02-\x05].{0,11}\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19\.", _ANY, torch_files.read_legacy),
    (rb"\x93NUMPY", _ANY, numpy_files.read_npy),
    (rb"", (".index.json",), _read_shards),
    # The length of the header comes first; JSON text has no zero byte.
    (rb"(?=.{0,7}\x00).{8}\{", _ANY, _read_safetensors),
    (rb"\x80[\x02-\x05]", _ANY, torch_files.read_pickle),
    (rb"[(}\]c]", (".pkl", ".pickle", ".p"), torch_files.read_pickle),
    # A map with a text as its first key, as Flax writes it.
    (_MAP, (".msgpack",), msgpack_files.read_msgpack),
    (_MAP + rb"(?=[0-9A-Za-z]{6}|[0-9A-Za-z]+\Z)", _ANY, msgpack_files.read_msgpack),
    # The version of ONNX, then the name of its producer or its graph.
    (rb"\x08[\x01-\x14][\x12\x3a]", _ANY, onnx_files.read_onnx),
    (rb"\x08", (".onnx",), onnx_files.read_onnx),
)
"""Pattern of a file's first bytes, endings of its name -> what reads it; the first row that matches counts."""
