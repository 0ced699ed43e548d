"""Checkpoints whose layers are recognized without their names: by a Keras graph, or by order and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from reszoo.errors import ReszooError
from reszoo.weights.dialects import IGNORED, TORCH, Dialect
from reszoo.weights.formats.checkpoint import Checkpoint, Tensor
from reszoo.weights.graph import ReadGraph, read_graph
from reszoo.weights.head import NORMALIZES
from reszoo.weights.order import BY_HAND, Reading, layers_of, module_of, readings
from reszoo.weights.translated import (
    NOTHING,
    Linear,
    NamedTensor,
    Translated,
    in_keras_layout,
    network_name,
    with_constants,
)


class NoSpecError(ReszooError):
    """A network whose order of layers is known, but which no spec describes."""


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
            if theirs[layer].endswith("_conv") and len(tensor.shape) == 2:
                tensor = tensor.reshaped((1, 1, *tensor.shape))
            tensors[f"{theirs[layer]}/{variable}"] = NamedTensor(tensor, name)
        elif layer not in head_names:
            unknown.append(name)
    dialect = Dialect(title="a Keras model read through its graph", layout="keras", names={})
    if is_known:
        dialect = named.dialect
    result = Translated(checkpoint, dialect, tensors, tuple(unknown), (), frozenset())
    behind = {step.name for step in read.head} - head_names
    beside = tuple(name for name in unknown if name.rpartition("/")[0] in read.normalizers)
    foreign = NOTHING._replace(head=tuple(name for name in unknown if name.rpartition("/")[0] in behind), beside=beside)
    notes = [f"left out behind the trunk: {', '.join(sorted(behind))}"] if behind else []
    if read.normalizers:
        notes.append(f"{NORMALIZES} ({', '.join(read.normalizers)}); the model does not")
    result = replace(result, spec=read.spec, is_inferred=not is_known, head=head, foreign=foreign, notes=tuple(notes))
    return with_constants(result)


_NUMBERED = ("gamma", "beta", "moving_mean", "moving_variance")


def from_order(named: Translated) -> Translated:
    """Returns a checkpoint with our names by the order and shapes of its tensors."""
    checkpoint = named.checkpoint
    layers = {theirs: ours for ours, theirs in _read_order(checkpoint).items()}
    tensors, unknown = {}, []
    for name, tensor in checkpoint.tensors.items():
        layer, _, variable = name.rpartition(".")
        if layer not in layers:
            unknown.append(name)
        elif variable not in IGNORED:
            ours = layers[layer]
            tensors[f"{ours}/{_variables_of(ours)[variable]}"] = NamedTensor(tensor, name)
    title = "unknown names, read by the order and shapes of the tensors"
    projections = [theirs for theirs, ours in layers.items() if ours.endswith("_shortcut_conv")]
    # A layer without weights stands before them: the average pool of ResNet-D.
    is_pooled = bool(projections) and all(name.endswith(".1") for name in projections)
    settings = {"shortcut": "pool_project"} if is_pooled else {}
    dialect = Dialect.model_validate({"title": title, "activation": "linear", "names": {}, **settings})
    ignored = tuple(name for name in checkpoint.tensors if name.rpartition(".")[2] in IGNORED)
    result = replace(named, dialect=dialect, tensors=in_keras_layout(tensors), unknown=tuple(unknown), ignored=ignored)
    return with_constants(replace(result, is_inferred=True))


def _read_order(checkpoint: Checkpoint) -> dict[str, str]:
    """Returns our name of every layer in a state dict of unknown names: our layer -> theirs.

    Raises:
        ReszooError: the tensors are not listed in the order of construction, or no or several networks fit them.
    """
    where = str(checkpoint.path)
    layers = layers_of(checkpoint, where)
    # The first convolution of grey images has one input channel, too.
    convs = [layer for layer in layers if layer.kind == "conv"]
    if depthwise := [conv for conv in convs[1:] if conv.width_in == 1 < conv.width and conv.kernel > 1]:
        got = f"a network with a convolution of every channel by itself ({depthwise[0].name})"
        raise NoSpecError(where, got=got, expected="a residual network", hint="the zoo has no such network")
    # A head of other layers than one linear one, such as fastai's, is behind the last convolution and its norms.
    end = max((number for number, layer in enumerate(layers, 1) if layer.kind == "conv"), default=0)
    options = next(filter(None, ([*readings(layers[:cut])] for cut in range(len(layers), end - 1, -1))), [])
    if not options:
        kinds = [layer.kind for layer in layers]
        count = ", ".join(f"{kinds.count(kind)} {word}" for kind, word in _KINDS.items())
        got = f"names of no known library ({layers[0].name}, ...), and no known order of its layers: {count}"
        raise ReszooError(where, got=got, expected="stem, blocks of equal kind, classifier", hint=BY_HAND)
    best = max(_fit(reading) for reading in options)
    chosen = [reading for reading in options if _fit(reading) == best]
    if len({tuple(_named(reading).items()) for reading in chosen}) > 1:
        words = "; ".join(dict.fromkeys(map(_described, chosen)))
        got = f"names of no known library, and layers that fit several networks ({words})"
        raise ReszooError(where, got=got, hint=BY_HAND)
    _refuse(chosen[0], where)
    return _named(chosen[0])


def _described(reading: Reading) -> str:
    kernels = "-".join(str(unit.kernel) for unit in reading.blocks[0].units)
    place = {"post": "behind", "pre": "before"}[reading.order]
    widths = ", ".join(dict.fromkeys(str(block.width) for block in reading.blocks))
    return f"{len(reading.blocks)} blocks of {kernels}, norms {place} the convolutions, widths {widths}"


_KINDS = {"conv": "of convolution", "norm": "of normalization", "dense": "linear"}


def _fit(reading: Reading) -> tuple[int, int, int]:
    """Returns how well a reading fits: whether blocks are modules, the usual number of units, a short stem."""
    modules = [module_of(block.names) for block in reading.blocks]
    alone = len({*modules}) == len(modules) and all(modules)
    kernels = [unit.kernel for unit in reading.blocks[0].units]
    return int(alone), int(kernels in ([3, 3], [1, 3, 1])), -sum(layer.kind == "conv" for layer in reading.stem)


def _refuse(reading: Reading, where: str) -> None:
    """Refuses networks that no spec describes, by name.

    Raises:
        NoSpecError: it is one of these.
    """
    unknown = "by the order of its tensors, a network with"
    wide = [block.shortcut for block in reading.blocks if block.shortcut is not None and block.shortcut.kernel > 1]
    if wide:
        got = f"{unknown} projections of {wide[0].kernel}x{wide[0].kernel} ({wide[0].name})"
        raise NoSpecError(where, got=got, expected="projections of 1x1")
    for block in reading.blocks:
        if len(block.units) == 2 and block.units[0].width != block.units[1].width and block.units[0].kernel > 1:
            got = f"{unknown} a block that widens in its last convolution ({block.units[1].name})"
            hint = "the place of its stride is not known"
            raise NoSpecError(where, got=got, expected="blocks that widen in their first convolution", hint=hint)


def _named(reading: Reading) -> dict[str, str]:
    """Returns our layer -> theirs."""
    stems = [f"stem_unit{number + 1}" for number in range(3)] if len(reading.stem) > 2 else ["stem"]
    names = [f"{stem}_{kind}" for stem in stems for kind in ("conv", "norm")]
    named = {ours: layer.name for ours, layer in zip(names, reading.stem, strict=False)}
    projects_all = all(block.shortcut is not None for block in reading.blocks)
    stage, number, width = 0, 0, None
    for block in reading.blocks:
        if block.width != width or (block.shortcut is not None and not projects_all):
            stage, number, width = stage + 1, 0, block.width
        number += 1
        ours = f"stage{stage}_block{number}_"
        for place, unit in enumerate(block.units, 1):
            named[f"{ours}unit{place}_conv"] = unit.name
        for place, norm in enumerate(block.norms, 1):
            named[f"{ours}unit{place}_norm"] = norm.name
        if block.shortcut is not None:
            named[f"{ours}shortcut_conv"] = block.shortcut.name
        if block.shortcut_norm is not None:
            named[f"{ours}shortcut_norm"] = block.shortcut_norm.name
    if reading.final is not None:
        named["final_norm"] = reading.final.name
    if len(reading.dense) == 1:
        named["predictions"] = reading.dense[0].name
    return named


def _variables_of(layer: str) -> dict[str, str]:
    """Returns PyTorch's name of a variable in one of our layers -> Keras'."""
    return {theirs: ours for ours, theirs in TORCH["norm" if layer.endswith("_norm") else "conv"].items()}


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
