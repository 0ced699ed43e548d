"""The inverse of `build`: the spec of a model or file, recovered from the names and settings of its layers."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from math import sqrt
from typing import Any, NamedTuple, TypeVar

from reszoo.arch.ops import Op
from reszoo.arch.orders import ORDERS
from reszoo.arch.plan import plan
from reszoo.arch.spec import Init, NetSpec
from reszoo.errors import ReszooError
from reszoo.types import KerasLayer, KerasModel

Config = dict[str, Any]
Value = TypeVar("Value")

_KERNELS: dict[str, Init] = {"HeUniform": "he", "GlorotUniform": "glorot"}


class LayerDescription(NamedTuple):
    """A layer as described by a model or a file, independent of the framework."""

    kind: str
    """Name of the class."""
    config: Config
    shapes: Sequence[tuple[int, ...]]
    """Shapes of its weights and running statistics."""
    input_shape: tuple[int | None, ...]
    """Shape of its first input, without the batch axis."""


def spec_of(model: KerasModel) -> NetSpec:
    """Returns the spec of a model that reszoo built, including one loaded from a file by plain Keras.

    Example:
        >>> import reszoo
        >>> reszoo.spec_of(reszoo.resnet20_cifar(depths=1))
        NetSpec('resnet20_cifar': 32x32x3, post, pad, depths 1-1-1, widths 16-32-64)

    Raises:
        ReszooError: reszoo did not build the model, or its layers were changed afterwards.
    """
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
        fields = _fields(name, layers, blocks, stem)
    except (KeyError, IndexError, TypeError) as missing:
        got = f"layers without {missing}"
        expected = "a model that reszoo built, unchanged"
        raise ReszooError(f"{name}: not a network of reszoo", got=got, expected=expected) from None
    # Fields that single layers do not determine are found by trial: the spec is right if its plan matches the model.
    shortcuts = ("none", "project", "pad", "project_all", "pool_project")
    for order, shortcut, stride_at in product(ORDERS, shortcuts, range(1, len(fields["block"]["body"]) + 1)):
        block = fields["block"] | {"order": order, "shortcut": shortcut, "stride_at": stride_at}
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
    """Yields the layers of a model; sub-models are replaced by their layers."""
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from layers_of(layer)
        else:
            yield layer


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
        yield name, LayerDescription(type(layer).__name__, layer.get_config(), shapes, tuple(shape))


def _blocks(layers: Mapping[str, LayerDescription]) -> dict[int, dict[int, dict[str, Config]]]:
    """Stage -> block -> name within the block -> settings of the layer."""
    blocks: dict[int, dict[int, dict[str, Config]]] = defaultdict(lambda: defaultdict(dict))
    for name, layer in layers.items():
        if match := re.fullmatch(r"stage(\d+)_block(\d+)_(\w+)", name):
            blocks[int(match[1])][int(match[2])][match[3]] = layer.config
    return blocks


def _fields(
    name: str, layers: Mapping[str, LayerDescription], blocks: dict[int, dict[int, dict[str, Config]]], stem: list[str]
) -> Config:
    """The fields of the spec that single layers determine."""
    settings, last = layers[stem[0]].config, layers[stem[-1]].config
    shape = layers.get(f"{stem[0]}_pad", layers[stem[0]]).input_shape
    if settings.get("data_format") == "channels_first":
        shape = (*shape[1:], shape[0])
    stages = [_stage(blocks[number]) for number in sorted(blocks)]
    final = blocks[max(blocks)]
    by_width = [(stage["width"], blocks[number][1]) for number, stage in enumerate(stages, 1)]
    return {
        "name": name,
        "input_shape": shape,
        "stem": {
            "kernel": settings.get("kernel_size", [0])[0],
            "width": _width(last),
            "stride": settings.get("strides", [1])[0],
            "depth": len(stem),
            "pool": "max" if "stem_pool" in layers else "none",
        },
        "stages": [stage | {"inner": inner} for stage, inner in zip(stages, _ratios(by_width)[1], strict=True)],
        "block": _block(blocks[1][1], final[max(final)], by_width) | {"start": _start(layers)},
        "norm": _norm(layers),
        "head": _head(layers, dense="kernel_size" not in settings),
        "bias": settings["use_bias"],
        "init": _init(settings),
    }


def _width(config: Config) -> int:
    return int(config["filters"] if "filters" in config else config["units"])


def _units(block: dict[str, Config]) -> list[Config]:
    names = (name for name in block if re.fullmatch(r"unit\d+_(conv|dense)", name))
    return [block[name] for name in sorted(names, key=lambda name: int(name.split("_")[0][4:]))]


def _stage(blocks: dict[int, dict[str, Config]]) -> Config:
    units = [unit for block in blocks.values() for unit in _units(block)]
    dilation = max(unit.get("dilation_rate", [1])[0] for unit in units)
    # In a stage of one block the dilation may be visible only in the pooling before its projection, of stride 1.
    pooled = len(blocks) == 1 and blocks[1].get("shortcut_pool", {}).get("strides", [0])[0] == 1
    return {
        "depth": len(blocks),
        "width": _width(units[-1]),
        "stride": max(unit.get("strides", [1])[0] for unit in units),
        "dilation": 2 * dilation if pooled else dilation,
    }


def _block(first: dict[str, Config], last: dict[str, Config], by_width: list[tuple[int, dict[str, Config]]]) -> Config:
    def rate(block: dict[str, Config], name: str) -> float:
        return next((config["rate"] for key, config in block.items() if re.fullmatch(name, key)), 0.0)

    units, (ratios, _) = _units(first), _ratios(by_width)
    return {
        "body": [
            {"kernel": unit.get("kernel_size", [0])[0], "ratio": ratio, "groups": unit.get("groups", 1)}
            for unit, ratio in zip(units, ratios, strict=True)
        ],
        "attention": "se" if "se_pool" in first else "none",
        "dropout": rate(first, r"unit\d+_dropout"),
        "residual_dropout": rate(first, "residual_dropout"),
        "drop_path": rate(last, "drop_path"),
    }


def _ratios(by_width: list[tuple[int, dict[str, Config]]]) -> tuple[list[float], list[float]]:
    """The ratio of every unit, and the inner factor of every stage if the ratios alone do not give all widths."""
    widths = [(stage, [_width(unit) for unit in _units(block)]) for stage, block in by_width]
    pairs = [[(stage, units[i]) for stage, units in widths] for i in range(len(widths[0][1]))]
    ratios = [shortest_ratio(pair) for pair in pairs]
    if all(round(stage * ratio) == unit for ratio, pair in zip(ratios, pairs, strict=True) for stage, unit in pair):
        return ratios, [1.0] * len(widths)
    ratios = [shortest_ratio(pair[:1]) for pair in pairs]
    hidden = [
        [(stage * ratio, unit) for ratio, unit in zip(ratios, units[:-1], strict=False)] for stage, units in widths
    ]
    return ratios, [1.0, *(shortest_ratio(stage) for stage in hidden[1:])]


def _start(layers: Mapping[str, LayerDescription]) -> str:
    """The start of the branches; under `identity` a full scale has its own initializer, which identifies it."""
    blocks = [layer.config for name, layer in layers.items() if name.startswith("stage")]
    initializers = [config.get("gamma_initializer") or config.get("kernel_initializer") for config in blocks]
    starts = {_start_of(each["class_name"], each["config"]) for each in initializers if each}
    return next((start for start in ("identity", "scaled") if start in starts), "random")


def _start_of(kind: str, config: Config) -> str:
    """The start that an initializer belongs to."""
    if kind == "VarianceScaling":
        full = {"fan_in": 2.0, "fan_avg": 1.0}.get(config["mode"])
        return "identity" if config["scale"] == full else "scaled"
    if kind == "Constant":
        return "identity" if config["value"] == 1.0 else "scaled"
    if kind == "Orthogonal":
        return "random" if config["gain"] in (sqrt(2.0), 1.0, 0.5) else "scaled"
    return "identity" if kind == "Zeros" else "random"


def shortest_ratio(widths: Sequence[tuple[float, int]]) -> float:
    """Returns the shortest decimal ratio that reproduces all unit widths.

    Example:
        >>> from reszoo.arch.recover import shortest_ratio
        >>> shortest_ratio([(256, 64), (512, 128)])
        0.25

    Args:
        widths: pairs of a stage's width and its unit's width; `round(stage * ratio) == unit` for all of them.
    """
    stage, unit = max(widths)
    decimals = (round(unit / stage, digits) for digits in range(1, 17))
    return next((ratio for ratio in decimals if all(round(w * ratio) == u for w, u in widths)), unit / stage)


def _norm(layers: Mapping[str, LayerDescription]) -> Config:
    norms = [layer.config for name, layer in layers.items() if name.endswith("norm")]
    if not norms:
        return {"kind": "none"}
    if "groups" in norms[0]:
        return {"kind": "group", "groups": max(norm["groups"] for norm in norms), "epsilon": norms[0]["epsilon"]}
    return {"kind": "batch", "epsilon": norms[0]["epsilon"], "momentum": norms[0]["momentum"]}


def _head(layers: Mapping[str, LayerDescription], *, dense: bool) -> Config:
    top = layers["predictions"].config if "predictions" in layers else None
    pool = layers["head_pool"].kind if "head_pool" in layers else None
    without_pool = "avg" if dense and top else "none"
    pooling = {"GlobalAveragePooling2D": "avg", "GlobalMaxPooling2D": "max", None: without_pool}[pool]
    if top is None:
        return {"pooling": pooling, "classes": None}
    dropout = layers["head_dropout"].config["rate"] if "head_dropout" in layers else 0.0
    return {"pooling": pooling, "classes": top["units"], "activation": top["activation"], "dropout": dropout}


def _init(config: Config) -> Init:
    kernel = config["kernel_initializer"]
    if kernel["class_name"] == "Orthogonal":
        return "orthogonal" if kernel["config"]["gain"] == sqrt(2.0) else "looks_linear"
    return _KERNELS[kernel["class_name"]]


def _is_plan_of(spec: NetSpec, layers: Mapping[str, LayerDescription]) -> bool:
    """Whether the layers match the plan of the spec: names, shapes of weights, windows."""
    ops = {op.name: op for op in plan(spec).ops}
    ours = {name for name in layers if re.match(r"(stem|stage\d+_block\d+|final|head)_|predictions$", name)}
    built = {name.removesuffix("_pad").removesuffix("_window") if name not in ops else name for name in ours}
    return built - {"stem"} == set(ops) and all(_is_op(op, layers[op.name]) for op in ops.values())


def _is_op(op: Op, layer: LayerDescription) -> bool:
    if sorted([*op.weights.values(), *op.statistics.values()]) != sorted(layer.shapes):
        return False
    window = {"strides": op.stride, "dilation_rate": op.dilation, "groups": op.groups}
    return op.kind != "conv" or all(
        layer.config[field] in (value, (value, value), [value, value]) for field, value in window.items()
    )
