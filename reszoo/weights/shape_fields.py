"""The fields of a spec that names and shapes of tensors, and the dialect of a file, tell."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from reszoo.arch.parts import shortest_ratio, squeeze_fields, stem_widths
from reszoo.errors import ReszooError
from reszoo.weights.dialects import Dialect
from reszoo.weights.translated import Translated, network_name

Shapes = Mapping[str, tuple[int, ...]]
"""`layer/variable` -> shape, in Keras layout."""


def shape_fields(shapes: Shapes, translated: Translated) -> dict[str, Any]:
    """Returns the fields of a spec that names and shapes reveal; strides of stages and block settings are open."""
    layers = {name.partition("/")[0]: shape for name, shape in shapes.items() if name.endswith("/kernel")}
    stem = [layers[name] for name in _stem_layers(layers)]
    dense = len(stem[0]) == 2
    stages, units = _stages(layers)
    kernel = 0 if dense else stem[0][0]
    if translated.layers:
        reduces = bool({"stem_conv_pad", "stem_unit1_conv_pad"} & translated.layers)
        pools = "stem_pool" in translated.layers
    else:
        reduces = pools = not dense and (len(stem) > 1 or kernel > 3)
    classes = layers["predictions"][-1] if "predictions" in layers else None
    return {
        "name": network_name(translated.checkpoint.path),
        "input_shape": (stem[0][0],) if dense else (None, None, stem[0][2]),
        "stem": {
            "kernel": kernel,
            **stem_widths([shape[-1] for shape in stem]),
            "stride": 2 if reduces else 1,
            "pool": "max" if pools else "none",
        },
        "stages": stages,
        "block": {
            "body": units,
            **_attention(layers),
            "projection": _projection(shapes),
        },
        "norm": _norm(shapes, translated.dialect),
        "head": {
            "classes": classes,
            "pooling": "avg" if classes is not None or dense else "none",
            "activation": _activation(translated),
        },
        "bias": any(re.match(r"(stem|stage\d+_block\d+_unit).*/bias$", name) for name in shapes),
    }


def _attention(layers: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    squeezes = [layers[name][-2:] for name in layers if name.endswith("_se_reduce_conv")]
    kinds = {name.split("_")[2] for name in layers if name.endswith(("_se_reduce_conv", "_eca_conv"))}
    return {"attention": next(iter(kinds), "none"), **squeeze_fields([(width, to) for width, to in {*squeezes}])}


def _projection(shapes: Shapes) -> str:
    """Returns `bare` if the projections have no norm although the network has norms."""
    layers = {re.sub(r"\d+", "", name.partition("/")[0]) for name in shapes}
    has_norms = "stage_block_unit_norm" in layers
    projects = "stage_block_shortcut_conv" in layers or "stage_block_shortcut_dense" in layers
    return "bare" if has_norms and projects and "stage_block_shortcut_norm" not in layers else "norm"


def _activation(translated: Translated) -> str:
    """Returns the activation of the classifier: that in the Keras configuration, or else the library's."""
    source = translated.tensors["predictions/kernel"].source if "predictions/kernel" in translated.tensors else ""
    inner = translated.checkpoint.config.get("config")
    layers = inner.get("layers") if isinstance(inner, dict) else None
    for layer in layers if isinstance(layers, list) else ():
        config = layer.get("config") if isinstance(layer, dict) else None
        if not isinstance(config, dict) or config.get("name") != source.partition("/")[0]:
            continue
        if config.get("activation") in ("softmax", "sigmoid", "linear"):
            return str(config["activation"])
    return translated.dialect.activation or "softmax"


def _stem_layers(layers: Mapping[str, Any]) -> list[str]:
    names = [name for name in layers if name.startswith("stem_")]
    if not names:
        raise KeyError("first layer (stem)")
    return sorted(names)


def _stages(layers: Mapping[str, tuple[int, ...]]) -> tuple[list[Any], list[Any]]:
    """Returns the stages without strides, and the units of a block."""
    blocks: dict[int, dict[int, list[tuple[int, tuple[int, ...]]]]] = {}
    for name, shape in layers.items():
        if match := re.fullmatch(r"stage(\d+)_block(\d+)_unit(\d+)_(conv|dense)", name):
            stage, block, unit = (int(number) for number in match.groups()[:3])
            blocks.setdefault(stage, {}).setdefault(block, []).append((unit, shape))
    if not blocks:
        raise KeyError("residual block")
    first = [[shape for _, shape in sorted(blocks[stage][min(blocks[stage])])] for stage in sorted(blocks)]
    widths = [units[-1][-1] for units in first]
    dense = len(first[0][0]) == 2
    stages = [
        {"depth": len(blocks[stage]), "width": width, "reach": layers.get(f"stage{stage}_block1_eca_conv", (None,))[0]}
        for stage, width in zip(sorted(blocks), widths, strict=True)
    ]
    units = []
    for number in range(min(len(units) for units in first)):
        kernel = 0 if dense else first[0][number][0]
        channels = first[0][number - 1][-1] if number else layers[_stem_layers(layers)[-1]][-1]
        ratio = shortest_ratio([(width, units[number][-1]) for width, units in zip(widths, first, strict=True)])
        units.append({"kernel": kernel, "ratio": ratio, "groups": 1 if dense else channels // first[0][number][2] or 1})
    return stages, units


def stage_stride(stage: int, window: int, translated: Translated) -> int:
    """Returns the stride of a stage if its strided unit has a kernel of this size."""
    if window == 0:
        return 1
    if not translated.layers:
        usual = 2 if stage > 1 else translated.dialect.first_stride
        return _projected_stride(stage, translated) or usual
    # Our Keras files have padding layers before strided kernels larger than 1; a strided 1x1 has none.
    padded = any(re.match(rf"stage{stage}_block1_unit\d+_conv_pad", layer) for layer in translated.layers)
    return 2 if padded or (window == 1 and stage > 1) else 1


def _projected_stride(stage: int, translated: Translated) -> int | None:
    """Returns the stride of a stage that does not widen, which only a stride gives a projection; None if unknown."""
    shapes = {name: named.tensor.shape for name, named in translated.tensors.items() if name.endswith("_conv/kernel")}
    projects = {name.rpartition("_shortcut_")[0] for name in shapes if "_shortcut_" in name}
    first, second = f"stage{stage}_block1", f"stage{stage}_block2"
    units = [shapes[name] for name in sorted(shapes) if name.startswith(f"{first}_unit")]
    if not projects or not units or second in projects or units[0][2] != units[-1][3]:
        return None
    return 2 if first in projects else 1


def _norm(shapes: Shapes, dialect: Dialect) -> dict[str, Any]:
    if not any(name.endswith("/gamma") for name in shapes):
        return {"kind": "none"}
    settings = {"epsilon": dialect.epsilon or 1e-5, "momentum": dialect.momentum or 0.9}
    if any(name.endswith("/moving_mean") for name in shapes):
        return {"kind": "batch", **settings}
    if dialect.weight_standardised == "without statistics":
        got = f"weights of {dialect.title} with norms without running statistics"
        hint = "such networks (BiT) use standardized kernels, which the zoo does not support"
        raise ReszooError("norm", got=got, hint=hint)
    return {"kind": "group", **settings}
