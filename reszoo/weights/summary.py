"""A description of a checkpoint, in words and as data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reszoo.arch.cost import cost
from reszoo.arch.plan import plan
from reszoo.arch.spec import NetSpec
from reszoo.errors import ReszooError
from reszoo.weights import infer
from reszoo.weights.dialects import dialects
from reszoo.weights.formats.read import read
from reszoo.weights.origin import published_record
from reszoo.weights.select import networks
from reszoo.weights.translate import Translated, translate
from reszoo.weights.translated import grouped

_SHOWN = 12
"""Most lines of the table of layers at its beginning; the last layer follows."""


def summary(path: str | Path, *, key: str | None = None, prefix: str | None = None) -> str:
    """Returns a description of a checkpoint: format, networks, library, layers. Only names and shapes are read.

    Raises:
        ReszooError: the file cannot be read.
    """
    return "\n".join(_lines(details(path, key=key, prefix=prefix)))


def details(path: str | Path, *, key: str | None = None, prefix: str | None = None) -> dict[str, Any]:
    """Returns the content of a checkpoint as data for JSON: what `summary` describes in words.

    Raises:
        ReszooError: the file cannot be read.
    """
    checkpoint = read(path)
    result: dict[str, Any] = {
        "file": str(checkpoint.path),
        "format": checkpoint.container,
        "tensors": len(checkpoint.tensors),
        "numbers": sum(tensor.size for tensor in checkpoint.tensors.values()),
        "types": checkpoint.dtypes,
        "networks": [network.label for network in networks(checkpoint, dialects().values())],
        "aside": dict(checkpoint.aside),
    }
    try:
        translated = translate(checkpoint, key=key, prefix=prefix)
    except ReszooError as error:
        return {
            **result,
            "network": None,
            "refused": str(error),
            "groups": grouped(checkpoint.tensors),
        }
    result |= {
        "read_from": translated.prefix.rstrip("./"),
        "names": translated.dialect.title,
        "notes": [*translated.checkpoint.notes, *translated.notes],
        "not_used": [*translated.unknown, *translated.foreign.beside],
        "layers": [*_layers(translated)],
    }
    try:
        specs = infer.specs(translated)
    except ReszooError as error:
        return {**result, "network": None, "refused": str(error)}
    result["network"] = _network(specs, translated)
    if record := published_record(path):
        result["published"] = {"name": record.name, "license": record.licence}
    return result


def _layers(translated: Translated) -> Iterator[dict[str, Any]]:
    """Yields our layer, its name in the file, and the shape of its first tensor as the file has it."""
    seen = set()
    torch = translated.dialect.layout == "torch"
    for target, named in translated.tensors.items():
        layer = target.partition("/")[0]
        if layer not in seen:
            seen.add(layer)
            shape = infer.as_in_file(named.tensor.shape, torch=torch)
            yield {"layer": layer, "source": named.source, "shape": list(shape)}


def _network(specs: tuple[NetSpec, ...], translated: Translated) -> dict[str, Any]:
    spec = specs[0]
    shortcuts = list(dict.fromkeys(one.block.shortcut for one in specs))
    size = tuple(length or 224 for length in spec.input_shape)
    return {
        "name": infer.zoo_name(spec),
        "spec": spec.model_dump(mode="json"),
        "parameters": cost(plan(spec.replace(input_shape=size))).params,
        "open": {
            **({"shortcut": shortcuts} if len(shortcuts) > 1 else {}),
            **{f"norm.{field}": "assumed" for field in infer.assumed_fields(translated)},
        },
    }


def _lines(data: dict[str, Any]) -> Iterator[str]:
    """Yields the lines of a description."""
    yield f"{data['file']}: {data['format']}"
    yield f"  {data['tensors']} tensors, {data['numbers']:,} numbers ({data['types']})"
    if len(data["networks"]) > 1:
        labels = ", ".join(repr(label) if label else "the top level" for label in data["networks"])
        yield f"  networks: {labels} (key=...)"
    if data["aside"]:
        aside = [f"{path or 'the file'} ({name})" for path, name in data["aside"].items()]
        yield f"  not read: {', '.join(aside[:6])}{', ...' if len(aside) > 6 else ''}"
    yield from (f"  {note}" for note in data.get("notes", ()))
    if data["network"] is None:
        if "groups" in data:
            yield f"  tensors: {data['groups']}"
        else:
            yield from _table(data)
        yield f"  not a network of the zoo: {data['refused']}"
        return
    yield from _in_words(data)
    yield from _table(data)
    if data["not_used"]:
        yield f"  {len(data['not_used'])} tensors with other names: {', '.join(data['not_used'][:3])}"
    if "published" in data:
        yield f"  published as {data['published']['name']} ({data['published']['license']}), hash verified"


def _in_words(data: dict[str, Any]) -> Iterator[str]:
    network, spec = data["network"], NetSpec.model_validate(data["network"]["spec"])
    body = "-".join(str(unit.kernel) for unit in spec.block.body)
    shortcuts = " or ".join(network["open"].get("shortcut", [spec.block.shortcut]))
    yield f"  names of {data['names']}"
    yield (
        f"  {network['name'] or 'not a named network of the zoo'}: depths {[stage.depth for stage in spec.stages]}, "
        f"widths {[stage.width for stage in spec.stages]}, kernels {body} ({spec.block.order}), "
        f"shortcut {shortcuts}, stride in unit {spec.block.stride_at}"
    )
    yield (
        f"  stem {spec.stem.kernel}x{spec.stem.kernel}, widths {'-'.join(map(str, spec.stem.widths))}; "
        f"{spec.input_shape[-1]} channels in; {spec.head.classes or 'no'} classes"
    )
    assumed = " (assumed)" if "norm.epsilon" in network["open"] else ""
    yield f"  {network['parameters']:,} parameters; epsilon {spec.norm.epsilon:g}{assumed}"


def _table(data: dict[str, Any]) -> Iterator[str]:
    """Yields the first layers and the last one: ours, in the file, shape."""
    layers = data["layers"]
    shown = layers if len(layers) <= _SHOWN + 1 else [*layers[:_SHOWN], layers[-1]]
    width = max((len(one["layer"]) for one in shown), default=0)
    for number, one in enumerate(shown):
        if number == _SHOWN and len(layers) > _SHOWN + 1:
            yield f"    ... {len(layers) - _SHOWN - 1} more"
        yield f"    {one['layer']:<{width}}  {one['source']}  {tuple(one['shape'])}"
