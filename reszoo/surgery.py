"""Changes to a trained network of reszoo: blocks put in, blocks taken out, the shortcuts taken out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from reszoo.arch.plan import plan
from reszoo.arch.recover import layers_by_name, spec_of
from reszoo.arch.spec import NetSpec
from reszoo.errors import ReszooError, UnknownNameError

if TYPE_CHECKING:
    import keras


def deepen(model: keras.Model, /, *, stage: int, blocks: int = 1) -> keras.Model:
    """Returns the network with more blocks at the end of a stage, which are the identity at first (He 2015, 3.1).

    The branches of the new blocks end with zero, so the outputs are bit for bit those of the model; then training goes
    on. After an addition that is activated (`post`) the identity holds because what comes in was activated already.

    Args:
        model: a residual network that reszoo built; it stays as it is.
        stage: from 1.
        blocks: how many to add.

    Raises:
        ReszooError: the model is not one of reszoo's, or is plain; there is no such stage; or no blocks are asked for.
    """
    spec = spec_of(model)
    if spec.block.shortcut == "none":
        mend = "deepen its residual twin"
        raise ReszooError(f"deepen: {spec.name}", given="a plain network", allowed="one with shortcuts", mend=mend)
    if spec.block.shortcut == "project_all":
        given, allowed = "shortcut project_all", "shortcuts that are the identity within a stage"
        raise ReszooError(f"deepen: {spec.name}", given=given, allowed=allowed)
    if not 1 <= stage <= len(spec.stages):
        raise ReszooError("deepen.stage", given=stage, allowed=f"1 to {len(spec.stages)}")
    if blocks < 1:
        raise ReszooError("deepen.blocks", given=blocks, allowed="at least 1")
    depths = [each.depth for each in spec.stages]
    had = depths[stage - 1]
    depths[stage - 1] += blocks
    made = _built(spec.replace(depths=depths), model, {})
    for number in range(had + 1, had + blocks + 1):
        _silence(made, spec, f"stage{stage}_block{number}_")
    return made


def drop_blocks(model: keras.Model, names: Iterable[str], /) -> keras.Model:
    """Returns the network without some blocks, the others with their weights.

    Args:
        model: a network that reszoo built; it stays as it is.
        names: of blocks, such as `stage2_block3`. The first block of a stage changes shape and stays, unless it changes
            none.

    Raises:
        UnknownNameError: there is no such block.
        ReszooError: the model is not one of reszoo's, or what would be left is no network of one.
    """
    spec = spec_of(model)
    network = plan(spec)
    known, gone = {block.name: block for block in network.blocks}, {*names}
    for name in gone:
        if name not in known:
            raise UnknownNameError("drop_blocks", given=name, known=known)
    held = sorted(gone & {*fixed(spec)})
    if held:
        allowed = "blocks that keep the shape and have no projection"
        raise ReszooError("drop_blocks", given=", ".join(held), allowed=allowed)
    left: dict[str, list[str]] = {}
    for block in network.blocks:
        left.setdefault(block.part, []).extend([] if block.name in gone else [block.name])
    empty = [part for part, names_left in left.items() if not names_left]
    if empty:
        raise ReszooError("drop_blocks", given=f"all blocks of {', '.join(empty)}", allowed="at least one left")
    came = {
        f"{part}_block{number}": name for part, names_left in left.items() for number, name in enumerate(names_left, 1)
    }
    return _built(spec.replace(depths=[len(names_left) for names_left in left.values()]), model, came)


def to_plain(model: keras.Model, /) -> keras.Model:
    """Returns the plain twin with the network's weights; projections have no place in it and are left out.

    It computes something else: what the shortcuts carried is gone.

    Raises:
        ReszooError: the model is not one of reszoo's.
    """
    return _built(spec_of(model).plain(), model, {})


def fixed(spec: NetSpec) -> list[str]:
    """Returns the blocks that cannot be taken out: they change the shape, or have a projection."""
    found, before = [], plan(spec).segments[0].output.shape
    for block in plan(spec).blocks:
        if before != block.output.shape or any(op.name.startswith("shortcut_") for op in block.ops):
            found.append(block.name)
        before = block.output.shape
    return found


def _built(spec: NetSpec, model: Any, came: Mapping[str, str]) -> Any:
    """The network of a spec with the weights of a model; `came` is where blocks stood that have moved."""
    from reszoo.arch.build import build, names_of

    given = layers_by_name(model)
    made = build(spec, **names_of(model))
    for name, layer in layers_by_name(made).items():
        block, inner = re.fullmatch(r"(stage\d+_block\d+|)_?(.*)", name).groups()  # type: ignore[union-attr]
        source = given.get("_".join(filter(None, (came.get(block, block), inner))))
        if source is not None and layer.weights:
            layer.set_weights(source.get_weights())
            layer.trainable = source.trainable
    return made


def _silence(model: Any, spec: NetSpec, prefix: str) -> None:
    """Makes a block's branch end with zero: scale and shift of its last norm, or kernel and bias of its last layer."""
    block = next(segment for segment in plan(spec_of(model)).blocks if segment.prefix == prefix)
    last = f"unit{len(spec.block.body)}_"
    name = next(op.name for op in reversed(block.ops) if op.weights and op.name.startswith(last))
    for variable in layers_by_name(model)[prefix + name].trainable_variables:
        variable.assign(variable * 0)
