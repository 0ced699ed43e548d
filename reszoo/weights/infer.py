"""The network behind a checkpoint, from the names and shapes of its tensors and from what its dialect says."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any
from weakref import WeakKeyDictionary

from reszoo.arch import zoo
from reszoo.arch.ops import Op
from reszoo.arch.orders import ORDERS
from reszoo.arch.plan import plan
from reszoo.arch.recover import Described, shortest_ratio, spec_of_layers
from reszoo.arch.spec import NetSpec
from reszoo.errors import ReszooError
from reszoo.weights.dialects import Dialect, dialects
from reszoo.weights.translate import Translated

Shapes = Mapping[str, tuple[int, ...]]
"""`layer/variable` -> shape, in Keras' layout."""


def specs(found: Translated) -> tuple[NetSpec, ...]:
    """Returns the networks that a checkpoint can be, the likeliest first; they differ in their shortcut at most.

    What no tensor tells is taken as its library has it: strides of 2 from the second stage on; a stem of stride 2 with
    a pool where its window is wider than 3 or it has three layers, of stride 1 without one otherwise.

    Raises:
        ReszooError: the tensors are not those of a network that the zoo can describe.
    """
    if found not in _SPECS:
        _SPECS[found] = _specs(found)
    return _SPECS[found]


_SPECS: WeakKeyDictionary[Translated, tuple[NetSpec, ...]] = WeakKeyDictionary()
"""Several steps of a load ask for them."""


def _specs(found: Translated) -> tuple[NetSpec, ...]:
    if is_told(found):
        return (_told_by_the_file(found),)
    where = f"{found.checkpoint.path.name} ({found.dialect.title})"
    shapes = {name: named.tensor.shape for name, named in found.tensors.items()}
    try:
        known = _known(shapes, found)
    except (KeyError, IndexError) as missing:
        raise ReszooError(where, got=f"no {missing.args[0]}", expected="a whole residual network") from None
    possible = list(_possible(known, shapes, found))
    fitting = [spec for spec in possible if weights_of(spec) == shapes and _has_layers(spec, found.layers)]
    if fitting:
        # Where a file of ours shows no padding, strides of 1 or strided 1x1 windows: a network has strides.
        return tuple(sorted(fitting, key=lambda spec: -spec.stride))
    raise ReszooError(where, got="tensors that no network of the zoo has", hint=_nearest(possible, found, shapes))


def _nearest(possible: list[NetSpec], found: Translated, shapes: Shapes) -> str:
    """What the likeliest network has (-) and the file has instead (+), three of each."""
    told = (({*weights_of(spec).items()}, {*shapes.items()}) for spec in possible)
    wanted, got = min(((a - b, b - a) for a, b in told), key=lambda pair: sum(map(len, pair)), default=(set(), set()))
    lines = [f"\n  - {name} {shape}" for name, shape in sorted(wanted)[:3]]
    lines += [f"\n  + {found.tensors[name].source} {shape}" for name, shape in sorted(got)[:3]]
    return f"the nearest one differs:{''.join(lines)}" if lines else "every block is to have the same kind of units"


def is_told(found: Translated) -> bool:
    """Returns whether the file itself says which network it holds."""
    config = found.checkpoint.config
    ours = found.dialect is dialects()["reszoo"] and isinstance(config.get("config"), dict)
    return isinstance(config.get("reszoo_spec"), str) or ours


def assumed(found: Translated) -> tuple[str, ...]:
    """Returns the fields of the norm that neither the file nor its library tells; they are taken as is usual."""
    if is_told(found) or not any(name.endswith("/gamma") for name in found.tensors):
        return ()
    statistics = any(name.endswith("/moving_mean") for name in found.tensors)
    unknown = {"epsilon": found.dialect.epsilon is None, "groups": not statistics}
    return tuple(field for field, is_unknown in unknown.items() if is_unknown)


def weights_of(spec: NetSpec) -> dict[str, tuple[int, ...]]:
    """Returns `layer/variable` -> shape of everything a network's checkpoint holds."""
    return {f"{op.name}/{name}": shape for op in plan(spec).ops for name, shape in variables(op).items()}


def variables(op: Op) -> dict[str, tuple[int, ...]]:
    """Returns name and shape of an operation's weights and running statistics."""
    return {**op.weights, **op.statistics}


