"""Infers the network of a checkpoint from the names and shapes of its tensors and from its dialect."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any
from weakref import WeakKeyDictionary

from reszoo.arch import zoo
from reszoo.arch.layer_fields import shortest_ratio
from reszoo.arch.ops import Op
from reszoo.arch.orders import ORDERS
from reszoo.arch.plan import plan
from reszoo.arch.spec import NetSpec
from reszoo.errors import ReszooError
from reszoo.weights import attributes
from reszoo.weights.dialects import Dialect, dialects
from reszoo.weights.kinds import likely_kind
from reszoo.weights.nearest import nearest
from reszoo.weights.spec_in_file import spec_in_file
from reszoo.weights.translate import Translated, network_name

Shapes = Mapping[str, tuple[int, ...]]
"""`layer/variable` -> shape, in Keras layout."""


def specs(translated: Translated) -> tuple[NetSpec, ...]:
    """Returns the networks that fit a checkpoint, most likely first.

    They differ at most in settings of their blocks and in strides, which tensors do not reveal. Such
    settings are assumed to be those of the library: stride 2 from the second stage on; a stem with stride 2 and a pool
    if its kernel is larger than 3 or it has three layers, else with stride 1 and no pool.

    Raises:
        ReszooError: the zoo cannot describe a network with these tensors.
    """
    if translated not in _SPECS:
        _SPECS[translated] = _specs(translated)
    return _SPECS[translated]


_SPECS: WeakKeyDictionary[Translated, tuple[NetSpec, ...]] = WeakKeyDictionary()
"""A cache: loading needs the result several times."""


def _specs(translated: Translated) -> tuple[NetSpec, ...]:
    if settings := attributes.spec_changes(translated):
        return attributes.with_settings(_without_settings(translated), settings)
    return _without_settings(translated)


def _without_settings(translated: Translated) -> tuple[NetSpec, ...]:
    if translated.spec is not None:
        return (_checked(translated.spec, translated),)
    if contains_spec(translated):
        return (spec_in_file(translated),)
    where = f"{translated.checkpoint.path.name} ({translated.dialect.title})"
    if within := translated.foreign.within:
        got = f"{likely_kind(within) or 'other layers'}: {', '.join(within[:3])}{', ...' if len(within) > 3 else ''}"
        expected = "no layers inside of the blocks or between them that the zoo does not have"
        raise ReszooError(where, got=got, expected=expected)
    shapes = {name: named.tensor.shape for name, named in translated.tensors.items()}
    try:
        fields = _fields(shapes, translated)
    except (KeyError, IndexError) as missing:
        raise ReszooError(where, got=f"no {missing.args[0]}", expected="a complete residual network") from None
    candidates = list(_candidates(fields, shapes, translated))
    fitting = [spec for spec in candidates if weights_of(spec) == shapes and _has_layers(spec, translated.layers)]
    if fitting:
        # Without padding layers the strides are 1, or the strided kernels are 1x1: the latter is more likely.
        return tuple(sorted(fitting, key=lambda spec: -spec.stride))
    hint = nearest([weights_of(spec) for spec in candidates], translated, shapes)
    raise ReszooError(where, got="tensors that fit no network of the zoo", hint=hint)


def _checked(spec: NetSpec, translated: Translated) -> NetSpec:
    """Returns the network of a file's graph after its weights were found in the file."""
    missing = [name for name in weights_of(spec) if name not in translated.tensors]
    if missing:
        got = f"{len(missing)} weights of the graph without a tensor ({missing[0]}, ...)"
        raise ReszooError(translated.checkpoint.path.name, got=got, hint="save the model again")
    return spec


def contains_spec(translated: Translated) -> bool:
    """Returns whether the file contains its spec or the configuration of its Keras model."""
    if translated.spec is not None:
        return True
    config = translated.checkpoint.config
    has_config = translated.dialect is dialects()["reszoo"] and isinstance(config.get("config"), dict)
    return isinstance(config.get("reszoo_spec"), str) or has_config


def assumed_fields(translated: Translated) -> tuple[str, ...]:
    """Returns the fields of the norm that neither the file nor its library specifies; defaults are assumed."""
    if contains_spec(translated) or not any(name.endswith("/gamma") for name in translated.tensors):
        return ()
    statistics = any(name.endswith("/moving_mean") for name in translated.tensors)
    known = attributes.spec_changes(translated).get("norm", {})
    is_assumed = {
        "epsilon": translated.dialect.epsilon is None and "epsilon" not in known,
        "groups": not statistics and "groups" not in known,
    }
    return tuple(field for field, assumed in is_assumed.items() if assumed)


