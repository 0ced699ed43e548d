"""A state dict of unknown names, read by order and shapes: PyTorch lists layers in the order of construction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise, product
from typing import NamedTuple

from reszoo.errors import ReszooError
from reszoo.weights.formats.checkpoint import Checkpoint
from reszoo.weights.layer_list import BY_HAND, Layer, layers_of


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


def read_order(checkpoint: Checkpoint) -> dict[str, str]:
    """Returns our name of every layer in a state dict of unknown names: our layer -> theirs.

    Raises:
        ReszooError: the tensors are not listed in the order of construction, or no or several networks fit them.
    """
    where = str(checkpoint.path)
    layers = layers_of(checkpoint, where)
    readings = [*_readings(layers)]
    if not readings:
        kinds = [layer.kind for layer in layers]
        count = ", ".join(f"{kinds.count(kind)} {word}" for kind, word in _KINDS.items())
        got = f"names of no known library ({layers[0].name}, ...), and no known order of layers: {count}"
        raise ReszooError(where, got=got, expected="stem, blocks of equal kind, classifier", hint=BY_HAND)
    best = max(_fit(reading) for reading in readings)
    chosen = [reading for reading in readings if _fit(reading) == best]
    if len({tuple(_named(reading).items()) for reading in chosen}) > 1:
        options = "; ".join(f"{each.order}, blocks of {len(each.blocks[0].units)}" for each in chosen[:3])
        got = f"names of no known library, and layers that fit several networks ({options})"
        raise ReszooError(where, got=got, hint=BY_HAND)
    _refuse(chosen[0], where)
    return _named(chosen[0])


_KINDS = {"conv": "convolutions", "norm": "norms", "dense": "linear layers"}


def _readings(layers: list[Layer]) -> Iterator[Reading]:
    """Yields every network that the layers fit."""
    end = next((number for number, layer in enumerate(layers) if layer.kind == "dense"), len(layers))
    trunk, dense = layers[:end], tuple(layers[end:])
    if not trunk or trunk[0].kind != "conv" or any(layer.kind != "dense" for layer in dense):
        return
    if dense and dense[0].variables["weight"].shape[1] not in (trunk[-1].width, _last_conv(trunk).width):
        return
    for form in _forms(has_norms=any(layer.kind == "norm" for layer in trunk)):
        for stem in _stems(trunk, order=form.order):
            blocks = _blocks(trunk[len(stem) :], stem[0].width, form)
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
    for order, units, projects in product(("post", "pre"), (1, 2, 3, 4), ("none", "all", "widen", "first")):
        for first, norm in product((True, False), (True, False)):
            # Without shortcuts, or without norms, these are the same.
            is_double = (projects == "none" and (first or norm)) or (norm and (order == "pre" or not has_norms))
            if not is_double and (has_norms or order == "post"):
                yield _Form(order, units, projects, first, norm, has_norms)


def _stems(trunk: Sequence[Layer], *, order: str) -> Iterator[tuple[Layer, ...]]:
    yield (trunk[0],)
    if order == "post" and len(trunk) > 1 and trunk[1].kind == "norm" and trunk[1].width == trunk[0].width:
        yield (trunk[0], trunk[1])


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
    widths = [_stem_width(reading), *(block.width for block in blocks)]
    widens = [one != other for one, other in pairwise(widths)]
    projects = [block.shortcut is not None for block in blocks]
    return len(windows) == 1 and (not any(projects) or all(projects[i] for i, wide in enumerate(widens) if wide))


def _stem_width(reading: Reading) -> int:
    return reading.stem[0].width


def _is_nested(reading: Reading, layers: list[Layer]) -> bool:
    """Whether no module that holds layers lies partly in a block and partly outside of it."""
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


def _fit(reading: Reading) -> tuple[int, int]:
    """Returns how well a reading fits the modules: the share of blocks that are one, then the usual number of units."""
    modules = [_module(block.names) for block in reading.blocks]
    alone = len({*modules}) == len(modules) and all(modules)
    kernels = [unit.kernel for unit in reading.blocks[0].units]
    return int(alone), int(kernels in ([3, 3], [1, 3, 1]))


def _module(names: Sequence[str]) -> str:
    """Returns the name of the innermost module that holds all layers."""
    common: list[str] = []
    for parts in zip(*(name.split(".")[:-1] for name in names), strict=False):
        if len({*parts}) > 1:
            break
        common.append(parts[0])
    return ".".join(common)


def _refuse(reading: Reading, where: str) -> None:
    """Refuses networks that no spec describes, by name.

    Raises:
        ReszooError: it is one of these.
    """
    unknown = "names of no known library; by the order of its tensors, a network with"
    wide = [block.shortcut for block in reading.blocks if block.shortcut is not None and block.shortcut.kernel > 1]
    if wide:
        got = f"{unknown} projections of {wide[0].kernel}x{wide[0].kernel} ({wide[0].name})"
        raise ReszooError(where, got=got, expected="projections of 1x1")
    if reading.order == "pre" and reading.final is None:
        got = f"{unknown} norms before the convolutions and none after the last block"
        raise ReszooError(where, got=got, expected="a norm after the last block")
    for block in reading.blocks:
        if len(block.units) == 2 and block.units[0].width != block.units[1].width and block.units[0].kernel > 1:
            got = f"{unknown} a block that widens in its last convolution ({block.units[1].name})"
            hint = "the place of its stride is not known"
            raise ReszooError(where, got=got, expected="blocks that widen in their first convolution", hint=hint)


def _named(reading: Reading) -> dict[str, str]:
    """Returns our layer -> theirs."""
    named = {"stem_conv": reading.stem[0].name}
    if len(reading.stem) > 1:
        named["stem_norm"] = reading.stem[1].name
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