def named_like(spec: NetSpec) -> str | None:
    """Returns the name of the zoo's network that a spec is, whatever its classes and input size."""
    bare = _bare(spec)
    return next((name for name in zoo.builtin().names if _bare(zoo.builtin().entry(name).spec) == bare), None)


def _bare(spec: NetSpec) -> dict[str, Any]:
    data = spec.model_dump(exclude={"name", "input_shape", "head", "init"})
    data["norm"].pop("momentum")
    for field in ("start", "dropout", "residual_dropout", "drop_path"):
        data["block"].pop(field)
    return data


def _told_by_the_file(found: Translated) -> NetSpec:
    """The spec as a file in our own names may hold it: in words, or as the configuration of a Keras model."""
    config = found.checkpoint.config
    if isinstance(config.get("reszoo_spec"), str):
        try:
            return NetSpec.model_validate_json(config["reszoo_spec"])
        except ValueError as error:
            raise ReszooError(str(found.checkpoint.path), got=f"a spec that is none ({error})") from None
    try:
        layers = dict(_layers(config, found))
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        got = f"a configuration that is no Keras model's ({type(error).__name__}: {error})"
        raise ReszooError(str(found.checkpoint.path), got=got) from None
    return spec_of_layers(str(config["config"].get("name", "network")), layers)


def _layers(config: Mapping[str, Any], found: Translated) -> Iterator[tuple[str, Described]]:
    layers = config["config"]["layers"]
    # A legacy file has no `build_config`: what the network's first layer reads is told by its input alone.
    inputs = [layer["config"].get("batch_shape") for layer in layers if layer["class_name"] == "InputLayer"]
    for layer in layers:
        if "layers" in layer["config"]:
            yield from _layers(layer, found)
        else:
            name = layer["config"]["name"].removeprefix(found.prefix)
            shapes = [named.tensor.shape for key, named in found.tensors.items() if key.startswith(f"{name}/")]
            shape = (layer.get("build_config") or {}).get("input_shape") or next(iter(inputs), None) or [None]
            shape = shape[0] if isinstance(shape[0], list) else shape
            yield name, Described(layer["class_name"], layer["config"], shapes, tuple(shape[1:]))


def _known(shapes: Shapes, found: Translated) -> dict[str, Any]:
    """The fields that names and shapes tell."""
    layers = {name.partition("/")[0]: shape for name, shape in shapes.items() if name.endswith("/kernel")}
    stem = [layers[name] for name in _stem_layers(layers)]
    dense = len(stem[0]) == 2
    stages, units = _stages(layers)
    deep, kernel = len(stem) > 1, 0 if dense else stem[0][0]
    imagenet = not dense and (deep or kernel > 3)
    stride, pool = (2, "max") if imagenet else (1, "none")
    if found.layers:
        padded = {"stem_conv_pad", "stem_unit1_conv_pad"} & found.layers
        stride, pool = 2 if padded else 1, "max" if "stem_pool" in found.layers else "none"
    return {
        "name": re.sub(r"[^\w.-]", "_", found.checkpoint.path.name.partition(".")[0]) or "network",
        "input_shape": (stem[0][0],) if dense else (None, None, stem[0][2]),
        "stem": {
            "kernel": kernel,
            "width": stem[-1][-1],
            "stride": stride,
            "depth": len(stem),
            "pool": pool,
        },
        "stages": stages,
        "block": {"body": units, "attention": "se" if any("_se_" in layer for layer in layers) else "none"},
        "norm": _norm(shapes, found.dialect),
        "head": {
            "classes": layers["predictions"][-1] if "predictions" in layers else None,
            "pooling": "avg" if "predictions" in layers and not dense else ("avg" if dense else "none"),
            "activation": _activation(found),
        },
        "bias": any(re.match(r"(stem|stage\d+_block\d+_unit).*/bias$", name) for name in shapes),
    }


def _activation(found: Translated) -> str:
    """Of the classifier: as a Keras model's configuration has it, or else as the library does."""
    source = found.tensors["predictions/kernel"].source if "predictions/kernel" in found.tensors else ""
    inner = found.checkpoint.config.get("config")
    layers = inner.get("layers") if isinstance(inner, dict) else None
    for layer in layers if isinstance(layers, list) else ():
        told = layer.get("config") if isinstance(layer, dict) else None
        if not isinstance(told, dict) or told.get("name") != source.partition("/")[0]:
            continue
        if told.get("activation") in ("softmax", "sigmoid", "linear"):
            return str(told["activation"])
    return found.dialect.activation or "softmax"


