"""Checkpoints whose layers are recognized without their names: by a Keras graph, or by order and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from reszoo.weights.dialects import IGNORED, Dialect
from reszoo.weights.foreign import NOTHING
from reszoo.weights.formats.checkpoint import Checkpoint, Tensor
from reszoo.weights.graph import ReadGraph, read_graph
from reszoo.weights.head import Linear
from reszoo.weights.layer_list import variables_of
from reszoo.weights.order import read_order
from reszoo.weights.translated import NamedTensor, Translated, in_keras_layout, network_name, with_constants


def from_graph(checkpoint: Checkpoint, named: Translated, *, is_known: bool) -> Translated:
    """Returns a checkpoint with our names by the graph of its Keras model.

    Args:
        checkpoint: the file.
        named: the same by the names of its layers.
        is_known: whether these are the names of a library.
    """
    where, config = str(checkpoint.path), checkpoint.config
    read = read_graph(config, name=network_name(checkpoint.path), where=where)
    theirs = {layer: ours for ours, layer in read.layers.items()}
    head = _linear_head(read, checkpoint.tensors)
    head_names = {linear.name for linear in head}
    tensors, unknown = {}, []
    for name, tensor in checkpoint.tensors.items():
        layer, _, variable = name.rpartition("/")
        if layer in theirs:
            if "HDF5" not in checkpoint.container and layer in read.norms:
                # Numbered variables were named as if the norm had all of them.
                variable = dict(zip(_NUMBERED, read.norms[layer], strict=False)).get(variable, variable)
            tensors[f"{theirs[layer]}/{variable}"] = NamedTensor(tensor, name)
        elif layer not in head_names:
            unknown.append(name)
    dialect = Dialect(title="a Keras model read through its graph", layout="keras", names={})
    if is_known:
        dialect = named.dialect
    result = Translated(checkpoint, dialect, tensors, tuple(unknown), (), frozenset())
    behind = {step.name for step in read.head} - head_names
    foreign = NOTHING._replace(head=tuple(name for name in unknown if name.rpartition("/")[0] in behind))
    notes = (f"left out behind the trunk: {', '.join(sorted(behind))}",) if behind else ()
    result = replace(result, spec=read.spec, is_inferred=not is_known, head=head, foreign=foreign, notes=notes)
    return with_constants(result)


_NUMBERED = ("gamma", "beta", "moving_mean", "moving_variance")


def from_order(named: Translated) -> Translated:
    """Returns a checkpoint with our names by the order and shapes of its tensors."""
    checkpoint = named.checkpoint
    layers = {theirs: ours for ours, theirs in read_order(checkpoint).items()}
    tensors, unknown = {}, []
    for name, tensor in checkpoint.tensors.items():
        layer, _, variable = name.rpartition(".")
        if layer not in layers:
            unknown.append(name)
        elif variable not in IGNORED:
            ours = layers[layer]
            tensors[f"{ours}/{variables_of(ours)[variable]}"] = NamedTensor(in_keras_layout(ours, tensor), name)
    dialect = Dialect(title="unknown names, read by the order and shapes of the tensors", activation="linear", names={})
    ignored = tuple(name for name in checkpoint.tensors if name.rpartition(".")[2] in IGNORED)
    result = replace(named, dialect=dialect, tensors=tensors, unknown=tuple(unknown), ignored=ignored)
    return with_constants(replace(result, is_inferred=True))


def _linear_head(read: ReadGraph, tensors: Mapping[str, Tensor]) -> tuple[Linear, ...]:
    """Returns the linear layers of a head that reads averaged features; none if it has other layers."""
    steps = [*read.head]
    if steps and steps[-1].kind == "act" and steps[-1].settings["variant"] == read.spec.head.activation:
        steps.pop()
    is_linear = all(step.kind == "dense" or step.settings.get("variant") == "relu" for step in steps)
    if not steps or not is_linear or read.pooling != "avg" or (steps[0].kind, steps[-1].kind) != ("dense", "dense"):
        return ()
    head = []
    for number, step in enumerate(steps):
        if step.kind == "dense" and f"{step.name}/kernel" in tensors:
            bias = tensors.get(f"{step.name}/bias")
            follows = steps[number + 1].kind == "act" if number + 1 < len(steps) else False
            head.append(Linear(step.name, tensors[f"{step.name}/kernel"], bias, follows))
    return tuple(head)
