"""The layers in a state dict of unknown names, in the order in which PyTorch lists them: that of construction."""

from __future__ import annotations

from dataclasses import dataclass

from reszoo.errors import ReszooError
from reszoo.weights.dialects import TORCH
from reszoo.weights.formats.checkpoint import Checkpoint, Tensor

ORDER = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
"""The order in which PyTorch lists the tensors of a layer."""


@dataclass(frozen=True)
class Layer:
    """A layer in a state dict."""

    kind: str
    """conv, norm or dense."""
    name: str
    variables: dict[str, Tensor]

    @property
    def width(self) -> int:
        """Channels of its output."""
        return next(iter(self.variables.values())).shape[0]

    @property
    def width_in(self) -> int:
        """Channels that its kernel reads, in one group."""
        return self.variables["weight"].shape[1]

    @property
    def kernel(self) -> int:
        """Side of its window."""
        return self.variables["weight"].shape[2]


BY_HAND = "pass the names in the file: names={'stem_conv': 'conv_1', ...}"
"""The hint for files whose names and order are unknown."""


def layers_of(checkpoint: Checkpoint, where: str) -> list[Layer]:
    """Returns the layers of a state dict.

    Raises:
        ReszooError: a tensor belongs to no layer that the zoo has, or the tensors are sorted otherwise.
    """
    if "Keras" in checkpoint.container:
        got = "names of no known library in Keras weights, which store neither the graph nor the order of the layers"
        raise ReszooError(where, got=got, hint="save the whole model: model.save('model.keras')")
    groups: dict[str, dict[str, Tensor]] = {}
    last = ""
    for name, tensor in checkpoint.tensors.items():
        layer, _, variable = name.rpartition(".")
        if variable not in ORDER or "adder" in name:
            got = f"names of no known library, and a tensor {name!r} that belongs to no layer of the zoo"
            raise ReszooError(where, got=got, hint=BY_HAND)
        before = [ORDER.index(each) for each in groups.get(layer, ())]
        if (layer in groups and layer != last) or any(number > ORDER.index(variable) for number in before):
            got = "names of no known library, and tensors sorted by name"
            hint = f"save them in the order of construction (a state dict in a .pth), or {BY_HAND}"
            raise ReszooError(where, got=got, hint=hint)
        groups.setdefault(layer, {})[variable] = tensor
        last = layer
    return [_layer(name, variables, where) for name, variables in groups.items()]


def _layer(name: str, variables: dict[str, Tensor], where: str) -> Layer:
    weight = variables.get("weight")
    rank = len(weight.shape) if weight is not None else 1
    kind = {1: "norm", 2: "dense", 4: "conv"}.get(rank)
    if kind is None or (weight is None and "running_mean" not in variables):
        shape = next(iter(variables.values())).shape
        got = f"names of no known library, and a layer {name!r} of shape {shape}, which the zoo does not have"
        raise ReszooError(where, got=got)
    variables = {key: tensor for key, tensor in variables.items() if key != ORDER[-1]}
    return Layer(kind, name, variables)


def variables_of(layer: str) -> dict[str, str]:
    """Returns PyTorch's name of a variable in one of our layers -> Keras'."""
    return {theirs: ours for ours, theirs in TORCH["norm" if layer.endswith("_norm") else "conv"].items()}
