"""The networks that a state dict of unknown names fits: PyTorch lists layers in the order of construction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise, permutations, product
from typing import NamedTuple

from reszoo.errors import ReszooError
from reszoo.weights.formats.checkpoint import Checkpoint, Tensor, common_parts

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


BY_HAND = "if the zoo can describe it, pass the names in the file: names={'stem_conv': 'conv_1', ...}"
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


class Block(NamedTuple):
    """The layers of one block; a norm is that of the layer with the same number."""

    units: tuple[Layer, ...]
    norms: tuple[Layer, ...]
    shortcut: Layer | None
    shortcut_norm: Layer | None

    @property
    def width(self) -> int:
        """Channels of its output."""
        return self.units[-1].width

    @property
    def names(self) -> list[str]:
        """Names of its layers, without those of the shortcut."""
        return [layer.name for layer in (*self.units, *self.norms)]


class Reading(NamedTuple):
    """One way to read a list of layers as a network."""

    order: str
    """post or pre."""
    stem: tuple[Layer, ...]
    blocks: tuple[Block, ...]
    final: Layer | None
    dense: tuple[Layer, ...]


def readings(layers: list[Layer]) -> Iterator[Reading]:
    """Yields every network that the layers fit."""
    end = next((number for number, layer in enumerate(layers) if layer.kind == "dense"), len(layers))
    trunk, dense = layers[:end], tuple(layers[end:])
    if not trunk or trunk[0].kind != "conv" or any(layer.kind != "dense" for layer in dense):
        return
    if dense and dense[0].variables["weight"].shape[1] not in (trunk[-1].width, _last_conv(trunk).width):
        return
    for form in _forms(has_norms=any(layer.kind == "norm" for layer in trunk)):
        for stem in _stems(trunk, order=form.order):
            blocks = _blocks(trunk[len(stem) :], stem[-1].width, form)
            if not blocks:
                continue
            used = len(stem) + sum(_length(block) for block in blocks)
            reading = Reading(form.order, stem, tuple(blocks), trunk[used] if used < len(trunk) else None, dense)
            if _is_uniform(reading) and _is_nested(reading, layers):
                yield reading


class _Form(NamedTuple):
    """What all blocks of a network have in common."""

    order: str
    units: int
    projects: str
    """Which blocks have a shortcut with weights: `none`, `all`, those that `widen`, or these and the `first`."""
    shortcut_first: bool
    """Whether it is listed before the units; else it is behind them."""
    shortcut_norm: bool
    norms: bool


def _forms(*, has_norms: bool) -> Iterator[_Form]:
    for order, units, projects in product(("post", "pre"), (2, 3, 4), ("none", "all", "widen", "first")):
        for first, norm in product((True, False), (True, False)):
            # Without shortcuts, or without norms, these are the same.
            is_double = (projects == "none" and (first or norm)) or (norm and (order == "pre" or not has_norms))
            if not is_double and (has_norms or order == "post"):
                yield _Form(order, units, projects, first, norm, has_norms)


def _stems(trunk: Sequence[Layer], *, order: str) -> Iterator[tuple[Layer, ...]]:
    """Yields a convolution, one with a norm, and, where units end with norms, three with their norms."""
    yield (trunk[0],)
    for depth in (1, 3) if order == "post" else (1,):
        stem = tuple(trunk[: 2 * depth])
        kinds, widths = [layer.kind for layer in stem], [layer.width for layer in stem]
        is_normed = kinds == ["conv", "norm"] * depth and widths[::2] == widths[1::2]
        if is_normed and all(other.width_in == one.width for one, other in pairwise(stem[::2])):
            yield stem


def _last_conv(trunk: Sequence[Layer]) -> Layer:
    return [layer for layer in trunk if layer.kind == "conv"][-1]


def _blocks(layers: Sequence[Layer], width: int, form: _Form) -> list[Block] | None:
    """Returns the blocks that the layers form, read from the front; a last norm may remain in a pre-activation net."""
    blocks: list[Block] = []
    place = 0
    while place < len(layers):
        rest = layers[place:]
        if form.order == "pre" and len(rest) == 1 and rest[0].kind == "norm" and rest[0].width == width:
            return blocks
        block = _block(rest, width, form, projects=_projects(rest, width, form, is_first=not blocks))
        if block is None:
            return None
        blocks.append(block)
        place += _length(block)
        width = block.width
    return blocks


def _projects(layers: Sequence[Layer], width: int, form: _Form, *, is_first: bool) -> bool:
    """Whether the next block has a shortcut with weights."""
    if form.projects == "first" and is_first:
        return True
    if form.projects in ("none", "all"):
        return form.projects == "all"
    block = _block(layers, width, form, projects=True)
    return block is not None and block.width != width


def _block(layers: Sequence[Layer], width: int, form: _Form, *, projects: bool) -> Block | None:
    """Returns the block at the beginning of the layers, or None."""
    convs = form.units + projects
    norms = (form.units + (projects and form.shortcut_norm)) if form.norms else 0
    part = layers[: convs + norms]
    kernels = [layer for layer in part if layer.kind == "conv"]
    scales = [layer for layer in part if layer.kind == "norm"]
    if (len(kernels), len(scales)) != (convs, norms):
        return None
    shortcut = kernels.pop(0 if form.shortcut_first else -1) if projects else None
    shortcut_norm = None
    if shortcut is not None and norms > form.units:
        place = part.index(shortcut) + 1
        follows = place < len(part) and part[place].kind == "norm"
        # Norms listed after all convolutions are in the order of these.
        shortcut_norm = part[place] if follows and _alternates(part) else scales[0 if form.shortcut_first else -1]
        scales.remove(shortcut_norm)
    block = Block(tuple(kernels), tuple(scales), shortcut, shortcut_norm)
    return block if _is_chain(block, width, form) else None


def _alternates(part: Sequence[Layer]) -> bool:
    return all(one.kind != other.kind for one, other in pairwise(part))


def _is_chain(block: Block, width: int, form: _Form) -> bool:
    """Whether every layer reads what the one before it gives, and every norm has the width of its place."""
    inputs = [width, *(unit.width for unit in block.units[:-1])]
    if any(wide % unit.width_in for wide, unit in zip(inputs, block.units, strict=True)):
        return False
    if any(wide != unit.width_in and unit.kernel == 1 for wide, unit in zip(inputs, block.units, strict=True)):
        return False
    widths = [unit.width for unit in block.units] if form.order == "post" else inputs
    if form.norms and [norm.width for norm in block.norms] != widths:
        return False
    if block.shortcut is None:
        return True
    if (block.shortcut.width_in, block.shortcut.width) != (width, block.width):
        return False
    return block.shortcut_norm is None or block.shortcut_norm.width == block.width


def _length(block: Block) -> int:
    return len(block.names) + (block.shortcut is not None) + (block.shortcut_norm is not None)


def _is_uniform(reading: Reading) -> bool:
    """Whether all blocks have the same windows, and shortcuts have weights wherever blocks widen, or nowhere."""
    blocks = reading.blocks
    windows = {tuple((unit.kernel, "bias" in unit.variables) for unit in block.units) for block in blocks}
    widths = [reading.stem[-1].width, *(block.width for block in blocks)]
    widens = [one != other for one, other in pairwise(widths)]
    projects = [block.shortcut is not None for block in blocks]
    return len(windows) == 1 and (not any(projects) or all(projects[i] for i, wide in enumerate(widens) if wide))


def _is_nested(reading: Reading, layers: list[Layer]) -> bool:
    """Whether no module that holds layers lies partly in a block and partly outside of it, and all blocks are alike.

    Blocks that are modules stand beside others that are none where layers of several kinds follow each other.
    """
    homes = [module_of(block.names) for block in reading.blocks]
    if any(not one or other.startswith(f"{one}.") for one, other in permutations({*homes}, 2)):
        return False
    places = {layer.name: number for number, layer in enumerate(layers)}
    modules: dict[str, list[int]] = {}
    for name in places:
        words = name.split(".")
        for module in accumulate(words[:-1], lambda one, other: f"{one}.{other}"):
            modules.setdefault(module, []).append(places[name])
    holders = {name.rpartition(".")[0] for name in places} - {""}
    parts = [{places[layer.name] for layer in reading.stem}]
    for block in reading.blocks:
        own = {places[name] for name in block.names}
        own |= {places[each.name] for each in (block.shortcut, block.shortcut_norm) if each is not None}
        parts.append(own)
    for module in holders:
        inside = {*modules[module]}
        if any(inside & part and not inside <= part and not part <= inside for part in parts):
            return False
    return True


def module_of(names: Sequence[str]) -> str:
    """Returns the name of the innermost module that holds all layers."""
    return ".".join(common_parts([name.split(".")[:-1] for name in names]))
