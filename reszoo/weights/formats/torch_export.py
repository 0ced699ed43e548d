"""Archives of torch.export (.pt2): a zip with a list of the weights in JSON and their bytes; the graph is not read."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from reszoo.weights.formats.archives import checked_zip, read_member
from reszoo.weights.formats.checkpoint import ITEM_SIZES, JSON_LIMIT, BrokenFileError, Checkpoint, json_object
from reszoo.weights.formats.numpy_files import is_shape
from reszoo.weights.formats.pickles import Placeholder
from reszoo.weights.formats.torch_files import checkpoint_of
from reszoo.weights.formats.torch_globals import Storage, View

LIST = "_weights_config.json"
"""End of the name of the list of weights in an archive of torch.export (.pt2)."""

_TYPES = {
    **{1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32", 8: "float64"},
    **{12: "bool", 13: "bfloat16", 28: "uint16", 34: "uint32", 35: "uint64"},
}
"""Number of an element type in such a list -> its name."""


def read_exported(path: Path) -> Checkpoint:
    """Returns the weights in an archive of torch.export; its graph is not read.

    Raises:
        BrokenFileError: the archive or its list of weights is damaged or malicious.
    """
    archive = checked_zip(path)
    sizes = {info.filename: info.file_size for info in archive.infolist()}
    content: dict[str, Any] = {}
    for member in (name for name in sizes if name.endswith(LIST)):
        listed = json_object(path, read_member(path, archive, member, limit=JSON_LIMIT), member)
        folder = member.rpartition("/")[0]
        try:
            entries = listed["config"].items()
            content[member] = {name: _view(entry, folder, sizes) for name, entry in entries}
        except (KeyError, TypeError, AttributeError) as error:
            got = f"an invalid list of weights {member!r} ({type(error).__name__}: {error})"
            raise BrokenFileError(path, got) from None
    content = next(iter(content.values())) if len(content) == 1 else content

    def read_storage(key: str) -> bytes:
        return read_member(path, archive, key)

    return checkpoint_of(path, "torch.export archive", content, sizes, lru_cache(maxsize=1)(read_storage), "little")


def _view(entry: Mapping[str, Any], folder: str, sizes: Mapping[str, int]) -> View | Placeholder:
    """Returns a weight in an archive of torch.export; one that is pickled there is none of plain numbers."""
    meta = entry["tensor_meta"]
    if entry["use_pickle"] or meta["dtype"] not in _TYPES:
        return Placeholder("torch.Tensor")
    shape, stride = (tuple(axis["as_int"] for axis in meta[field]) for field in ("sizes", "strides"))
    offset, key, dtype = (
        meta["storage_offset"]["as_int"],
        f"{folder}/{entry['path_name']}",
        _TYPES[meta["dtype"]],
    )
    if not (is_shape(shape) and is_shape(stride) and is_shape((offset,)) and len(shape) == len(stride)):
        raise TypeError(f"a tensor of shape {shape} and strides {stride}")
    return View(Storage(key, dtype, sizes.get(key, 0) // ITEM_SIZES[dtype], 0), offset, shape, stride)
