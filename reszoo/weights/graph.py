"""A Keras file of any residual network, read through its graph: exactly one network, or the layer that prevents it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any, NamedTuple

from reszoo.arch.parts import ORDERS, PADS, shortest_ratio, squeeze_fields, stem_widths
from reszoo.arch.spec import NetSpec
from reszoo.config import valid_name
from reszoo.errors import ReszooError
from reszoo.weights.graph_match import Steps, assign, mismatch, windows
from reszoo.weights.keras_graph import Step, steps_of


class ReadGraph(NamedTuple):
    """The network of a graph, and where its weights are."""

    spec: NetSpec
    layers: dict[str, str]
    """Operation of our plan with weights -> layer of the file."""
    head: tuple[Step, ...] = ()
    """The layers after the pooled trunk, if they are more than a classifier; the spec has none then."""
    pooling: str = ""
    """The pooling before the head."""
    norms: Mapping[str, tuple[str, ...]] = {}
    """Layer of the file -> variables of a norm, in the order in which Keras numbers them."""
    normalizers: tuple[str, ...] = ()
    """Layers in front of the network that scale images; the spec has none."""


def read_graph(config: Mapping[str, Any], *, name: str, where: str) -> ReadGraph:
    """Returns the network that the configuration of a Keras model describes.

    Every operation of the returned network is one of the graph, with the same settings and inputs, and the other way
    round; nothing is assumed.

    Args:
        config: the configuration of the model.
        name: name of the network.
        where: beginning of error messages.

    Raises:
        ReszooError: no spec describes the graph; the message names the first layer that differs.
    """
    steps = windows(steps_of(config, where), where)
    trunk, head = _split(steps, where)
    regions = _regions(trunk)
    if not regions:
        got = "a Keras model without an Add behind convolutions"
        raise NoResidualGraphError(where, got=got, expected="a residual network of images")
    candidates = [*_specs(trunk, head, regions, name, where)]
    steps = trunk if head.foreign else steps
    attempts = [(spec, *assign(spec, steps)) for spec in candidates]
    for spec, layers, count in attempts:
        if layers is not None and count == len(steps):
            norms = {step.name: _norm_variables(step) for step in trunk if step.kind == "norm"}
            normalizers = tuple(steps[0].settings.get("normalizers", ()))
            return ReadGraph(spec, layers, head.foreign, head.pooling, norms, normalizers)
    if not attempts:
        raise ReszooError(where, got="a Keras model whose blocks no spec describes", expected="equal blocks")
    raise mismatch(max(attempts, key=lambda attempt: attempt[2])[0], steps, where)


class NoResidualGraphError(ReszooError):
    """A graph without residual blocks."""


class _Head(NamedTuple):
    pooling: str
    classes: int | None
    activation: str
    foreign: tuple[Step, ...]


def _split(steps: Steps, where: str) -> tuple[Steps, _Head]:
    """Returns the trunk, and the pooling and classifier after it; other layers after it are foreign."""
    end = max((number for number, step in enumerate(steps) if step.kind == "add"), default=0) + 1
    while end < len(steps) and steps[end].kind not in ("pool", "global_pool", "flatten", "dense"):
        end += 1
    trunk, rest = steps[:end], steps[end:]
    if any(step.inputs != (number - 1,) for number, step in enumerate(rest, end)):
        raise ReszooError(where, got=f"a graph with branches after the last block ({rest[0].name!r})")
    kinds = [step.kind for step in rest]
    pooling = "none"
    if rest and kinds[0] == "global_pool" and not (rest[0].settings["keepdims"] and kinds[1:2] != ["flatten"]):
        pooling, used = rest[0].settings["variant"], 1 + (kinds[1:2] == ["flatten"])
    elif kinds[:2] == ["pool", "flatten"] and _covers(rest[0], trunk):
        pooling, used = rest[0].settings["variant"], 2
    elif rest:
        got = f"layer {rest[0].name!r} ({kinds[0]}) after the last block: it reads single pixels of the map"
        hint = "the zoo pools the whole map: GlobalAveragePooling2D, or an average pool of its size and Flatten"
        raise ReszooError(where, got=got, hint=hint)
    else:
        used = 0
    rest = rest[used:]
    final = [step.settings.get("variant") for step in rest[1:]]
    if rest and rest[0].kind == "dense" and rest[0].settings["bias"] and final in ([], ["softmax"], ["sigmoid"]):
        return trunk, _Head(pooling, rest[0].settings["width"], final[0] if final else "linear", ())
    ends = rest[-1].settings.get("variant") if rest and rest[-1].kind == "act" else None
    activation = ends if ends in ("softmax", "sigmoid") else "linear" if rest else "softmax"
    return trunk, _Head(pooling, None, activation, tuple(rest))


def _covers(pool: Step, trunk: Steps) -> bool:
    """Whether a pool reads the whole last map in one window."""
    shape = trunk[0].settings["shape"][1:3]
    sizes: dict[int, list[int | None]] = {0: list(shape)}
    for number, step in enumerate(trunk[1:], 1):
        sizes[number] = [_size(each, step.settings) for each in sizes[step.inputs[0]]]
    return all(size == pool.settings["kernel"] for size in sizes[len(trunk) - 1])


def _size(size: int | None, window: Mapping[str, Any]) -> int | None:
    if size is None or "kernel" not in window:
        return size
    padding, stride = window["padding"], window["stride"]
    if padding == "same":
        return -(-size // stride)
    pixels = 2 * padding if isinstance(padding, int) else 0
    return int((size + pixels - (window["kernel"] - 1) * window.get("dilation", 1) - 1) // stride + 1)


class _Region(NamedTuple):
    """One block: the convolutions of its branch, those of its shortcut, and its addition."""

    units: tuple[Step, ...]
    shortcut: tuple[Step, ...]
    add: int
    reach: int | None
    """Channels that its gate reads, if that is a convolution along them."""


def _regions(steps: Steps) -> list[_Region]:
    result = []
    for number, step in enumerate(steps):
        if step.kind != "add" or len(step.inputs) != 2:
            continue
        paths = [_path(steps, each) for each in step.inputs]
        common = max({*paths[0]} & {*paths[1]}, default=None)
        if common is None:
            continue
        sides = [[steps[each] for each in path if each > common] for path in paths]
        sides.sort(key=lambda side: (sum(each.kind == "conv" for each in side), len(side)))
        convs = tuple(each for each in reversed(sides[1]) if each.kind == "conv")
        reach = next((each.settings["reach"] for each in sides[1] if "reach" in each.settings), None)
        result.append(_Region(convs, tuple(reversed(sides[0])), number, reach))
    return [region for region in result if region.units]


def _path(steps: Steps, number: int) -> list[int]:
    """Returns the steps from one back to the nearest two additions, or to the input."""
    path, additions = [number], 0
    while steps[number].inputs and additions < 2:
        number = steps[number].inputs[0]
        path.append(number)
        additions += steps[number].kind == "add"
    return path


def _specs(steps: Steps, head: _Head, regions: list[_Region], name: str, where: str) -> Iterator[NetSpec]:
    """Yields specs with the settings of the graph; what single layers do not determine is tried."""
    first = regions[0]
    convs = [step for step in steps[: first.add] if step.kind == "conv" and "gate" not in step.settings]
    squeezes = [step.settings["squeeze"] for step in steps if "squeeze" in step.settings]
    attention = {"attention": "se", **squeeze_fields(squeezes)} if squeezes else {}
    attention |= {"attention": "eca"} if any(region.reach for region in regions) else {}
    in_blocks = {step.name for region in regions for step in (*region.units, *region.shortcut)}
    stem = [step for step in convs if step.name not in in_blocks]
    if not stem:
        raise ReszooError(where, got=f"a block before any convolution ({first.units[0].name!r})")
    norms = [step.settings for step in steps if step.kind == "norm"]
    acts = [step.settings for step in steps if step.kind == "act"]
    stages = [*_stages(regions)]
    ratios, inner = _ratios([stage[0] for stage in stages])
    strided = [step.settings for step in steps if step.kind in ("conv", "pool") and step.settings["stride"] > 1]
    same = any(window["padding"] == "same" and window["kernel"] > 1 for window in strided if window["kernel"] != 2)
    fields: dict[str, Any] = {
        "name": valid_name(name),
        "input_shape": (None, None, steps[0].settings["shape"][-1]),
        "stem": {
            "kernel": stem[0].settings["kernel"],
            **stem_widths([step.settings["width"] for step in stem]),
            "stride": stem[0].settings["stride"],
            "pool": "max" if any(step.settings.get("variant") == "max" for step in steps[: first.add]) else "none",
        },
        "stages": [
            {"depth": len(stage), "width": stage[0].units[-1].settings["width"], "inner": factor, **_window(stage)}
            | {"reach": stage[0].reach}
            for stage, factor in zip(stages, inner, strict=True)
        ],
        "norm": _norm(norms),
        "activation": _activation(acts),
        "padding": "same" if same else "both",
        "head": {
            "pooling": "none" if head.foreign else head.pooling,
            "classes": head.classes,
            "activation": head.activation,
        },
        "bias": stem[0].settings["bias"],
    }
    body = [
        {"kernel": unit.settings["kernel"], "ratio": ratio, "groups": unit.settings["groups"]}
        for unit, ratio in zip(first.units, ratios, strict=True)
    ]
    projects = any(step.kind == "conv" for region in regions for step in region.shortcut)
    pads = any(step.kind == "pad" for region in regions for step in region.shortcut)
    shortcuts = ("project", "project_all", "pool_project") if projects else PADS if pads else ("project",)
    for order, shortcut, projection in product(ORDERS, shortcuts, ("norm", "bare")):
        block = {"body": body, "order": order, "shortcut": shortcut, "projection": projection, **attention}
        try:
            yield NetSpec.model_validate(fields | {"block": block | {"stride_at": _stride_at(regions)}})
        except ValueError:
            continue


def _stages(regions: list[_Region]) -> Iterator[list[_Region]]:
    """Groups blocks of the same width; a stride begins a stage."""
    stage: list[_Region] = []
    for region in regions:
        width = region.units[-1].settings["width"]
        strides = any(step.settings.get("stride", 1) > 1 for step in (*region.units, *region.shortcut))
        if stage and (strides or width != stage[0].units[-1].settings["width"]):
            yield stage
            stage = []
        stage.append(region)
    yield stage


def _window(stage: list[_Region]) -> dict[str, int]:
    units = [unit.settings for region in stage for unit in region.units]
    return {"stride": max(unit["stride"] for unit in units), "dilation": max(unit["dilation"] for unit in units)}


def _stride_at(regions: list[_Region]) -> int:
    for region in regions:
        for number, unit in enumerate(region.units, 1):
            if unit.settings["stride"] > 1:
                return number
    return next((number for number, unit in enumerate(regions[0].units, 1) if unit.settings["kernel"] > 1), 1)


def _ratios(first: list[_Region]) -> tuple[list[float], list[float]]:
    """Returns the ratio of every unit of a block, and the factor on the inner widths of every stage."""
    widths = [[unit.settings["width"] for unit in region.units] for region in first]
    count = min(len(each) for each in widths)
    ratios = [shortest_ratio([(each[-1], each[i]) for each in widths]) for i in range(count)]
    if all(round(each[-1] * ratio) == unit for each in widths for ratio, unit in zip(ratios, each, strict=False)):
        return ratios, [1.0] * len(widths)
    ratios = [shortest_ratio([(widths[0][-1], unit)]) for unit in widths[0]]
    hidden = [[(each[-1] * ratio, unit) for ratio, unit in zip(ratios, each[:-1], strict=False)] for each in widths]
    return ratios, [1.0, *(shortest_ratio(each) for each in hidden[1:])]


def _norm(norms: list[dict[str, Any]]) -> dict[str, Any]:
    if not norms:
        return {"kind": "none"}
    fields = {"kind": norms[0]["variant"], "epsilon": norms[0]["epsilon"]}
    if norms[0]["variant"] == "group":
        return fields | {"groups": max(norm["groups"] for norm in norms)}
    return fields | {"momentum": norms[0]["momentum"]}


def _norm_variables(step: Step) -> tuple[str, ...]:
    parts = (("gamma", step.settings["scale"]), ("beta", step.settings["center"]))
    statistics = ("moving_mean", "moving_variance") if step.settings["variant"] == "batch" else ()
    return (*(name for name, has in parts if has), *statistics)


def _activation(acts: list[dict[str, Any]]) -> dict[str, Any]:
    if not acts or acts[0]["variant"] in ("softmax", "sigmoid"):
        return {}
    leak = {"slope": acts[0]["slope"]} if "slope" in acts[0] else {}
    return {"kind": acts[0]["variant"], **leak}
