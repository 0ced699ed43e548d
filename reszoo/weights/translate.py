"""Translates checkpoints: detects the dialect, and renames tensors to our names in Keras layout."""

from __future__ import annotations

import glob
import re
from dataclasses import replace
from fnmatch import fnmatch
from typing import Any

from reszoo.errors import ReszooError
from reszoo.weights import infer
from reszoo.weights.dialects import IGNORED, Dialect, LayerNames as LayerNames, candidates, check_names, dialects
from reszoo.weights.formats.checkpoint import Checkpoint, Tensor
from reszoo.weights.graph import NoResidualGraphError
from reszoo.weights.head import placed, with_notes
from reszoo.weights.select import Network, by_dicts, chosen, inner_networks, networks, restricted
from reszoo.weights.state_dicts import by_layers, check_parts, in_order, in_torch_words, restored
from reszoo.weights.translated import (
    NamedTensor as NamedTensor,
    Translated as Translated,
    in_keras_layout,
    likely_kind,
    network_name as network_name,
    with_constants,
)
from reszoo.weights.unnamed import NoSpecError, from_graph, from_order

HARMLESS = {"in_chans", "num_classes", "drop_rate", "drop_path_rate", "zero_init_last", "global_pool"}
"""Arguments of timm's builders that do not change what the weights compute, or that shapes reveal."""


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
    _check_file(checkpoint)
    checkpoint = in_torch_words(restored(by_layers(checkpoint)))
    part = restricted(checkpoint, key=key, prefix=prefix)
    known = candidates(checkpoint, names)
    located = networks(part, known) or by_dicts(part)
    network = chosen(part, located)
    others = tuple(other.label for other in located if other is not network)
    best = max(
        (_translate(part, dialect, network, others) for dialect in network.dialects or known),
        key=lambda translated: len(translated.tensors),
    )
    if best.dialect.layout == "torch":
        best = replace(best, tensors=in_keras_layout(best.tensors))
    where, dialect = str(checkpoint.path), best.dialect
    check_parts(checkpoint, best.unknown)
    _check_numbers(best)
    if names is not None:
        check_names(best.checkpoint, names, best.prefix)
    is_known = len(best.tensors) >= max(2, len(best.unknown))
    is_ours = is_known and dialect is dialects()["reszoo"] and checkpoint.container != "ONNX"
    if _has_graph(checkpoint) and not is_ours and not (is_known and dialect.refuse):
        try:
            return from_graph(checkpoint, best, is_known=is_known)
        except NoResidualGraphError:
            # Plain networks are recognised by their names.
            if not is_known:
                raise
    if not is_known and (kind := likely_kind(best.unknown)):
        raise ReszooError(where, got=kind, expected="a residual network", hint="the zoo has no such network")
    if names is None and not is_known:
        _check_types(checkpoint)
        best = _unnamed(best, part, network, others)
        return replace(placed(best, part), checkpoint=with_notes(best, part))
    if dialect.refuse:
        raise ReszooError(where, got=f"weights of {dialect.title}", hint=dialect.refuse)
    result = placed(with_constants(best), part)
    result = replace(result, dialect=_apply_config(checkpoint, dialect), checkpoint=with_notes(result, part))
    if names is not None or dialect.layout != "torch":
        return result
    if not _is_network(result):
        return _by_order(best, part) or result
    if any(name.endswith(".running_mean") for name in result.foreign.head):
        # A norm behind the last block may be one of the network that its library's networks do not have.
        other = _by_order(best, part)
        return other if other is not None and "final_norm/gamma" in other.tensors else result
    return result


def _is_network(translated: Translated) -> bool:
    try:
        return bool(infer.specs(translated))
    except ReszooError:
        return False


def _by_order(named: Translated, whole: Checkpoint) -> Translated | None:
    """Returns a network whose names are those of a library for other networks, by its order; None if that fails.

    Raises:
        NoSpecError: its order tells that no spec describes it.
    """
    try:
        result = placed(from_order(named), whole)
        return replace(result, checkpoint=with_notes(result, whole)) if _is_network(result) else None
    except NoSpecError:
        raise
    except ReszooError:
        return None


def _unnamed(best: Translated, part: Checkpoint, network: Network, others: tuple[str, ...]) -> Translated:
    """Returns a network of unknown names: of all tensors, or of a module with most kernels that reads images.

    Raises:
        ReszooError: neither is a residual network.
    """
    try:
        return from_order(replace(best, checkpoint=in_order(best.checkpoint)))
    except NoSpecError:
        raise
    except ReszooError:
        for inner in inner_networks(part, network):
            try:
                result = from_order(_translate(part, dialects()["torchvision"], inner, others))
            except ReszooError:
                continue
            # The first layer of a module behind the stem reads more channels.
            if result.tensors["stem_conv/kernel"].tensor.shape[2] <= _COLORS:
                return result
        raise


