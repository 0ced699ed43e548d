"""What the layer objects in a file of a whole model tell: strides, norms and activations that a state dict lacks."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from reszoo.errors import ReszooError
from reszoo.weights.translated import Translated

_ACTIVATIONS = {
    **{"LeakyReLU": "leaky_relu", "SiLU": "silu", "Swish": "silu", "GELU": "gelu"},
    **dict.fromkeys(
        ("ELU", "SELU", "CELU", "PReLU", "RReLU", "Hardswish", "Hardtanh", "ReLU6", "Mish", "Softplus"), ""
    ),
    **dict.fromkeys(("Tanh", "Hardsigmoid", "GLU", "Threshold", "Softsign", "LogSigmoid"), ""),
}
"""Class of an activation -> its name in a spec; empty if the zoo has none."""

_FUNCTIONS = {
    f"torch.{place}{name}": cls
    for place in ("nn.functional.", "_C._nn.", "")
    for name, cls in {
        **{"relu": "ReLU", "leaky_relu": "LeakyReLU", "silu": "SiLU", "gelu": "GELU", "elu": "ELU", "tanh": "Tanh"},
        **{"mish": "Mish", "selu": "SELU", "hardswish": "Hardswish", "relu6": "ReLU6", "softplus": "Softplus"},
    }.items()
}
"""Function that a module may hold as its activation -> the class of the same activation."""

_UNSUPPORTED = re.compile(r"(BlurPool\w*|AdderNet\w*|adder2d|Adder2[dD]|DeformConv\w*|StochasticDepth2)")


def layer_settings(translated: Translated) -> dict[str, Mapping[str, Any]]:
    """Returns our layer -> the settings of its object in the file; empty if the file holds tensors alone."""
    attributes = translated.checkpoint.attributes
    if not attributes:
        return {}
    paths = {name.partition("/")[0]: named.source.rpartition(".")[0] for name, named in translated.tensors.items()}
    return {layer: attributes[path] for layer, path in paths.items() if path in attributes}


def spec_changes(translated: Translated) -> dict[str, Any]:
    """Returns the fields of a spec that the layer objects tell: `stem`, `strides`, `stride_at`, `norm`, `activation`.

    Raises:
        ReszooError: they tell of something that the zoo cannot describe.
    """
    settings = layer_settings(translated)
    if not settings:
        return {}
    where = translated.checkpoint.path.name
    result: dict[str, Any] = {}
    modules = _without_head(translated)
    classes = {str(one.get("class", "")).rpartition(".")[2] for one in modules}
    classes |= {_FUNCTIONS[value] for one in modules for value in one.values() if value in _FUNCTIONS}
    _check_convolutions(where, settings)
    if unsupported := sorted(filter(_UNSUPPORTED.fullmatch, classes)):
        raise ReszooError(where, got=f"a network with {unsupported[0]}", hint="the zoo has no such layer")
    if "predictions/kernel" in translated.tensors and any("AdaptiveMaxPool" in name for name in classes):
        result["pooling"] = "max"
    if norm := _norm(where, settings):
        result["norm"] = norm
    if activation := _activation(where, modules, classes):
        result["activation"] = activation
    strides = {layer: one["stride"][0] for layer, one in settings.items() if isinstance(one.get("stride"), tuple)}
    if any(layer.startswith("stem_") for layer in strides):
        stem = {layer: stride for layer, stride in strides.items() if layer.startswith("stem_")}
        pools = any(name.startswith("MaxPool") for name in classes)
        first, *rest = [stem[layer] for layer in sorted(stem)]
        if any(stride != 1 for stride in rest):
            raise ReszooError(where, got=f"strides {first}, {rest} in the stem", expected="a stride in its first layer")
        result["stem"] = {"stride": first, **({"pool": "max"} if pools else {})}
    if blocks := _block_strides(where, strides):
        result |= blocks
    if shortcut := _shortcut(where, strides):
        result["shortcut"] = shortcut
    return result


def _without_head(translated: Translated) -> list[Mapping[str, Any]]:
    """Returns the settings of the modules that are not in the head."""
    head = [*translated.foreign.head, *(f"{linear.name}.weight" for linear in translated.head)]
    head += [named.source for name, named in translated.tensors.items() if name.startswith("predictions/")]
    trunk = {
        named.source.partition(".")[0]
        for name, named in translated.tensors.items()
        if not name.startswith("predictions/")
    }
    above = {name.partition(".")[0] for name in head} - trunk
    return [one for path, one in translated.checkpoint.attributes.items() if path.partition(".")[0] not in above]


def _check_convolutions(where: str, settings: Mapping[str, Mapping[str, Any]]) -> None:
    for layer, one in settings.items():
        kernel, padding = one.get("kernel_size"), one.get("padding")
        mode = one.get("padding_mode", "zeros")
        if mode != "zeros":
            raise ReszooError(where, got=f"{layer} with padding by {mode}", expected="zeros")
        dilation = one.get("dilation", (1, 1))
        if isinstance(dilation, tuple) and any(step != 1 for step in dilation):
            hint = "output_stride=8 or 16 turns strides into dilation; save a state dict, and pass it"
            raise ReszooError(where, got=f"{layer} with dilation {dilation}", expected="1", hint=hint)
        if isinstance(kernel, tuple) and isinstance(padding, tuple) and _is_uneven(kernel, padding):
            expected = f"{(kernel[0] - 1) // 2} for a kernel of {kernel[0]}"
            raise ReszooError(where, got=f"{layer} with padding {padding}", expected=expected)


def _is_uneven(kernel: tuple[Any, ...], padding: tuple[Any, ...]) -> bool:
    return len(kernel) == len(padding) and any(
        side != (size - 1) // 2 for size, side in zip(kernel, padding, strict=True)
    )


def _norm(where: str, settings: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    norms = {layer: one for layer, one in settings.items() if layer.endswith("_norm") and "eps" in one}
    if not norms:
        return {}
    result: dict[str, Any] = {}
    epsilons = {one["eps"] for one in norms.values()}
    if len(epsilons) > 1:
        raise ReszooError(where, got=f"norms with epsilon {sorted(epsilons)}", expected="one epsilon")
    result["epsilon"] = epsilons.pop()
    names = {str(one.get("class", "")).rpartition(".")[2] for one in norms.values()}
    if any("InstanceNorm" in name for name in names):
        raise ReszooError(where, got="instance norms", expected="batch norms or group norms")
    if any(one.get("track_running_stats") is False for one in norms.values()):
        raise ReszooError(where, got="batch norms without running statistics", expected="statistics of the training")
    groups = {one["num_groups"] for one in norms.values() if "num_groups" in one}
    if len(groups) > 1:
        raise ReszooError(where, got=f"group norms of {sorted(groups)} groups", expected="one number of groups")
    if groups:
        result["groups"] = groups.pop()
    momenta = {one["momentum"] for one in norms.values() if isinstance(one.get("momentum"), float)}
    if len(momenta) == 1:
        result["momentum"] = round(1 - momenta.pop(), 6)
    return result


def _activation(where: str, modules: Sequence[Mapping[str, Any]], classes: set[str]) -> dict[str, Any]:
    named = sorted(classes & {*_ACTIVATIONS})
    if not named:
        return {"kind": "relu"} if "ReLU" in classes else {}
    if len(named) > 1 or not _ACTIVATIONS[named[0]] or "ReLU" in classes:
        others = ["ReLU", *named] if "ReLU" in classes else named
        raise ReszooError(where, got=f"activations {', '.join(others)}", expected="ReLU, LeakyReLU, SiLU or GELU alone")
    slopes = [one.get("negative_slope") for one in modules if "negative_slope" in one]
    if len({*slopes}) > 1:
        raise ReszooError(where, got=f"slopes {sorted({*map(str, slopes)})}", expected="one slope")
    slope = {"slope": slopes[0]} if slopes and named[0] == "LeakyReLU" else {}
    return {"kind": _ACTIVATIONS[named[0]], **slope}


def _shortcut(where: str, strides: Mapping[str, int]) -> str:
    """Returns the kind of shortcut by the strides of its convolution and of the units beside it; empty without one.

    Raises:
        ReszooError: the shortcut strides more than the units: a layer without weights strides between them.
    """
    kinds = set()
    for layer, stride in strides.items():
        if not layer.endswith("_shortcut_conv"):
            continue
        block = layer.removesuffix("shortcut_conv")
        units = math.prod(strides[other] for other in strides if other.startswith(f"{block}unit"))
        if stride > units:
            got = f"{layer} of stride {stride} beside units of stride {units}: a pool or a blur in the block"
            raise ReszooError(where, got=got, expected="a strided convolution")
        kinds |= {"pool_project" if stride < units else "project"} if units > 1 else set()
    return kinds.pop() if len(kinds) == 1 else ""


def _block_strides(where: str, strides: Mapping[str, int]) -> dict[str, Any]:
    """Returns the stride of each stage, and the unit that has it."""
    stages: dict[int, int] = {}
    units = set()
    for layer, stride in strides.items():
        match = re.fullmatch(r"stage(\d+)_block(\d+)_unit(\d+)_conv", layer)
        if match is None:
            continue
        stage, block, unit = map(int, match.groups())
        if stride != 1 and block != 1:
            raise ReszooError(where, got=f"stride {stride} in block {block} of stage {stage}", expected="in block 1")
        stages[stage] = stages.get(stage, 1) * stride
        units |= {unit} if stride != 1 else set()
    if len(units) > 1:
        raise ReszooError(where, got=f"strides in units {sorted(units)} of a block", expected="in one unit")
    if not stages:
        return {}
    return {"strides": [stages[stage] for stage in sorted(stages)], **({"stride_at": units.pop()} if units else {})}
