"""A network of a checkpoint with our names: the result of a translation."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from reszoo.arch.spec import NetSpec
from reszoo.config import valid_name
from reszoo.weights.dialects import Dialect
from reszoo.weights.foreign import NOTHING, Foreign
from reszoo.weights.formats.checkpoint import Checkpoint, Tensor, constant


class Linear(NamedTuple):
    """A linear layer of a head."""

    name: str
    """Its name in the file."""
    kernel: Tensor
    """In Keras layout."""
    bias: Tensor | None
    activation: bool
    """Whether a ReLU follows."""


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
    spec: NetSpec | None = None
    """The network, if the file contains its graph."""
    is_inferred: bool = False
    """Whether the layers were recognised without their names."""
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Translated({self.checkpoint.path.name!r}, {self.dialect.title}, {len(self.tensors)} tensors)"


def network_name(path: Path) -> str:
    """Returns a name for the network in a file: that of the file."""
    return valid_name(path.name.partition(".")[0])


def in_keras_layout(tensors: Mapping[str, NamedTensor]) -> dict[str, NamedTensor]:
    """Returns tensors in PyTorch's layout, by our names, in that of Keras."""
    result = {}
    for target, (tensor, source) in tensors.items():
        if target == "predictions/kernel" and tensor.shape[2:] == (1, 1):
            # A classifier may be stored as a 1x1 convolution.
            tensor = tensor.reshaped(tensor.shape[:2])
        axes = {4: (2, 3, 1, 0), 3: (2, 1, 0), 2: (1, 0)}.get(len(tensor.shape))
        tensor = tensor.permuted(axes) if axes else tensor
        if target.endswith("_conv/kernel") and len(tensor.shape) == 2:
            # Layers that read single pixels, as those of squeeze-and-excitation, may be linear ones.
            tensor = tensor.reshaped((1, 1, *tensor.shape))
        result[target] = NamedTensor(tensor, source)
    return result


def in_torch_layout(tensor: Tensor) -> Tensor:
    """Returns a kernel in Keras' layout in that of PyTorch, and any other tensor as it is."""
    axes = TORCH_AXES.get(len(tensor.shape))
    return tensor.permuted(axes) if axes else tensor


TORCH_AXES = {4: (3, 2, 0, 1), 3: (2, 1, 0), 2: (1, 0)}
"""Number of axes of a kernel in Keras' layout -> the order of these axes in PyTorch."""


def with_constants(translated: Translated) -> Translated:
    """Returns a checkpoint whose norms have scales of one and shifts of zero, if the file has none for any of them."""
    translated = _with_squeeze_bias(translated)
    tensors = translated.tensors
    norms = {name.rpartition("/")[0]: named.tensor.shape for name, named in tensors.items() if name.endswith("_mean")}
    added: dict[str, NamedTensor] = {}
    for variable, value in (("gamma", 1.0), ("beta", 0.0)):
        if norms and not any(f"{layer}/{variable}" in tensors for layer in norms):
            added |= {f"{layer}/{variable}": NamedTensor(constant(shape, value), "") for layer, shape in norms.items()}
    if not added:
        return translated
    variables = " and ".join(sorted({name.rpartition("/")[2] for name in added}, reverse=True))
    note = f"the norms of the file have no {variables}: scales are one, shifts are zero"
    return replace(translated, tensors={**tensors, **added}, notes=(*translated.notes, note))


def _with_squeeze_bias(translated: Translated) -> Translated:
    """Returns a checkpoint whose squeeze-and-excitation has biases of zero, if the file has none of them."""
    tensors = translated.tensors
    layers = [name.rpartition("/")[0] for name in tensors if re.search(r"_se_(reduce|expand)_conv/kernel$", name)]
    if not layers or any(f"{layer}/bias" in tensors for layer in layers):
        return translated
    shapes = {layer: tensors[f"{layer}/kernel"].tensor.shape[-1:] for layer in layers}
    added = {f"{layer}/bias": NamedTensor(constant(shape, 0.0), "") for layer, shape in shapes.items()}
    note = "the layers of squeeze-and-excitation in the file have no biases: they are zero"
    return replace(translated, tensors={**tensors, **added}, notes=(*translated.notes, note))