def _stem_layers(layers: Mapping[str, Any]) -> list[str]:
    names = [name for name in layers if name.startswith("stem_")]
    if not names:
        raise KeyError("first layer (stem)")
    return sorted(names)


def _stages(layers: Mapping[str, tuple[int, ...]]) -> tuple[list[Any], list[Any]]:
    """Stages without their strides, and the units of their blocks."""
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
    for place in range(min(len(units) for units in first)):
        kernel = 0 if dense else first[0][place][0]
        before = first[0][place - 1][-1] if place else layers[_stem_layers(layers)[-1]][-1]
        ratio = shortest_ratio([(width, units[place][-1]) for width, units in zip(widths, first, strict=True)])
        units.append({"kernel": kernel, "ratio": ratio, "groups": 1 if dense else before // first[0][place][2] or 1})
    return stages, units


def _stride(stage: int, window: int, found: Translated) -> int:
    """Of a stage whose stride stands at a unit with this window."""
    if window == 0:
        return 1
    if not found.layers:
        return 2 if stage > 1 else found.dialect.first_stride
    # A Keras file of ours shows the padding that only strided windows have; a strided 1x1 shows nothing.
    padded = any(re.match(rf"stage{stage}_block1_unit\d+_conv_pad", layer) for layer in found.layers)
    return 2 if padded or (window == 1 and stage > 1) else 1


def _norm(shapes: Shapes, dialect: Dialect) -> dict[str, Any]:
    if not any(name.endswith("/gamma") for name in shapes):
        return {"kind": "none"}
    settings = {"epsilon": dialect.epsilon or 1e-5, "momentum": dialect.momentum or 0.9}
    if any(name.endswith("/moving_mean") for name in shapes):
        return {"kind": "batch", **settings}
    if dialect.weight_standardised == "without statistics":
        got = f"weights of {dialect.title} with norms that keep no statistics"
        hint = "such networks (BiT) standardise their kernels too; no entry of the zoo is that network"
        raise ReszooError("norm", got=got, hint=hint)
    return {"kind": "group", **settings}


def _possible(known: dict[str, Any], shapes: Shapes, found: Translated) -> Iterator[NetSpec]:
    dialect, body = found.dialect, known["block"]["body"]
    orders = [dialect.order] if dialect.order else _orders(shapes)
    projected = any("_shortcut_" in name for name in shapes)
    if projected:
        shortcuts = [dialect.shortcut or "project", "project_all"]
        shortcuts += ["pool_project"] if dialect.shortcut is None else []
    else:
        shortcuts = ["pad", "none"] if dialect.shortcut == "pad" else ["project", "pad", "none"]
    spatial = next((number for number, unit in enumerate(body, 1) if unit["kernel"] > 1), 1)
    places = {"first": [1], "spatial": [spatial]}.get(dialect.stride_on or "", sorted({spatial, 1}, reverse=True))
    for order, shortcut, stride_at in product(orders, shortcuts, places):
        block = known["block"] | {"order": order, "shortcut": shortcut, "stride_at": stride_at}
        window = body[stride_at - 1]["kernel"]
        stages = [stage | {"stride": _stride(i, window, found)} for i, stage in enumerate(known["stages"], 1)]
        try:
            yield NetSpec.model_validate(known | {"block": block, "stages": stages})
        except ValueError:
            continue


def _orders(shapes: Shapes) -> list[str]:
    """By where the norms are; `pre` and `norm_first` differ by which units have one."""
    final = "final_norm/gamma" in shapes
    return [word for word, order in ORDERS.items() if bool(order.final) == final] if shapes else [*ORDERS]


def _has_layers(spec: NetSpec, layers: frozenset[str]) -> bool:
    """Whether the layers without weights are there too, as far as the file tells layers at all."""
    if not layers:
        return True
    ops = plan(spec).ops
    names = {op.name for op in ops} | {f"{op.name}_pad" for op in ops if op.padded}
    # Dropout changes nothing but training; a chain of many blocks is a sub-model of its own, named by its ends.
    idle = re.compile(r".*_(dropout|drop_path|to_block\d+)")
    shown = {name for name in layers if re.match(r"stage\d+_block\d+_", name) and not idle.fullmatch(name)}
    return {name for name in names if name.startswith("stage") and not idle.fullmatch(name)} == shown