def weights_of(spec: NetSpec) -> dict[str, tuple[int, ...]]:
    """Returns `layer/variable` -> shape of all weights and running statistics of a network."""
    return {f"{op.name}/{name}": shape for op in plan(spec).ops for name, shape in variables(op).items()}


def variables(op: Op) -> dict[str, tuple[int, ...]]:
    """Returns name -> shape of an operation's weights and running statistics."""
    return {**op.weights, **op.statistics}


def zoo_name(spec: NetSpec) -> str | None:
    """Returns the name of the zoo's network with the same architecture, or None. Classes and input size may differ."""
    architecture = _architecture(spec)
    names = zoo.builtin().names
    return next((name for name in names if _architecture(zoo.builtin().entry(name).spec) == architecture), None)


def _architecture(spec: NetSpec) -> dict[str, Any]:
    data = spec.model_dump(exclude={"name", "input_shape", "head", "init"})
    data["norm"].pop("momentum")
    for field in ("start", "dropout", "residual_dropout", "drop_path"):
        data["block"].pop(field)
    return data


def _fields(shapes: Shapes, translated: Translated) -> dict[str, Any]:
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
            "width": stem[-1][-1],
            "stride": 2 if reduces else 1,
            "depth": len(stem),
            "pool": "max" if pools else "none",
        },
        "stages": stages,
        "block": {
            "body": units,
            "attention": "se" if any("_se_" in layer for layer in layers) else "none",
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


def _projection(shapes: Shapes) -> str:
    """Returns `bare` if the projections have no norm although branches end with one."""
    layers = {re.sub(r"\d+", "", name.partition("/")[0]) for name in shapes}
    has_norms = "stage_block_unit_norm" in layers and "final_norm" not in layers
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
    stages = [{"depth": len(blocks[stage]), "width": w} for stage, w in zip(sorted(blocks), widths, strict=True)]
    units = []
    for number in range(min(len(units) for units in first)):
        kernel = 0 if dense else first[0][number][0]
        channels = first[0][number - 1][-1] if number else layers[_stem_layers(layers)[-1]][-1]
        ratio = shortest_ratio([(width, units[number][-1]) for width, units in zip(widths, first, strict=True)])
        units.append({"kernel": kernel, "ratio": ratio, "groups": 1 if dense else channels // first[0][number][2] or 1})
    return stages, units


def _stride(stage: int, window: int, translated: Translated) -> int:
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


def _candidates(fields: dict[str, Any], shapes: Shapes, translated: Translated) -> Iterator[NetSpec]:
    """Yields specs with all block settings that the dialect permits, most likely first."""
    dialect, body = translated.dialect, fields["block"]["body"]
    orders = [dialect.order] if dialect.order else _orders(shapes)
    if any("_shortcut_" in name for name in shapes):
        shortcuts = [dialect.shortcut or "project", "project_all"]
        shortcuts += ["pool_project"] if dialect.shortcut is None else []
    elif dialect.shortcut == "pad":
        shortcuts = ["pad", "none"]
    else:
        shortcuts = ["project", "pad", "none"]
    spatial = next((number for number, unit in enumerate(body, 1) if unit["kernel"] > 1), 1)
    strided_units = {"first": [1], "spatial": [spatial]}.get(
        dialect.stride_on or "", sorted({spatial, 1}, reverse=True)
    )
    for order, shortcut, stride_at in product(orders, shortcuts, strided_units):
        block = fields["block"] | {"order": order, "shortcut": shortcut, "stride_at": stride_at}
        window = body[stride_at - 1]["kernel"]
        stages = [stage | {"stride": _stride(i, window, translated)} for i, stage in enumerate(fields["stages"], 1)]
        try:
            yield NetSpec.model_validate(fields | {"block": block, "stages": stages})
        except ValueError:
            continue


def _orders(shapes: Shapes) -> list[str]:
    """Returns the orders that fit the final norm; the norms of the units distinguish `pre` and `norm_first` later."""
    has_final_norm = "final_norm/gamma" in shapes
    return [name for name, order in ORDERS.items() if bool(order.final) == has_final_norm] if shapes else [*ORDERS]


def _has_layers(spec: NetSpec, layers: frozenset[str]) -> bool:
    """Returns whether the file has the layers without weights too; true if it does not list layers."""
    if not layers:
        return True
    ops = plan(spec).ops
    names = {op.name for op in ops} | {f"{op.name}_pad" for op in ops if op.padded}
    # Dropout only affects training; a chain of many blocks is a sub-model named by its first and last block.
    optional = re.compile(r".*_(dropout|drop_path|to_block\d+)")
    listed = {name for name in layers if re.match(r"stage\d+_block\d+_", name) and not optional.fullmatch(name)}
    return {name for name in names if name.startswith("stage") and not optional.fullmatch(name)} == listed
