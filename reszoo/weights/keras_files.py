"""Keras' files: legacy `.h5`, `.weights.h5` and `.keras`. Their configuration is read as data, never deserialised."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reszoo.weights.archives import checked_zip, read_member
from reszoo.weights.tensors import BrokenFileError, Checkpoint, Tensor

VARIABLES = {
    "conv2d": ("kernel", "bias"),
    "dense": ("kernel", "bias"),
    "batch_normalization": ("gamma", "beta", "moving_mean", "moving_variance"),
    "group_normalization": ("gamma", "beta"),
}
"""Class of a layer, in snake case -> its variables in the order in which `.weights.h5` numbers them."""


def read_h5(path: Path, _key: str | None = None) -> Checkpoint:
    """Returns an HDF5 file of Keras, opened: legacy weights, a whole legacy model, or `.weights.h5`.

    Raises:
        BrokenFileError: the file is damaged, refers to other files, or is not Keras'.
    """
    try:
        return _open(path, path)
    except BrokenFileError:
        raise
    except Exception as error:
        # h5py raises whatever a damaged file leads it to: OSError, KeyError, RuntimeError, ValueError, ...
        raise BrokenFileError(path, f"a damaged HDF5 file ({type(error).__name__}: {error})") from None


def read_keras(path: Path, _key: str | None = None) -> Checkpoint:
    """Returns a `.keras` archive, opened.

    Raises:
        BrokenFileError: the archive is damaged or made to harm.
    """
    archive = checked_zip(path)
    try:
        config = json.loads(read_member(path, archive, "config.json"))
    except (ValueError, RecursionError) as error:
        raise BrokenFileError(path, f"a config.json that is not JSON ({error})") from None
    folder = tempfile.TemporaryDirectory(prefix="reszoo_")
    inner = Path(folder.name) / "model.weights.h5"
    try:
        with archive.open("model.weights.h5") as source, inner.open("wb") as target:
            shutil.copyfileobj(source, target)
        found = _open(path, inner, keep=folder)
    except BrokenFileError:
        raise
    except Exception as error:
        raise BrokenFileError(path, f"damaged weights ({type(error).__name__}: {error})") from None
    return Checkpoint(path, "Keras archive", found.tensors, config, found.layers)


def _open(path: Path, place: Path, keep: Any = None) -> Checkpoint:
    import h5py

    file = h5py.File(place, "r")
    root = file.get("model_weights", file)
    if "layer_names" in root.attrs or "layer_names0" in root.attrs:
        kind, found = "Keras legacy HDF5", _legacy(root)
        layers = frozenset(_texts(root.attrs, "layer_names"))
    else:
        kind, found = "Keras weights", _numbered(file)
        layers = frozenset(
            name
            for group in _groups(file)
            if group.name.endswith("/vars") and isinstance(name := group.attrs.get("name"), str)
        )
    tensors = {name: _tensor(path, name, dataset, (file, keep)) for name, dataset in found}
    if not tensors:
        raise BrokenFileError(path, f"an HDF5 file without Keras weights ({', '.join([*file][:5]) or 'empty'})")
    stored = sum(tensor.size for tensor in tensors.values())
    if stored > 64 * place.stat().st_size:
        raise BrokenFileError(path, f"arrays of {stored:,} numbers in a file of {place.stat().st_size:,} bytes")
    return Checkpoint(path, kind, tensors, _config(file), layers)


def _config(file: Any) -> dict[str, Any]:
    """The model's configuration, where a legacy file holds the whole model."""
    text = file.attrs.get("model_config")
    content = json.loads(text) if isinstance(text, (str, bytes)) else {}
    return content if isinstance(content, dict) else {}


def _tensor(path: Path, name: str, dataset: Any, keep: Any) -> Tensor:
    if dataset.dtype.kind not in "fiub" and dataset.dtype.name != "bfloat16":
        raise BrokenFileError(path, f"tensor {name!r} of type {dataset.dtype}", allowed="numbers")
    if dataset.external or dataset.is_virtual:
        raise BrokenFileError(path, f"tensor {name!r}, whose numbers lie in another file")

    def read() -> Any:
        try:
            return dataset[()]
        except Exception as error:
            raise BrokenFileError(path, f"tensor {name!r}, which cannot be read ({error})") from None

    # The tensor keeps what it reads from: the file, and the folder it was unpacked into.
    read.keep = keep  # type: ignore[attr-defined]
    return Tensor(tuple(dataset.shape), dataset.dtype.name, read)


def _members(group: Any) -> Iterator[tuple[str, Any]]:
    """What lies in a group itself: links to elsewhere are never followed."""
    import h5py

    for name in group:
        if type(group.get(name, getlink=True)) is h5py.HardLink:
            yield name, group[name]


def _groups(group: Any, depth: int = 0) -> Iterator[Any]:
    import h5py

    if depth > 32:
        raise ValueError("groups nested more than 32 deep")
    for _, item in _members(group):
        if isinstance(item, h5py.Group):
            yield item
            yield from _groups(item, depth + 1)


def _texts(attributes: Any, name: str) -> list[str]:
    """A list of texts; one too long for an attribute is chunked into `name0`, `name1`, ..."""
    if name in attributes:
        values = list(attributes[name])
    else:
        values, number = [], 0
        while f"{name}{number}" in attributes:
            values += list(attributes[f"{name}{number}"])
            number += 1
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


def _legacy(root: Any) -> Iterator[tuple[str, Any]]:
    for layer in _texts(root.attrs, "layer_names"):
        group = dict(_members(root)).get(layer)
        if group is None:
            continue
        for weight in _texts(group.attrs, "weight_names"):
            dataset = group
            for step in weight.split("/"):
                dataset = dict(_members(dataset))[step]
            # A sub-model's weights bear the name of their own layer before the variable's.
            *path, variable = weight.partition(":")[0].split("/")
            yield f"{path[-1] if path else layer}/{variable}", dataset


def _numbered(file: Any) -> Iterator[tuple[str, Any]]:
    """`.weights.h5`: a group of a layer's class, its number, and the layer's name as an attribute of `vars`."""
    for group in _groups(file):
        *_, kind, last = group.name.split("/")
        if last != "vars" or "optimizer" in group.name or "seed_generator" in group.name:
            continue
        variables = VARIABLES.get(re.sub(r"_\d+$", "", kind))
        # Before Keras kept the names, class and number are all there is.
        name = group.attrs.get("name", kind)
        for number, dataset in _members(group):
            known = variables and number.isdecimal() and int(number) < len(variables)
            yield f"{name}/{variables[int(number)] if known and variables else number}", dataset
