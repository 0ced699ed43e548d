"""Translates checkpoints: detects the dialect, and renames tensors to our names in Keras layout."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from reszoo.arch.recover import common_prefix
from reszoo.arch.spec import NetSpec
from reszoo.config import check, read_yaml
from reszoo.errors import ReszooError
from reszoo.weights.dialects import IGNORED, Dialect, Template, dialects
from reszoo.weights.formats.checkpoint import Checkpoint, Tensor
from reszoo.weights.graph import NoResidualGraphError, read_graph

LayerNames: TypeAlias = Mapping[str, Any] | str | Path
"""Our layer names -> those in a file, as a mapping or the path of a YAML file."""

HARMLESS = {"in_chans", "num_classes", "drop_rate", "drop_path_rate", "zero_init_last", "global_pool"}
"""Arguments of timm's builders that do not change what the weights compute, or that shapes reveal."""


class NamedTensor(NamedTuple):
    """A tensor in Keras layout, with its original name."""

    tensor: Tensor
    source: str
    """The name in the file."""


@dataclass(frozen=True, eq=False)
class Translated:
    """A checkpoint with our names and in Keras layout."""

    checkpoint: Checkpoint
    dialect: Dialect
    tensors: dict[str, NamedTensor]
    """`layer/variable` -> tensor."""
    unknown: tuple[str, ...]
    """Names in the file that are not in the dialect."""
    ignored: tuple[str, ...]
    """Names in the file of tensors that are not weights."""
    layers: frozenset[str]
    """Keras files with our names: all layers."""
    prefix: str = ""
    """The common prefix of all names in the file."""
    spec: NetSpec | None = None
    """The network, if the file contains its graph."""
    is_inferred: bool = False
    """Whether the layers were recognised without their names."""
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Translated({self.checkpoint.path.name!r}, {self.dialect.title}, {len(self.tensors)} tensors)"


def translate(checkpoint: Checkpoint, names: LayerNames | None = None) -> Translated:
    """Returns a checkpoint with our names; the dialect is detected from the names in the file.

    Args:
        checkpoint: an opened file.
        names: for files that no dialect fits: our layer (`stem_conv`, or with fields:
            `stage{stage}_block{block}_unit{unit}_conv`) -> the name in the file, as a dict or a YAML file; and
            `layout`, `torch` or `keras`, by default that of the file format.

    Raises:
        ReszooError: no dialect fits, or the one that fits belongs to an unsupported network.
    """
    candidates = [_custom_dialect(checkpoint, names)] if names is not None else dialects().values()
    prefixes = ["", *_common_prefix(checkpoint)]
    best = max(
        (_translate(checkpoint, dialect, prefix) for prefix in prefixes for dialect in candidates),
        key=lambda translated: len(translated.tensors),
    )
    where, dialect = str(checkpoint.path), best.dialect
    is_known = len(best.tensors) >= max(2, len(best.unknown))
    if _has_graph(checkpoint) and not (is_known and (dialect is dialects()["reszoo"] or dialect.refuse)):
        try:
            return _from_graph(checkpoint, best, is_known=is_known)
        except NoResidualGraphError:
            # Plain networks are recognised by their names.
            pass
    if names is None and len(best.tensors) < max(2, len(best.unknown)):
        got = f"names of no known library ({', '.join(best.unknown[:4])}, ...)"
        expected = ", ".join(name for name, dialect in dialects().items() if not dialect.refuse)
        hint = "pass the names in the file: names={'stem_conv': 'conv_1', ...}"
        raise ReszooError(where, got=got, expected=expected, hint=hint)
    if dialect.refuse:
        raise ReszooError(where, got=f"weights of {dialect.title}", hint=dialect.refuse)
    return replace(best, dialect=_apply_config(checkpoint, dialect))


def _has_graph(checkpoint: Checkpoint) -> bool:
    """Returns whether the file has the configuration of a Keras model of stock layers."""
    inner = checkpoint.config.get("config")
    return isinstance(inner, list) or (isinstance(inner, dict) and isinstance(inner.get("layers"), list))


def _from_graph(checkpoint: Checkpoint, named: Translated, *, is_known: bool) -> Translated:
    """Returns a checkpoint with our names by the graph of its Keras model.

    Args:
        checkpoint: the file.
        named: the same by the names of its layers.
        is_known: whether these are the names of a library.
    """
    where, config = str(checkpoint.path), checkpoint.config
    read = read_graph(config, name=network_name(checkpoint.path), where=where)
    theirs = {layer: ours for ours, layer in read.layers.items()}
    tensors, unknown = {}, []
    for name, tensor in checkpoint.tensors.items():
        layer, _, variable = name.rpartition("/")
        if layer in theirs:
            tensors[f"{theirs[layer]}/{variable}"] = NamedTensor(tensor, name)
        elif layer not in read.head:
            unknown.append(name)
    notes = (f"left out after the trunk: {', '.join(read.head)}",) if read.head else ()
    dialect = Dialect(title="a Keras model read through its graph", layout="keras", names={})
    if is_known:
        dialect = named.dialect
    return Translated(checkpoint, dialect, tensors, tuple(unknown), (), frozenset(), "", read.spec, not is_known, notes)


