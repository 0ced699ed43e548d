"""Translates checkpoints: detects the dialect, and renames tensors to our names in Keras layout."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from typing import Any, NamedTuple

from reszoo.errors import ReszooError
from reszoo.weights.dialects import IGNORED, Dialect, dialects
from reszoo.weights.foreign import NOTHING, Foreign, foreign, grouped, is_beside
from reszoo.weights.formats.checkpoint import Checkpoint, Tensor
from reszoo.weights.head import Linear, chain, described
from reszoo.weights.layer_names import LayerNames, candidates, check_names
from reszoo.weights.restore import check_parts, restored
from reszoo.weights.select import Network, by_dicts, chosen, networks, restricted

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
    outside: tuple[str, ...] = ()
    """Full names of the other tensors in the file, which do not have the prefix."""
    others: tuple[str, ...] = ()
    """Labels of the other networks in the file, as for `key=`."""
    foreign: Foreign = NOTHING
    """The unknown names by their place in the network."""
    head: tuple[Linear, ...] = ()
    """The layers of a head in place of the classifier, if it has several."""

    def __repr__(self) -> str:
        return f"Translated({self.checkpoint.path.name!r}, {self.dialect.title}, {len(self.tensors)} tensors)"


def translate(
    checkpoint: Checkpoint,
    names: LayerNames | None = None,
    *,
    key: str | None = None,
    prefix: str | None = None,
) -> Translated:
    """Returns a network of a checkpoint with our names; the dialect is detected from the names in the file.

    Args:
        checkpoint: an opened file.
        names: our layer (`stem_conv`, or with fields: `stage{stage}_block{block}_unit{unit}_conv`) -> the name in the
            file, as a dict or a YAML file; layers that are not listed have the names of the dialect that fits. Also
            `layout`, `torch` or `keras`, by default that of the file format.
        key: which network to read, as a path: of dicts, of modules, or of both (`state_dict.module.encoder_q`).
        prefix: the beginning of the network's names within its dict.

    Raises:
        ReszooError: no dialect fits, or the one that fits belongs to an unsupported network; or the file has several
            networks and nothing tells which one is meant.
    """
    checkpoint = restored(checkpoint)
    part = restricted(checkpoint, key=key, prefix=prefix)
    known = candidates(checkpoint, names)
    located = networks(part, known) or by_dicts(part)
    network = chosen(part, located)
    others = tuple(other.label for other in located if other is not network)
    best = max(
        (_translate(part, dialect, network, others) for dialect in network.dialects or known),
        key=lambda translated: len(translated.tensors),
    )
    where, dialect = str(checkpoint.path), best.dialect
    check_parts(checkpoint, best.unknown)
    if names is not None:
        check_names(best.checkpoint, names, best.prefix)
    if names is None and len(best.tensors) < max(2, len(best.unknown)):
        got = f"names of no known library ({', '.join(best.unknown[:4])}, ...)"
        expected = ", ".join(name for name, dialect in dialects().items() if not dialect.refuse)
        hint = "pass the names in the file: names={'stem_conv': 'conv_1', ...}"
        raise ReszooError(where, got=got, expected=expected, hint=hint)
    if dialect.refuse:
        raise ReszooError(where, got=f"weights of {dialect.title}", hint=dialect.refuse)
    best = _with_head(best, part)
    return replace(best, dialect=_apply_config(checkpoint, dialect), checkpoint=_with_notes(best, part))


def _with_notes(translated: Translated, whole: Checkpoint) -> Checkpoint:
    """Returns the network's tensors with notes about where it was and what is left aside."""
    notes, label = [*translated.checkpoint.notes], translated.prefix.rstrip("./")
    others = ", ".join(map(repr, translated.others))
    if label or others:
        also = f"; also in the file: {others} (choose with key=...)" if others else ""
        notes.append(f"read from {repr(label) if label else 'the top level'}{also}")
    within = tuple(f"{other}{separator}" for other in translated.others for separator in "./")
    beside = [name for name in translated.outside if not within or not name.startswith(within)]
    beside += translated.foreign.beside
    if beside:
        notes.append(f"no part of the network: {grouped(beside, whole.tensors)}")
    if translated.head:
        head = described(translated.head)
        notes.append(f"the head: {head}; the activations are not stored in the file")
    return replace(translated.checkpoint, notes=tuple(notes))


