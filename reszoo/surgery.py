"""Structural changes to trained networks: add blocks, drop blocks, remove shortcuts or dead channels."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from reszoo.arch.plan import plan
from reszoo.arch.recover import layers_by_name, spec_of, stock_model
from reszoo.arch.spec import NetSpec
from reszoo.errors import ReszooError, UnknownNameError
from reszoo.types import KerasModel


def deepen(model: KerasModel, /, *, stage: int, blocks: int = 1) -> KerasModel:
    """Returns the network with additional blocks at the end of a stage that initially are the identity (He 2015, 3.1).

    The branches of the new blocks end with zero weights, so the outputs are bit for bit those of the model, and
    training can continue. With an activation after the addition (`post`) the identity holds because the input of
    the block is already activated.

    Example:
        >>> import reszoo
        >>> model = reszoo.resnet20_cifar(depths=1)
        >>> reszoo.spec_of(reszoo.deepen(model, stage=2, blocks=2))
        NetSpec('resnet20_cifar': 32x32x3, post, pad, depths 1-3-1, widths 16-32-64)

    Args:
        model: a residual network that reszoo built; it is not changed.
        stage: number of the stage, from 1.
        blocks: number of blocks to add.

    Raises:
        ReszooError: reszoo did not build the model; it is plain; there is no such stage; or `blocks` is below 1.
    """
    model = stock_model(model)
    spec = spec_of(model)
    if spec.block.shortcut == "none":
        hint = "deepen its residual twin"
        raise ReszooError(f"deepen: {spec.name}", got="a plain network", expected="one with shortcuts", hint=hint)
    if spec.block.shortcut == "project_all":
        got, expected = "shortcut project_all", "shortcuts that are the identity within a stage"
        raise ReszooError(f"deepen: {spec.name}", got=got, expected=expected)
    if spec.activation.kind != "relu" and spec.block.order == "post":
        got, expected = f"{spec.activation.kind} after the addition", "ReLU: a second one changes nothing"
        raise ReszooError(f"deepen: {spec.name}", got=got, expected=expected)
    if not 1 <= stage <= len(spec.stages):
        raise ReszooError("deepen.stage", got=stage, expected=f"1 to {len(spec.stages)}")
    if blocks < 1:
        raise ReszooError("deepen.blocks", got=blocks, expected="at least 1")
    depths = [each.depth for each in spec.stages]
    depths[stage - 1] += blocks
    deeper = _build_with_weights(spec.replace(depths=depths), model, {})
    for number in range(depths[stage - 1] - blocks + 1, depths[stage - 1] + 1):
        _zero_branch(deeper, f"stage{stage}_block{number}_")
    return deeper


def drop_blocks(model: KerasModel, names: Iterable[str], /) -> KerasModel:
    """Returns the network without some blocks; the other blocks keep their weights.

    Example:
        >>> import reszoo
        >>> model = reszoo.resnet20_cifar(depths=2)
        >>> reszoo.spec_of(reszoo.drop_blocks(model, ["stage3_block2"]))
        NetSpec('resnet20_cifar': 32x32x3, post, pad, depths 2-2-1, widths 16-32-64)

    Args:
        model: a network that reszoo built; it is not changed.
        names: names of blocks, such as `stage2_block3`. Blocks that change the shape, usually the first of a stage,
            cannot be dropped.

    Raises:
        UnknownNameError: there is no such block.
        ReszooError: reszoo did not build the model, a block cannot be dropped, or a stage would have no blocks.
    """
    model = stock_model(model)
    spec = spec_of(model)
    network = plan(spec)
    known = {block.name for block in network.blocks}
    dropped = {*names}
    for name in dropped:
        if name not in known:
            raise UnknownNameError("drop_blocks", got=name, known=known)
    undroppable = sorted(dropped & {*fixed_blocks(spec)})
    if undroppable:
        expected = "blocks that keep the shape and have no projection"
        raise ReszooError("drop_blocks", got=", ".join(undroppable), expected=expected)
    remaining: dict[str, list[str]] = {}
    for block in network.blocks:
        remaining.setdefault(block.part, []).extend([] if block.name in dropped else [block.name])
    empty = [part for part, blocks in remaining.items() if not blocks]
    if empty:
        expected = "at least one remaining block per stage"
        raise ReszooError("drop_blocks", got=f"all blocks of {', '.join(empty)}", expected=expected)
    origins = {
        f"{part}_block{number}": name for part, blocks in remaining.items() for number, name in enumerate(blocks, 1)
    }
    return _build_with_weights(spec.replace(depths=[len(blocks) for blocks in remaining.values()]), model, origins)


def to_plain(model: KerasModel, /) -> KerasModel:
    """Returns the plain twin with the weights of the network, except those of projections, which it does not have.

    Its outputs differ from those of the network, since the shortcuts are missing.

    Example:
        >>> import reszoo
        >>> reszoo.spec_of(reszoo.to_plain(reszoo.resnet20_cifar(depths=1)))
        NetSpec('plain_of_resnet20_cifar': 32x32x3, post, none, depths 1-1-1, widths 16-32-64)

    Args:
        model: a network that reszoo built; it is not changed.

    Raises:
        ReszooError: reszoo did not build the model.
    """
    model = stock_model(model)
    return _build_with_weights(spec_of(model).plain(), model, {})


def remove_dead_channels(model: KerasModel, /) -> KerasModel:
    """Returns a narrower network with the same outputs, without channels that are zero for every input.

    The proof uses the weights alone: norm scales and shifts of zero, kernels of zeros, and their consequences
    (`reszoo.arch.liveness`). A stage becomes narrower where all of its blocks can; `spec_of` returns the new widths.

    Example:
        >>> import reszoo
        >>> model = reszoo.resnet20_cifar(depths=1)
        >>> _ = model.get_layer("stage1_block1_unit1_norm").gamma.assign([0.0] * 4 + [1.0] * 12)  # its shift is zero
        >>> reszoo.cost(reszoo.spec_of(reszoo.remove_dead_channels(model))).params
        74130

    Args:
        model: a network that reszoo built; it is not changed.

    Raises:
        ReszooError: reszoo did not build the model, or no channel can be removed.
    """
    import numpy as np

    from reszoo.arch.facts import successor
    from reszoo.arch.liveness import without_dead_channels

    model = stock_model(model)
    network = plan(spec_of(model))
    layers = layers_by_name(model)
    weighted = {op.name: op for op in network.ops if op.weights}
    weights = {
        name: dict(zip((*op.weights, *op.statistics), layers[name].get_weights(), strict=True))
        for name, op in weighted.items()
    }
    spec, channels = without_dead_channels(network, weights)
    narrower = successor(spec, model)
    new_layers = layers_by_name(narrower)
    for op in weighted.values():
        values = {name: value[..., channels[op.name]] for name, value in weights[op.name].items()}
        if op.kind != "norm" and op.groups == 1:
            values["kernel"] = np.take(values["kernel"], channels[op.inputs[0]], axis=-2)
        new_layers[op.name].set_weights([*values.values()])
        new_layers[op.name].trainable = layers[op.name].trainable
    return narrower


def fixed_blocks(spec: NetSpec) -> list[str]:
    """Returns the names of the blocks that cannot be dropped: they change the shape or have a projection."""
    names, before = [], plan(spec).segments[0].output.shape
    for block in plan(spec).blocks:
        if before != block.output.shape or any(op.name.startswith("shortcut_") for op in block.ops):
            names.append(block.name)
        before = block.output.shape
    return names


def _build_with_weights(spec: NetSpec, model: KerasModel, origins: Mapping[str, str]) -> KerasModel:
    """The network of a spec with the weights of a model; `origins`: block -> its name in the model if it differs."""
    from reszoo.arch.facts import successor

    layers = layers_by_name(model)
    network = successor(spec, model)
    for name, layer in layers_by_name(network).items():
        block, inner = re.fullmatch(r"(stage\d+_block\d+|)_?(.*)", name).groups()  # type: ignore[union-attr]
        source = layers.get("_".join(filter(None, (origins.get(block, block), inner))))
        if source is not None and layer.weights:
            layer.set_weights(source.get_weights())
            layer.trainable = source.trainable
    return network


def _zero_branch(model: KerasModel, prefix: str) -> None:
    """Sets scale and shift of the last norm of a block's branch, or kernel and bias of its last layer, to zero."""
    spec = spec_of(model)
    block = next(segment for segment in plan(spec).blocks if segment.prefix == prefix)
    last = f"unit{len(spec.block.body)}_"
    name = next(op.name for op in reversed(block.ops) if op.weights and op.name.startswith(last))
    for variable in layers_by_name(model)[prefix + name].trainable_variables:
        variable.assign(variable * 0)