def network_name(path: Path) -> str:
    """Returns a name for the network in a file: that of the file."""
    return re.sub(r"[^\w.-]", "_", path.name.partition(".")[0]) or "network"


def _custom_dialect(checkpoint: Checkpoint, names: LayerNames) -> Dialect:
    rules = read_yaml(Path(names)) if isinstance(names, (str, Path)) else dict(names)
    layout = rules.pop("layout", "keras" if "Keras" in checkpoint.container else "torch")
    layers = dialects()["reszoo"].names
    for ours in rules:
        if not any(ours == layer or Template(layer).read(ours) is not None for layer in layers):
            raise ReszooError("names", got=repr(ours), expected=", ".join(layers))
    return check(Dialect, {"title": "custom names", "layout": layout, "names": rules}, where="names")


def _common_prefix(checkpoint: Checkpoint) -> list[str]:
    """Returns candidates for a prefix: the first part of most names, such as `model.` where a module holds the network
    as an attribute, and the prefix with which one of our own networks was built."""
    first = Counter(name.partition(".")[0] + "." for name in checkpoint.tensors if "." in name)
    common = [prefix for prefix, count in first.most_common(1) if count > len(checkpoint.tensors) // 2]
    return [*common, *filter(None, [common_prefix(name.partition("/")[0] for name in checkpoint.tensors)])]


def _translate(checkpoint: Checkpoint, dialect: Dialect, prefix: str) -> Translated:
    tensors: dict[str, NamedTensor] = {}
    unknown, ignored = [], []
    separator = "/" if dialect.layout == "keras" else "."
    for name, tensor in checkpoint.tensors.items():
        layer, _, last = name.removeprefix(prefix).removeprefix(dialect.prefix).rpartition(separator)
        ours = dialect.ours(layer)
        variable = dialect.variable(ours, last) if ours else None
        if last in IGNORED:
            ignored.append(name)
        elif ours is None or variable is None:
            unknown.append(name)
        else:
            tensor = _in_keras_layout(ours, tensor) if dialect.layout == "torch" else tensor
            tensors[f"{ours}/{variable}"] = NamedTensor(tensor, name)
    # A file that lists layers without weights lists all of them; a legacy file lists a sub-model, but not its layers.
    weighted = {name.rpartition(separator)[0] for name in checkpoint.tensors}
    lists_all = dialect is dialects()["reszoo"] and weighted < checkpoint.layers
    layers = checkpoint.layers if lists_all else frozenset()
    layers = frozenset(layer.removeprefix(prefix) for layer in layers)
    return Translated(checkpoint, dialect, tensors, tuple(unknown), tuple(ignored), layers, prefix)


def _in_keras_layout(layer: str, tensor: Tensor) -> Tensor:
    if layer == "predictions" and len(tensor.shape) == 4 and tensor.shape[2:] == (1, 1):
        # A classifier may be stored as a 1x1 convolution.
        tensor = tensor.reshaped(tensor.shape[:2])
    axes = {4: (2, 3, 1, 0), 2: (1, 0)}.get(len(tensor.shape))
    return tensor.permuted(axes) if axes else tensor


def _apply_config(checkpoint: Checkpoint, dialect: Dialect) -> Dialect:
    """Returns the dialect with the changes that the file's `config.json` and layers imply."""
    where, config = f"{checkpoint.path}: config.json", checkpoint.config
    architecture = config.get("architecture") or next(iter(config.get("architectures") or []), None)
    patterns = dialect.architectures
    is_other = isinstance(architecture, str) and not any(fnmatch(architecture, pattern) for pattern in patterns or ())
    if patterns is not None and is_other:
        got = f"architecture {architecture!r}, whose weights have the names of {dialect.title}"
        raise ReszooError(where, got=got, expected=", ".join(patterns) or "none", hint="this is another network")
    changes: dict[str, Any] = {}
    unsupported = sorted({*(config.get("model_args") or {})} - HARMLESS) if patterns is not None else []
    if unsupported:
        expected = ", ".join(sorted(HARMLESS))
        raise ReszooError(f"{where}: model_args", got=unsupported[0], expected=expected, hint="this is another network")
    for field, values in dialect.config.items():
        value = config.get(field)
        if value is not None and (not isinstance(value, (str, bool)) or value not in values):
            raise ReszooError(f"{where}: {field}", got=repr(value), expected=", ".join(map(repr, values)))
        changes |= values.get(value, {}) if value is not None else {}
    for prefix, change in dialect.layers.items():
        changes |= change if any(layer.startswith(prefix) for layer in checkpoint.layers) else {}
    return dialect.model_copy(update=changes) if changes else dialect
