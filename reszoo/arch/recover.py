"""The inverse of `build`: the spec of a model or file, recovered from the names and settings of its layers."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import TypeVar

from reszoo.arch.layer_fields import Config, LayerDescription, fields_of
from reszoo.arch.ops import Op
from reszoo.arch.parts import ORDERS, PADS
from reszoo.arch.plan import plan
from reszoo.arch.spec import NetSpec
from reszoo.config import valid_name
from reszoo.errors import ReszooError
from reszoo.types import KerasLayer, KerasModel

Value = TypeVar("Value")


def spec_of(model: KerasModel) -> NetSpec:
    """Returns the spec of a model that reszoo built, including one loaded from a file by plain Keras.

    Example:
        >>> import reszoo
        >>> reszoo.spec_of(reszoo.resnet20_cifar(depths=1))
        NetSpec('resnet20_cifar': 32x32x3, post, pad, depths 1-1-1, widths 16-32-64)

    Raises:
        ReszooError: reszoo did not build the model, or its layers were changed afterwards.
    """
    looped: NetSpec | None = getattr(model, "looped_spec", None)
    if looped is not None:
        return looped
    if not hasattr(model, "layers"):
        raise ReszooError("spec_of", got=repr(model), expected="a Keras model")
    return spec_of_layers(model.name, dict(_descriptions(model)))


def spec_of_layers(name: str, layers: Mapping[str, LayerDescription]) -> NetSpec:
    """Returns the spec of a network from its layers by name, including those of sub-models.

    Raises:
        ReszooError: they are not the layers of a network that reszoo built.
    """
    layers = without_prefix(layers)
    blocks = _blocks(layers)
    stem = [layer for layer in layers if re.fullmatch(r"stem_(unit\d+_)?(conv|dense)", layer)]
    if not stem or not blocks:
        got = f"layers {', '.join([*layers][:3])}, ..."
        raise ReszooError(f"{name}: not a network of reszoo", got=got, expected="a model that reszoo built")
    try:
        # Keras accepts more names, and files of earlier versions have them.
        fields = fields_of(valid_name(name), layers, blocks, stem)
    except (KeyError, IndexError, TypeError) as missing:
        got = f"layers without {missing}"
        expected = "a model that reszoo built, unchanged"
        raise ReszooError(f"{name}: not a network of reszoo", got=got, expected=expected) from None
    # Fields that single layers do not determine are found by trial: the spec is right if its plan matches the model.
    shortcuts = ("none", "project", "pad", "project_all", "pool_project", *PADS[1:])
    for order, shortcut, stride_at in product(ORDERS, shortcuts, range(1, len(fields["block"]["body"]) + 1)):
        block = fields["block"] | {"order": order, "shortcut": shortcut, "stride_at": stride_at}
        block |= {} if ORDERS[order].trail else {"projection": "norm"}
        try:
            spec = NetSpec.model_validate(fields | {"block": block})
        except ValueError:
            continue
        if _is_plan_of(spec, layers):
            return spec
    raise ReszooError(
        f"{name}: not a network of reszoo",
        got="layers that no spec describes",
        expected="a model that reszoo built, unchanged",
    )


def layers_of(model: KerasModel) -> Iterator[KerasLayer]:
    """Yields the layers of a model; sub-models are replaced by their layers.

    In a network with loops these are the layers of the first block of every run, without its values.
    """
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from layers_of(layer)
        else:
            yield layer


def stock_model(model: KerasModel) -> KerasModel:
    """Returns a network with loops as its stock model; any other model as it is."""
    return model.unrolled() if hasattr(model, "looped_spec") else model


def layers_by_name(model: KerasModel) -> dict[str, KerasLayer]:
    """Returns the layers of a network by their names in its plan, without the prefix that it was built with."""
    return without_prefix({layer.name: layer for layer in layers_of(model)})


def prefix_of(model: KerasModel) -> str:
    """Returns the layer name prefix that a network was built with, usually the empty string."""
    return common_prefix(layer.name for layer in layers_of(model))


def common_prefix(names: Iterable[str]) -> str:
    """Returns the prefix of the name of a network's first layer; the shortest one if a model holds several networks."""
    matches = (re.fullmatch(r"(.*)stem_(?:unit1_)?(?:conv|dense)", name) for name in names)
    return min((match[1] for match in matches if match), key=len, default="")


def without_prefix(named: Mapping[str, Value]) -> dict[str, Value]:
    """Returns a mapping by layer names with the prefix of the network removed from the names."""
    prefix = common_prefix(named)
    return {name.removeprefix(prefix): value for name, value in named.items()}


def _descriptions(model: KerasModel) -> Iterator[tuple[str, LayerDescription]]:
    for name, layer in layers_by_name(model).items():
        shapes = [tuple(weight.shape) for weight in layer.weights if "seed" not in weight.path]
        shape = getattr(layer.input, "shape", (None,))[1:] if name.startswith("stem") else ()
        reads = _source_of(layer) if name.endswith(SHORTCUTS) else ""
        yield name, LayerDescription(type(layer).__name__, layer.get_config(), shapes, tuple(shape), reads)


SHORTCUTS = ("_shortcut_conv", "_shortcut_pool")
"""Ends of names of layers that read the input of a block or its pre-activation."""


def _source_of(layer: KerasLayer) -> str:
    """The name of the layer that computes the first input of another one."""
    history = getattr(layer.input, "_keras_history", None)
    return str(history.operation.name) if history else ""


def _blocks(layers: Mapping[str, LayerDescription]) -> dict[int, dict[int, dict[str, Config]]]:
    """Stage -> block -> name within the block -> settings of the layer."""
    blocks: dict[int, dict[int, dict[str, Config]]] = defaultdict(lambda: defaultdict(dict))
    for name, layer in layers.items():
        if match := re.fullmatch(r"stage(\d+)_block(\d+)_(\w+)", name):
            blocks[int(match[1])][int(match[2])][match[3]] = layer.config
    return blocks


def _is_plan_of(spec: NetSpec, layers: Mapping[str, LayerDescription]) -> bool:
    """Whether the layers match the plan of the spec: names, shapes of weights, windows."""
    ops = {op.name: op for op in plan(spec).ops}
    ours = {name for name in layers if re.match(r"(stem|stage\d+_block\d+|final|head)_|predictions$", name)}
    built = {re.sub(r"_(pad|window|in|out)$", "", name) if name not in ops else name for name in ours}
    return built - {"stem"} == set(ops) and all(_is_op(op, layers[op.name]) for op in ops.values())


def _is_lead(name: str) -> bool:
    """Whether a layer ends the pre-activation of a block."""
    return name.endswith("_unit1_act")


def _is_op(op: Op, layer: LayerDescription) -> bool:
    if sorted([*op.weights.values(), *op.statistics.values()]) != sorted(layer.shapes):
        return False
    if layer.reads and op.name.endswith(SHORTCUTS) and _is_lead(op.inputs[0]) != _is_lead(layer.reads):
        return False
    if op.kind == "pad":
        extra = [[op.zeros_before, op.width - op.width_in - op.zeros_before], [0, 0]]
        return sorted(map(list, layer.config["padding"])) == sorted(extra)
    if op.kind == "pool" and op.variant == "avg":
        return layer.config["pool_size"] in ((op.kernel,) * 2, [op.kernel] * 2)
    window = {"strides": op.stride, "dilation_rate": op.dilation, "groups": op.groups}
    return op.kind != "conv" or all(
        layer.config[field] in (value, (value, value), [value, value]) for field, value in window.items()
    )
