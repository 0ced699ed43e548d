"""Keras files: legacy HDF5, `.weights.h5` and the `.keras` archive. Only weights and configuration are read."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import chain, count, takewhile
from pathlib import Path
from typing import Any

from reszoo.weights.formats.archives import checked_zip, locate_member, read_member
from reszoo.weights.formats.checkpoint import ITEM_SIZES, JSON_LIMIT, BrokenFileError, Checkpoint, Tensor, json_object
from reszoo.weights.formats.hdf5 import Node, root as root_of
from reszoo.weights.formats.hdf5_blocks import Hdf5Error

KERAS_1 = {"W": "kernel", "b": "bias", "running_mean": "moving_mean", "running_std": "moving_variance"}
"""Name of a variable in Keras 1 -> its current name."""

VARIABLES = {
    **dict.fromkeys(("conv1d", "conv2d"), ("kernel", "bias")),
    "dense": ("kernel", "bias"),
    "batch_normalization": ("gamma", "beta", "moving_mean", "moving_variance"),
    "group_normalization": ("gamma", "beta"),
}
"""Class of a layer in snake case -> its variables in the numbering of `.weights.h5`."""

FACTS_MEMBER = "reszoo.json"
"""The member of a `.keras` archive that says what a network knows of its inputs and classes; Keras ignores it."""

_PATH = 4000
"""The longest path of a group, in characters."""


def read_h5(path: Path) -> Checkpoint:
    """Returns the content of a Keras HDF5 file: legacy weights, a legacy model, or `.weights.h5`.

    Raises:
        BrokenFileError: the file is damaged, refers to other files, or was not written by Keras.
    """
    return _open(path, 0, path.stat().st_size)


def read_keras(path: Path) -> Checkpoint:
    """Returns the content of a `.keras` archive.

    Raises:
        BrokenFileError: the archive is damaged or malicious.
    """
    archive = checked_zip(path)
    config = json_object(path, read_member(path, archive, "config.json", limit=JSON_LIMIT), "a config.json")
    weights = _open(path, *locate_member(path, archive, "model.weights.h5"))
    facts: dict[str, Any] = {}
    if FACTS_MEMBER in archive.namelist():
        facts = json_object(path, read_member(path, archive, FACTS_MEMBER, limit=JSON_LIMIT), f"a {FACTS_MEMBER}")
    return Checkpoint(path, "Keras archive", weights.tensors, config, weights.layers, facts)


def _open(path: Path, start: int, size: int) -> Checkpoint:
    """Opens the HDF5 file embedded in a file at byte `start`."""
    try:
        with path.open("rb") as stream:
            top = root_of(stream, start, size)
            root = top.find("model_weights") or top
            layers = _texts(root, "layer_names")
            kind, weights = "Keras weights", _numbered_weights(top)
            if layers is not None:
                kind, weights = "Keras legacy HDF5", _legacy_weights(root, layers)
            tensors: dict[str, Tensor] = {}
            listed = [*weights]
            times = Counter(name for name, _, _ in listed)
            for name, full, node in listed:
                # Layers nested in layers of an unknown class, and those of two models, may share a name.
                unique = name if times[name] == 1 else f"{_model_of(full)}/{name}"
                tensors[full if unique in tensors else unique] = _tensor(path, name, node, start, size)
            _check_backend(path, root, tensors)
            if not tensors:
                members = ", ".join(map(repr, [*top.members][:5])) or "empty"
                raise BrokenFileError(
                    path, f"an HDF5 file without Keras weights ({members})", expected="weights saved by Keras"
                )
            if layers is None:
                layers = [name for _, group in _groups(top) for name in group.texts("name") or ()]
            config = json_object(path, "".join(top.texts("model_config") or "{}"), "a model_config")
    except BrokenFileError:
        raise
    except Exception as error:
        # A damaged file can cause any of Hdf5Error, UnicodeDecodeError, KeyError, IndexError, ...
        reason = str(error) if isinstance(error, Hdf5Error) else type(error).__name__
        raise BrokenFileError(path, f"a damaged HDF5 file ({reason})") from None
    return Checkpoint(path, kind, tensors, config, frozenset(layers))


def _model_of(full: str) -> str:
    """Returns the model that holds a layer: the first part of a legacy path, or the part before the last `layers`."""
    before = full.rpartition("/layers/")[0] if "/layers/" in full else full.partition("/")[0]
    return before.rpartition("/")[2]


def _check_backend(path: Path, root: Node, tensors: Mapping[str, Tensor]) -> None:
    backend = _texts(root, "backend") or []
    turned = [
        name
        for name, tensor in tensors.items()
        if name.endswith("/kernel") and len(tensor.shape) == 4 and tensor.shape[2] == tensor.shape[3] < tensor.shape[0]
    ]
    kernels = sum(name.endswith("/kernel") and len(tensor.shape) == 4 for name, tensor in tensors.items())
    if "theano" in backend or (kernels and 2 * len(turned) > kernels):
        got = "weights of Keras with Theano, whose kernels have other axes or are flipped"
        raise BrokenFileError(path, got, expected="weights of the TensorFlow backend")


def _tensor(path: Path, name: str, node: Node | None, start: int, total: int) -> Tensor:
    try:
        array = node.array() if node is not None else None
    except Hdf5Error as error:
        raise BrokenFileError(path, f"tensor {name!r}, which is {error}", hint="save the weights with Keras") from None
    if array is None:
        raise BrokenFileError(path, f"tensor {name!r}, which is not in the file")
    size, dtype = math.prod(array.shape), array.dtype
    # A dataset that was never written has no address; an empty one needs none.
    if size and array.offset + size * ITEM_SIZES[dtype] > total:
        raise BrokenFileError(path, f"tensor {name!r} of {size:,} numbers in a file of {total:,} bytes")

    def read() -> Any:
        import ml_dtypes
        import numpy as np

        stored = np.dtype(ml_dtypes.bfloat16) if dtype == "bfloat16" else np.dtype(dtype).newbyteorder(array.order)
        offset = start + array.offset if size else 0
        return np.fromfile(path, stored, count=size, offset=offset).reshape(array.shape)

    return Tensor(array.shape, dtype, read)


def _legacy_weights(root: Node, layers: list[str]) -> Iterator[tuple[str, str, Node | None]]:
    for layer in dict.fromkeys(layers):
        group = root.find(layer)
        for weight in (_texts(group, "weight_names") or ()) if group else ():
            # Weights of a sub-model carry the name of their layer before that of the variable.
            *path, variable = weight.partition(":")[0].split("/")
            if old := re.fullmatch(re.escape(layer) + r"_([A-Za-z_]+?)(_\d+)?", variable):
                # Keras 1, which wrote the first published weights; its `running_std` is the variance.
                variable = KERAS_1.get(old[1], old[1])
            yield f"{path[-1] if path else layer}/{variable}", f"{layer}/{weight}", group and group.find(weight)


def _texts(node: Node, name: str) -> list[str] | None:
    """Returns the strings of an attribute; Keras splits long lists into `name0`, `name1`, ..."""
    if (whole := node.texts(name)) is not None:
        return whole
    parts = takewhile(lambda part: part is not None, (node.texts(f"{name}{number}") for number in count()))
    chunks = [part for part in parts if part is not None]
    return [*chain.from_iterable(chunks)] if chunks else None


def _groups(root: Node) -> Iterator[tuple[str, Node]]:
    """Yields path and group of everything that holds a layer's variables, each once: a group may contain itself."""
    waiting, seen = [("", root)], {root.address}
    while waiting:
        path, node = waiting.pop()
        if len(path) > _PATH:
            raise Hdf5Error("groups nested too deeply")
        if path.endswith("/vars"):
            yield path, node
        for name in reversed(node.members):
            inner = node.find(name)
            if inner is not None and inner.address not in seen:
                seen.add(inner.address)
                waiting.append((f"{path}/{name}", inner))


def _numbered_weights(root: Node) -> Iterator[tuple[str, str, Node | None]]:
    """Yields the weights of a `.weights.h5`; groups are named by layer class, and `vars` has the layer's name."""
    for path, group in _groups(root):
        kind = path.split("/")[-2]
        if "optimizer" in path or "seed_generator" in path:
            continue
        variables = VARIABLES.get(re.sub(r"_\d+$", "", kind), ())
        # Older versions of Keras stored only class and number.
        name = "".join(group.texts("name") or [kind])
        for number in group.members:
            listed = number.isdecimal() and int(number) < len(variables)
            yield f"{name}/{variables[int(number)] if listed else number}", f"{path}/{number}", group.find(number)
