"""The place of a checkpoint's unknown tensors, and other heads as the network's classifier."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from reszoo.weights.foreign import foreign, grouped, is_beside, is_normalizer
from reszoo.weights.formats.checkpoint import Checkpoint, Tensor
from reszoo.weights.head import chain, checked, described
from reszoo.weights.translated import NamedTensor, Translated

NORMALIZES = "the network in the file normalizes images itself"
"""The beginning of a note that is also a warning."""

ASSUMES = "its activations are not stored in the file, assuming ReLU"
"""Part of such a note, too."""


def placed(translated: Translated, whole: Checkpoint) -> Translated:
    """Returns the network with its unknown tensors in their places, and a head of linear layers as its classifier."""
    translated = _with_bias(translated)
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
    layers = checked(layers, translated.checkpoint.attributes)
    if not layers:
        return translated
    unknown = tuple(name for name in translated.unknown if name not in names)
    outside = tuple(name for name in translated.outside if name not in names)
    translated = replace(translated, unknown=unknown, outside=outside, foreign=parts._replace(head=()))
    if len(layers) > 1 or layers[0].bias is None:
        return replace(translated, head=layers)
    separator = "/" if translated.dialect.layout == "keras" else "."
    added = {"kernel": layers[0].kernel, "bias": layers[0].bias}
    sources = {"kernel": "kernel" if separator == "/" else "weight", "bias": "bias"}
    classifier = {
        f"predictions/{variable}": NamedTensor(tensor, f"{layers[0].name}{separator}{sources[variable]}")
        for variable, tensor in added.items()
    }
    return replace(translated, tensors={**translated.tensors, **classifier})


def _with_bias(translated: Translated) -> Translated:
    """Returns the network with a bias of zeros for a classifier that has none."""
    kernel = translated.tensors.get("predictions/kernel")
    if kernel is None or "predictions/bias" in translated.tensors:
        return translated
    shape = kernel.tensor.shape[-1:]

    def zeros() -> Any:
        import numpy as np

        return np.zeros(shape, "float32")

    bias = NamedTensor(Tensor(shape, "float32", zeros), "")
    checkpoint = replace(
        translated.checkpoint, notes=(*translated.checkpoint.notes, "the classifier has no bias; zeros are placed")
    )
    return replace(translated, tensors={**translated.tensors, "predictions/bias": bias}, checkpoint=checkpoint)


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


def with_notes(translated: Translated, whole: Checkpoint) -> Checkpoint:
    """Returns the network's tensors with notes about where it was and what is left aside."""
    notes, label = [*translated.checkpoint.notes], translated.prefix.rstrip("./")
    others = ", ".join(map(repr, translated.others))
    if label or others:
        also = f"; also in the file: {others} (choose with key=...)" if others else ""
        notes.append(f"read from {repr(label) if label else 'the top level'}{also}")
    within = tuple(f"{other}{separator}" for other in translated.others for separator in "./")
    beside = [name for name in translated.outside if not within or not name.startswith(within)]
    beside += [f"{translated.prefix}{name}" for name in translated.foreign.beside]
    beside = [name for name in beside if name in whole.tensors]
    normalizers = [name for name in beside if is_normalizer(name, whole.tensors[name])]
    if normalizers:
        notes.append(f"{NORMALIZES} ({', '.join(normalizers)}); the model does not")
        beside = [name for name in beside if name not in normalizers]
    if beside:
        start = max((f"{one}." for one in whole.keys if one and label.startswith(one)), key=len, default="")
        within_dict = [name.removeprefix(start) for name in beside]
        notes.append(f"no part of the network: {grouped(within_dict)}")
    if translated.head:
        is_open = any(one.activation for one in translated.head) and not translated.checkpoint.attributes
        assumed = f"; {ASSUMES}" if is_open else ""
        notes.append(f"the head: {described(translated.head)}{assumed}")
    return replace(translated.checkpoint, notes=tuple(notes))