_COLORS = 4
"""Most channels of images: RGB and one more."""


def _check_file(checkpoint: Checkpoint) -> None:
    """Checks that a file is no part of another.

    Raises:
        ReszooError: its name says so.
    """
    part = re.search(r"-(\d{5})-of-(\d{5})", checkpoint.path.name)
    if part and part[2] != "00001":
        stem = checkpoint.path.name[: part.start()]
        index = sorted(path.name for path in checkpoint.path.parent.glob(f"{glob.escape(stem)}*.index.json"))
        hint = f"load {index[0] if index else 'the index of the parts, *.index.json,'} instead"
        raise ReszooError(str(checkpoint.path), got=f"part {int(part[1])} of {int(part[2])}", hint=hint)


def _check_numbers(translated: Translated) -> None:
    """Checks that the kernels are those of a network of images, in floating point.

    Raises:
        ReszooError: they are not.
    """
    where = str(translated.checkpoint.path)
    for name, (tensor, source) in translated.tensors.items():
        if not name.endswith("/kernel"):
            continue
        axes = len(tensor.shape) - (2 if name.endswith("_conv/kernel") else len(tensor.shape))
        if axes == 3:
            hint = "the zoo has networks of images"
            raise ReszooError(where, got=f"3-D convolutions, of video or volumes ({source})", hint=hint)
        if axes == 1 and not name.endswith("_eca_conv/kernel"):
            hint = "the zoo has networks of images"
            raise ReszooError(where, got=f"1-D convolutions, of sequences ({source})", hint=hint)
        if len(tensor.shape) == 4 and tensor.shape[0] != tensor.shape[1]:
            is_first = tensor.shape[2] == tensor.shape[3]
            got = "kernels in the order of Theano, channels first" if is_first else f"kernels of {tensor.shape[:2]}"
            raise ReszooError(where, got=f"{got} ({source})", expected="square kernels, channels last")
        if tensor.dtype not in ("float16", "bfloat16", "float32", "float64"):
            got = f"a quantized network: {source} has whole numbers ({tensor.dtype})"
            raise ReszooError(where, got=got, expected="weights in floating point")


_TYPES = re.compile(r"torch\.(\w+Storage|float8\w*|complex\d+|_utils\._rebuild_(?!parameter)\w+)")


def _check_types(checkpoint: Checkpoint) -> None:
    """Checks that no kernels of a file are of a type that is not read.

    Raises:
        ReszooError: some are.
    """
    others = [(name, kind) for name, kind in checkpoint.aside.items() if name.endswith("weight") and _TYPES.match(kind)]
    if others:
        got = f"{len(others)} weights of a type that is not read ({others[0][0]}: {others[0][1]})"
        hint = "convert them before saving: {name: tensor.to_dense().float() ...}"
        raise ReszooError(str(checkpoint.path), got=got, expected="dense tensors in floating point", hint=hint)


def _has_graph(checkpoint: Checkpoint) -> bool:
    """Returns whether the file has the configuration of a Keras model of stock layers."""
    inner = checkpoint.config.get("config")
    return isinstance(inner, list) or (isinstance(inner, dict) and isinstance(inner.get("layers"), list))


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
    own = {name.removeprefix("" if start else prefix): name for name in inside}
    targets = dialect.targets(own)
    tensors = {target: NamedTensor(inside[own[name]], own[name]) for name, target in targets.items()}
    ignored = [name for name in inside if name.rpartition(separator)[2] in IGNORED]
    known = {*(named.source for named in tensors.values()), *ignored}
    unknown = [name for name in inside if name not in known]
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


def _apply_config(checkpoint: Checkpoint, dialect: Dialect) -> Dialect:
    """Returns the dialect with the changes that the file's `config.json` and layers imply."""
    where, config = f"{checkpoint.path}: config.json", checkpoint.config
    architecture = config.get("architecture") or next(iter(config.get("architectures") or []), None)
    patterns = dialect.architectures
    is_other = isinstance(architecture, str) and not any(fnmatch(architecture, pattern) for pattern in patterns or ())
    if patterns is not None and is_other:
        got = f"architecture {architecture!r}, whose weights have the names of {dialect.title}"
        reasons = (reason for pattern, reason in dialect.obstacles.items() if fnmatch(str(architecture), pattern))
        hint = next(reasons, "this is another network")
        raise ReszooError(where, got=got, expected=", ".join(patterns) or "none", hint=hint)
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
