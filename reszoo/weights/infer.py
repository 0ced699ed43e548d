"""Infers the network of a checkpoint from the names and shapes of its tensors and from its dialect."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any
from weakref import WeakKeyDictionary

from reszoo.arch import zoo
from reszoo.arch.layer_fields import LayerDescription
from reszoo.arch.parts import ORDERS
from reszoo.arch.plan import plan
from reszoo.arch.recover import spec_of_layers
from reszoo.arch.spec import NetSpec
from reszoo.errors import ReszooError
from reszoo.weights import attributes
from reszoo.weights.dialects import dialects
from reszoo.weights.keras_graph import references
from reszoo.weights.shape_fields import Shapes, shape_fields, stage_stride
from reszoo.weights.translated import TORCH_AXES, Translated, likely_kind


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
        return _with_settings(translated, settings)
    return _without_settings(translated)


def _with_settings(translated: Translated, settings: Mapping[str, Any]) -> tuple[NetSpec, ...]:
    """Returns the networks with the strides, norms and activations of the layer objects in the file."""
    specs = _without_settings(translated)
    at = settings.get("stride_at")
    fitting = [spec for spec in specs if at is None or spec.block.stride_at == at] or list(specs)
    changes = {field: value for field, value in settings.items() if field != "stride_at"}
    if at is not None:
        changes["block"] = {"stride_at": at}
    if "strides" in changes:
        strides = changes.pop("strides")
        stages = [stage.model_dump() for stage in fitting[0].stages]
        changes["stages"] = [stage | {"stride": stride} for stage, stride in zip(stages, strides, strict=True)]
    return tuple(spec.replace(**changes) for spec in fitting)


def _without_settings(translated: Translated) -> tuple[NetSpec, ...]:
    if translated.spec is not None:
        return (_checked(translated.spec, translated),)
    if contains_spec(translated):
        return (_spec_in_file(translated),)
    where = f"{translated.checkpoint.path.name} ({translated.dialect.title})"
    if within := translated.foreign.within:
        kind = likely_kind(within) or likely_kind(translated.unknown)
        got = f"{kind or 'other layers'}: {', '.join(within[:3])}{', ...' if len(within) > 3 else ''}"
        expected = "no layers inside of the blocks or between them that the zoo does not have"
        raise ReszooError(where, got=got, expected=expected)
    shapes = {name: named.tensor.shape for name, named in translated.tensors.items()}
    try:
        fields = shape_fields(shapes, translated)
    except (KeyError, IndexError) as missing:
        raise ReszooError(where, got=f"no {missing.args[0]}", expected="a complete residual network") from None
    candidates = list(_candidates(fields, shapes, translated))
    fitting = [spec for spec in candidates if plan(spec).variables == shapes and _has_layers(spec, translated.layers)]
    if fitting:
        # Without padding layers the strides are 1, or the strided kernels are 1x1: the latter is more likely.
        return tuple(sorted(fitting, key=lambda spec: -spec.stride))
    raise ReszooError(
        where, got="tensors that fit no network of the zoo", hint=_nearest(candidates, translated, shapes)
    )


def _checked(spec: NetSpec, translated: Translated) -> NetSpec:
    """Returns the network of a file's graph after its weights were found in the file."""
    missing = [name for name in plan(spec).variables if name not in translated.tensors]
    if missing:
        got = f"{len(missing)} weights of the graph without a tensor ({missing[0]}, ...)"
        raise ReszooError(translated.checkpoint.path.name, got=got, hint="save the model again")
    return spec


def _nearest(candidates: list[NetSpec], translated: Translated, shapes: Shapes) -> str:
    """Returns a hint: variables of the nearest network (-) and tensors of the file (+) that differ, three of each."""
    in_file = {*shapes.items()}
    in_networks = [{*plan(spec).variables.items()} for spec in candidates]
    nearest = min(in_networks, key=lambda in_network: len(in_network ^ in_file), default=in_file)
    if pruned := _pruned(nearest, in_file, translated):
        return pruned
    torch = translated.dialect.layout == "torch"
    lines = [f"\n  - {name} {as_in_file(shape, torch=torch)}" for name, shape in sorted(nearest - in_file)[:3]]
    lines += [
        f"\n  + {translated.tensors[name].source} {as_in_file(shape, torch=torch)}"
        for name, shape in sorted(in_file - nearest)[:3]
    ]
    if lines:
        return f"the nearest one differs:{''.join(lines)}"
    return _obstacle(shapes, translated) or "all blocks must have the same kind of units"


