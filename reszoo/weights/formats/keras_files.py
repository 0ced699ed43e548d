"""Keras' HDF5 files, legacy and `.weights.h5`, and the `.keras` archive; of a model nothing but its weights is read."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from itertools import chain, count, takewhile
from pathlib import Path
from typing import Any

from reszoo.weights.formats.archives import checked_zip, read_member, stored_member
from reszoo.weights.formats.checkpoint import ITEM_SIZES, JSON_LIMIT, BrokenFileError, Checkpoint, Tensor, json_object
from reszoo.weights.formats.hdf5 import Node, root as root_of
from reszoo.weights.formats.hdf5_blocks import Hdf5Error

KERAS_1 = {"W": "kernel", "b": "bias", "running_mean": "moving_mean", "running_std": "moving_variance"}
"""Keras 1's name of a variable -> today's."""

VARIABLES = {
    "conv2d": ("kernel", "bias"),
    "dense": ("kernel", "bias"),
    "batch_normalization": ("gamma", "beta", "moving_mean", "moving_variance"),
    "group_normalization": ("gamma", "beta"),
}
"""Class of a layer, in snake case -> its variables in the order in which `.weights.h5` numbers them."""

_PATH = 4000
"""The longest path of a group."""


def read_h5(path: Path, _key: str | None = None) -> Checkpoint:
    """Returns an HDF5 file of Keras, opened: legacy weights, a whole legacy model, or `.weights.h5`.

    Raises:
        BrokenFileError: the file is damaged, refers to other files, or is not Keras'.
    """
    return _open(path, 0, path.stat().st_size)


def read_keras(path: Path, _key: str | None = None) -> Checkpoint:
    """Returns a `.keras` archive, opened.

    Raises:
        BrokenFileError: the archive is damaged or made to harm.
    """
    archive = checked_zip(path)
    config = json_object(path, read_member(path, archive, "config.json", limit=JSON_LIMIT), "a config.json")
    found = _open(path, *stored_member(path, archive, "model.weights.h5"))
    return Checkpoint(path, "Keras archive", found.tensors, config, found.layers)


def _open(path: Path, start: int, size: int) -> Checkpoint:
    """Opens the HDF5 file that lies in a file from byte `start` on."""
    try:
        with path.open("rb") as stream:
            top = root_of(stream, start, size)
            root = top.find("model_weights") or top
            layers = _texts(root, "layer_names")
            kind, found = "Keras weights", _numbered(top)
            if layers is not None:
                kind, found = "Keras legacy HDF5", _legacy(root, layers)
            tensors: dict[str, Tensor] = {}
            for name, full, node in found:
                # Layers within layers of an unknown kind may share a name.
                tensors[full if name in tensors else name] = _tensor(path, name, node, start, size)
            if not tensors:
                held = ", ".join(map(repr, [*top.members][:5])) or "empty"
                raise BrokenFileError(
                    path, f"an HDF5 file without Keras weights ({held})", expected="weights that Keras saved"
                )
            if layers is None:
                layers = [name for _, group in _groups(top) for name in group.texts("name") or ()]
            config = json_object(path, "".join(top.texts("model_config") or "{}"), "a model_config")
    except BrokenFileError:
        raise
    except Exception as error:
        # Whatever a damaged file leads to: Hdf5Error, UnicodeDecodeError, KeyError, IndexError, ...
        why = str(error) if isinstance(error, Hdf5Error) else type(error).__name__
        raise BrokenFileError(path, f"a damaged HDF5 file ({why})") from None
    return Checkpoint(path, kind, tensors, config, frozenset(layers))


def _tensor(path: Path, name: str, node: Node | None, start: int, total: int) -> Tensor:
    try:
        array = node.array() if node is not None else None
    except Hdf5Error as error:
        raise BrokenFileError(path, f"tensor {name!r}, which is {error}", hint="save the weights with Keras") from None
    if array is None:
        raise BrokenFileError(path, f"tensor {name!r}, which is not in the file")
    size, dtype = math.prod(array.shape), array.dtype
    # An array that was never written has no place; of no numbers, it needs none.
    if size and array.offset + size * ITEM_SIZES[dtype] > total:
        raise BrokenFileError(path, f"tensor {name!r} of {size:,} numbers in a file of {total:,} bytes")

    def read() -> Any:
        import ml_dtypes
        import numpy as np

        stored = np.dtype(ml_dtypes.bfloat16) if dtype == "bfloat16" else np.dtype(dtype).newbyteorder(array.order)
        place = start + array.offset if size else 0
        return np.fromfile(path, stored, count=size, offset=place).reshape(array.shape)

    return Tensor(array.shape, dtype, read)


def _legacy(root: Node, layers: list[str]) -> Iterator[tuple[str, str, Node | None]]:
    for layer in dict.fromkeys(layers):
        group = root.find(layer)
        for weight in (_texts(group, "weight_names") or ()) if group else ():
            # A sub-model's weights bear the name of their own layer before the variable's.
            *path, variable = weight.partition(":")[0].split("/")
            if old := re.fullmatch(re.escape(layer) + r"_([A-Za-z_]+?)(_\d+)?", variable):
                # Keras 1, in which the first published weights were saved; its `running_std` is the variance.
                variable = KERAS_1.get(old[1], old[1])
            yield f"{path[-1] if path else layer}/{variable}", f"{layer}/{weight}", group and group.find(weight)


def _texts(node: Node, name: str) -> list[str] | None:
    """Texts of an attribute; a list too long for one is chunked into `name0`, `name1`, ..."""
    if (whole := node.texts(name)) is not None:
        return whole
    parts = takewhile(lambda part: part is not None, (node.texts(f"{name}{number}") for number in count()))
    chunks = [part for part in parts if part is not None]
    return [*chain.from_iterable(chunks)] if chunks else None


def _groups(root: Node) -> Iterator[tuple[str, Node]]:
    """Path and group of all that hold a layer's variables, each once: a group may lie within itself."""
    waiting, seen = [("", root)], {root.address}
    while waiting:
        path, node = waiting.pop()
        if len(path) > _PATH:
            raise Hdf5Error("groups nested too deep")
        if path.endswith("/vars"):
            yield path, node
        for name in reversed(node.members):
            inner = node.find(name)
            if inner is not None and inner.address not in seen:
                seen.add(inner.address)
                waiting.append((f"{path}/{name}", inner))


def _numbered(root: Node) -> Iterator[tuple[str, str, Node | None]]:
    """`.weights.h5`: a group of a layer's class, its number, and the layer's name as an attribute of `vars`."""
    for path, group in _groups(root):
        kind = path.split("/")[-2]
        if "optimizer" in path or "seed_generator" in path:
            continue
        variables = VARIABLES.get(re.sub(r"_\d+$", "", kind), ())
        # Before Keras kept the names, class and number are all there is.
        name = "".join(group.texts("name") or [kind])
        for number in group.members:
            known = number.isdecimal() and int(number) < len(variables)
            yield f"{name}/{variables[int(number)] if known else number}", f"{path}/{number}", group.find(number)