def _with_head(translated: Translated, whole: Checkpoint) -> Translated:
    """Returns the network with its unknown tensors in their places, and a head of linear layers as its classifier."""
    parts = foreign(translated.checkpoint, translated.unknown, translated.tensors)
    translated = replace(translated, foreign=parts)
    if "predictions/kernel" in translated.tensors or parts.within or not _blocks(translated):
        return translated
    tensors = translated.checkpoint.tensors
    names = parts.head
    beside = _beside(translated, whole)
    if not names and beside:
        names, tensors = beside, whole.tensors
    kernels = [named.tensor for layer, named in sorted(translated.tensors.items()) if layer in _blocks(translated)]
    layers = chain(names, tensors, kernels[-1].shape[-1], torch=translated.dialect.layout == "torch")
    if not layers:
        return translated
    unknown = tuple(name for name in translated.unknown if name not in names)
    outside = tuple(name for name in translated.outside if name not in names)
    translated = replace(translated, unknown=unknown, outside=outside, foreign=parts._replace(head=()))
    if len(layers) > 1:
        return replace(translated, head=layers)
    separator = "/" if translated.dialect.layout == "keras" else "."
    added = {"kernel": layers[0].kernel, **({"bias": layers[0].bias} if layers[0].bias else {})}
    sources = {"kernel": "kernel" if separator == "/" else "weight", "bias": "bias"}
    classifier = {
        f"predictions/{variable}": NamedTensor(tensor, f"{layers[0].name}{separator}{sources[variable]}")
        for variable, tensor in added.items()
    }
    return replace(translated, tensors={**translated.tensors, **classifier})


def _blocks(translated: Translated) -> list[str]:
    return [layer for layer in translated.tensors if re.match(r"stage\d+_block\d+_unit\d+_(conv|dense)/kernel", layer)]


def _beside(translated: Translated, whole: Checkpoint) -> tuple[str, ...]:
    """Returns the tensors beside the network's module in its dict, such as `head.fc.weight` beside `backbone.`."""
    label = translated.prefix.rstrip("./")
    above = f"{label.rpartition('.')[0]}." if "." in label else ""
    dicts = [key for key in whole.keys if key and (label == key or label.startswith(f"{key}."))]
    if not label or any(len(f"{key}.") > len(above) for key in dicts):
        return ()
    within = tuple(f"{other}." for other in translated.others)
    names = [name for name in translated.outside if name.startswith(above) and not (within and name.startswith(within))]
    return tuple(name for name in names if not is_beside(name, whole.tensors[name]))


def _translate(checkpoint: Checkpoint, dialect: Dialect, network: Network, others: tuple[str, ...]) -> Translated:
    """Returns one network of a checkpoint in one dialect."""
    prefix = network.prefix
    separator = "/" if dialect.layout == "keras" else "."
    # The names of Keras' layers keep their prefix: a configuration refers to them.
    start = "" if dialect.layout == "keras" else prefix
    apart = tuple(f"{other}{separator}" for other in others if other and len(other) > len(prefix))
    inside = {
        name.removeprefix(start): tensor
        for name, tensor in checkpoint.tensors.items()
        if name.startswith(prefix) and not (apart and name.startswith(apart))
    }
    outside = tuple(
        name for name in checkpoint.tensors if not name.startswith(prefix) or (apart and name.startswith(apart))
    )
    tensors: dict[str, NamedTensor] = {}
    unknown, ignored = [], []
    for name, tensor in inside.items():
        layer, _, last = (
            name.removeprefix(prefix if not start else "").removeprefix(dialect.prefix).rpartition(separator)
        )
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
    weighted = {name.rpartition(separator)[0] for name in inside}
    lists_all = dialect is dialects()["reszoo"] and weighted < checkpoint.layers
    layers = checkpoint.layers if lists_all else frozenset()
    layers = frozenset(layer.removeprefix(prefix) for layer in layers)
    part = _part(checkpoint, inside, prefix) if start or outside else checkpoint
    result = Translated(part, dialect, tensors, tuple(unknown), tuple(ignored), layers, prefix)
    return replace(result, outside=outside, others=others)


def _part(checkpoint: Checkpoint, inside: dict[str, Tensor], prefix: str) -> Checkpoint:
    """Returns one network of a checkpoint by itself, with its names alone."""
    label = prefix.rstrip("./")
    attributes = {
        path.removeprefix(prefix) if path != label else "": settings
        for path, settings in checkpoint.attributes.items()
        if path == label or path.startswith(prefix)
    }
    return replace(checkpoint, tensors=inside, attributes=attributes)


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