def _obstacle(shapes: Shapes, translated: Translated) -> str:
    """Returns a hint if a unit reads other channels than the one before it gives, or groups differ between blocks."""
    matches = (re.fullmatch(r"stage(\d+)_block(\d+)_unit(\d+)_conv/kernel", name) for name in shapes)
    units = sorted(([*map(int, match.groups())], match[0]) for match in matches if match)
    groups: dict[int, int] = {}
    for ((*_, unit), name), (_, before) in zip(units[1:], units, strict=False):
        reads, gives, source = shapes[name][2], shapes[before][3], translated.tensors[name].source
        if reads > gives or gives % reads:
            return (
                f"{source} reads {reads} channels, and the layer before it gives {gives}: no chain of residual blocks"
            )
        if groups.setdefault(unit, gives // reads) != gives // reads:
            return (
                f"{source} has {gives // reads} groups, where other blocks have {groups[unit]}: no spec describes that"
            )
    return ""


def as_in_file(shape: tuple[int, ...], *, torch: bool) -> tuple[int, ...]:
    """Returns a shape in Keras layout as the file has it."""
    axes = TORCH_AXES.get(len(shape)) if torch else None
    return tuple(shape[axis] for axis in axes) if axes else shape


def _pruned(nearest: set[Any], in_file: set[Any], translated: Translated) -> str:
    """Returns a hint if the same variables have fewer channels in some blocks, or an empty string."""
    ours, theirs = dict(nearest), dict(in_file)
    differing = [name for name in ours if name in theirs and ours[name] != theirs[name]]
    is_narrower = all(
        len(ours[name]) == len(theirs[name])
        and all(one >= two for one, two in zip(ours[name], theirs[name], strict=True))
        for name in differing
    )
    narrower = [name for name in differing if name.endswith("_conv/kernel") and ours[name][-1] != theirs[name][-1]]
    if not narrower or ours.keys() != theirs.keys() or not is_narrower:
        return ""
    name = min(narrower)
    source, widths = translated.tensors[name].source, f"{theirs[name][-1]} of {ours[name][-1]}"
    return f"pruned: units of a block differ in width between blocks ({source} has {widths} channels)"


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


def _spec_in_file(translated: Translated) -> NetSpec:
    """Returns the spec in the metadata of a file, or that of the Keras model in its configuration."""
    config = translated.checkpoint.config
    if isinstance(config.get("reszoo_spec"), str):
        try:
            return NetSpec.model_validate_json(config["reszoo_spec"])
        except ValueError as error:
            raise ReszooError(str(translated.checkpoint.path), got=f"an invalid spec ({error})") from None
    try:
        layers = dict(_layers(config, translated))
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        got = f"an invalid configuration of a Keras model ({type(error).__name__}: {error})"
        raise ReszooError(str(translated.checkpoint.path), got=got) from None
    return spec_of_layers(str(config["config"].get("name", "network")), layers)


def _layers(config: Mapping[str, Any], translated: Translated) -> Iterator[tuple[str, LayerDescription]]:
    layers = config["config"]["layers"]
    # A legacy file has no `build_config`: only its input layer has the shape that the first layer needs.
    inputs = [layer["config"].get("batch_shape") for layer in layers if layer["class_name"] == "InputLayer"]
    for layer in layers:
        if "layers" in layer["config"]:
            yield from _layers(layer, translated)
        else:
            name = layer["config"]["name"].removeprefix(translated.prefix)
            shapes = [named.tensor.shape for key, named in translated.tensors.items() if key.startswith(f"{name}/")]
            shape = (layer.get("build_config") or {}).get("input_shape") or next(iter(inputs), None) or [None]
            shape = shape[0] if isinstance(shape[0], list) else shape
            reads = next(references(layer.get("inbound_nodes")), ("", 0))[0]
            yield name, LayerDescription(layer["class_name"], layer["config"], shapes, tuple(shape[1:]), reads)


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
        block |= {} if ORDERS[order].trail else {"projection": "norm"}
        window = body[stride_at - 1]["kernel"]
        stages = [
            stage | {"stride": stage_stride(i, window, translated)} for i, stage in enumerate(fields["stages"], 1)
        ]
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
    names |= {f"{op.name}{end}" for op in ops if op.kind == "channel_conv" for end in ("_in", "_out")}
    # Dropout only affects training; a chain of many blocks is a sub-model named by its first and last block.
    optional = re.compile(r".*_(dropout|drop_path|to_block\d+)")
    listed = {name for name in layers if re.match(r"stage\d+_block\d+_", name) and not optional.fullmatch(name)}
    return {name for name in names if name.startswith("stage") and not optional.fullmatch(name)} == listed
