"""Fields of a spec that single layers determine: depths, widths, norms, padding, initial values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any, NamedTuple

from reszoo.arch.parts import Activation, Init, shortest_ratio, squeeze_fields, stem_widths

Config = dict[str, Any]

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
    reads: str = ""
    """Name of the layer that computes its first input, where known."""


def fields_of(
    name: str, layers: Mapping[str, LayerDescription], blocks: dict[int, dict[int, dict[str, Config]]], stem: list[str]
) -> Config:
    """Returns the fields of the spec that single layers determine.

    Args:
        name: name of the network.
        layers: layers by name.
        blocks: stage -> block -> name within the block -> settings of the layer.
        stem: names of the weighted layers of the stem.
    """
    settings = layers[stem[0]].config
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
            **stem_widths([_width(layers[layer].config) for layer in stem]),
            "stride": settings.get("strides", [1])[0],
            "pool": "max" if "stem_pool" in layers else "none",
        },
        "stages": [stage | {"inner": inner} for stage, inner in zip(stages, _ratios(by_width)[1], strict=True)],
        "block": _block(blocks[1][1], final[max(final)], by_width)
        | {"start": _start(layers), "projection": _projection(layers)},
        "norm": _norm(layers),
        "activation": _activation(layers),
        "padding": _padding(layers),
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
        "reach": blocks[1].get("eca_conv", {}).get("kernel_size", [None])[0],
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
        "attention": next((kind for kind in ("se", "eca") if f"{kind}_pool" in first), "none"),
        **squeeze_fields(
            [(width, _width(block["se_reduce_conv"])) for width, block in by_width if "se_reduce_conv" in block]
        ),
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


def _norm(layers: Mapping[str, LayerDescription]) -> Config:
    norms = [layer.config for name, layer in layers.items() if name.endswith("norm")]
    if not norms:
        return {"kind": "none"}
    if "groups" in norms[0]:
        return {"kind": "group", "groups": max(norm["groups"] for norm in norms), "epsilon": norms[0]["epsilon"]}
    return {"kind": "batch", "epsilon": norms[0]["epsilon"], "momentum": norms[0]["momentum"]}


def _activation(layers: Mapping[str, LayerDescription]) -> Config:
    """The activation of stem and blocks."""
    names = (name for name in layers if name.endswith("act") and not name.endswith("se_reduce_act"))
    config = next((layers[name].config for name in names), {})
    if "negative_slope" in config:
        return {"kind": "leaky_relu", "slope": config["negative_slope"]}
    return {"kind": config.get("activation", Activation().kind)}


def _padding(layers: Mapping[str, LayerDescription]) -> str:
    """The padding of strided windows: `both` is a layer of its own, or a window of stride 1 before a subsampling."""
    pads_itself = (
        layer.config.get("padding") == "same" and max(layer.config["strides"]) > 1
        for name, layer in layers.items()
        if ("kernel_size" in layer.config and max(layer.config["kernel_size"]) > 1) or name == "stem_pool"
    )
    return "same" if any(pads_itself) else "both"


def _projection(layers: Mapping[str, LayerDescription]) -> str:
    """`bare` if the projections have no norm although the network has norms."""
    projects = any(re.fullmatch(r"stage\d+_block\d+_shortcut_(conv|dense)", name) for name in layers)
    normed = {re.sub(r"\d+", "", name) for name in layers if name.endswith("_norm")}
    is_bare = "stage_block_unit_norm" in normed and "stage_block_shortcut_norm" not in normed
    return "bare" if projects and is_bare else "norm"


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
