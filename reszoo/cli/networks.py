"""The commands list, info, schema and convert."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from reszoo.arch import zoo
from reszoo.arch.cost import cost_by_part
from reszoo.arch.ops import size
from reszoo.cli import listings, names, names as known
from reszoo.cli.options import Changes, Json
from reszoo.cli.screen import app, as_yaml, changes_of, check_folder, console, escaped, print_json, say
from reszoo.errors import ReszooError, UnknownNameError
from reszoo.report.tables import table


@app.command("list")
def list_(
    pattern: Annotated[
        str, typer.Argument(help="shell pattern, such as 'resnet*' or '*_cifar'", autocompletion=names.networks)
    ] = "*",
    family: Annotated[
        str | None,
        typer.Option(help="imagenet, cifar or dense", autocompletion=names.words("imagenet", "cifar", "dense")),
    ] = None,
    max_params: Annotated[float | None, typer.Option(help="limit on trainable parameters, such as 5e6")] = None,
    max_macs: Annotated[float | None, typer.Option(help="limit on multiply-accumulates, such as 1e9")] = None,
    zoo_file: Annotated[
        Path | None, typer.Option("--zoo", help="YAML file to list instead of the built-in networks")
    ] = None,
    weights: Annotated[bool, typer.Option("--weights", "--pretrained", help="list published weights instead")] = False,
    recipes: Annotated[bool, typer.Option("--recipes", help="list training recipes instead")] = False,
    spaces: Annotated[bool, typer.Option("--spaces", help="list search spaces instead")] = False,
    data: Annotated[bool, typer.Option("--data", help="list named data sets instead")] = False,
    bench: Annotated[bool, typer.Option("--bench", help="measure time and memory of the listed networks here")] = False,
    as_json: Json = False,
) -> None:
    """List networks with their size and cost; options list weights, recipes, spaces or data sets instead."""
    choices = {"weights": weights, "recipes": recipes, "spaces": spaces, "data": data}
    chosen = [name for name, choice in choices.items() if choice]
    limits = {"family": family, "max_params": max_params, "max_macs": max_macs}
    excess = [name for name, value in {**limits, "zoo": zoo_file, "bench": bench or None}.items() if value is not None]
    if len(chosen) > 1 or (excess and chosen and (bench or chosen != ["weights"])):
        got = " ".join(f"--{name.replace('_', '-')}" for name in [*chosen, *excess])
        raise ReszooError("reszoo list", got=got, expected="one of them")
    if not chosen:
        listing = listings.networks(zoo_file, **limits)
    elif weights:
        listing = listings.weights(zoo_file, **limits)
    else:
        listing = listings.KINDS[chosen[0]]()
    listing = listing.matching(pattern)
    if bench:
        listing = listings.measured(listing, zoo_file)
    if as_json:
        print_json(listing.rows)
        return
    console.print(table(f"{len(listing.rows)} {listing.kind}", listing.columns(), listing.cells()))


@app.command()
def info(
    name: Annotated[
        str,
        typer.Argument(
            help="a name, file.yaml:name, a checkpoint, or a tag of published weights",
            autocompletion=names.networks_and_weights,
        ),
    ],
    change: Changes = None,
    key: Annotated[
        str | None, typer.Option(help="checkpoints: network to describe, in a file that holds several")
    ] = None,
    prefix: Annotated[str | None, typer.Option(help="checkpoints: beginning of the network's names")] = None,
    as_json: Json = False,
) -> None:
    """Show a network (spec, cost of its parts, source, plain twin) or the content of a checkpoint."""
    if not names.is_network(name):
        if change:
            raise ReszooError("reszoo info --net", got=f"{change[0]} for {name}", expected="the name of a network")
        info_of_weights(name, key=key, prefix=prefix, as_json=as_json)
        return
    if key or prefix:
        option, value = ("--key", key) if key else ("--prefix", prefix)
        raise ReszooError(f"reszoo info {option}", got=f"{value} for a network of the zoo", expected="a checkpoint")
    entry = zoo.entry(name)
    spec = zoo.spec(entry.spec, **changes_of(change or []))
    plan, total = zoo.plan(spec), zoo.cost(spec)
    parts = cost_by_part(plan)
    plain = None if spec.block.shortcut == "none" else zoo.cost(spec.plain())
    if as_json:
        print_json(
            {
                "name": spec.name,
                "family": entry.family,
                "source": entry.source.ref,
                "spec": spec.model_dump(mode="json", exclude_defaults=True),
                "total": total,
                "parts": parts,
                "plain_twin": plain,
            }
        )
        return
    rows = [
        (
            part,
            len(plan.parts[part]),
            size(c.shape),
            *_grouped(c.params, c.macs, c.activations, c.receptive_field),
        )
        for part, c in parts.items()
    ]
    total_row = ("total", len(plan.segments), "", *_grouped(total.params, total.macs, total.activations), "")
    title = f"{total.depth} weighted layers; {total.params_all:,} parameters with running statistics"
    columns = ("part", "segments", "output", "params", "MACs", "activations", "field")
    console.print(f"[bold]{escaped(spec.name)}[/bold]: {escaped(entry.source.ref)}\n", soft_wrap=True)
    say(as_yaml(spec.model_dump(mode="json", exclude_defaults=True)))
    console.print(table(title, columns, [*rows, total_row]))
    if plain is None:
        console.print("\nA plain network without shortcuts.")
        return
    say(
        f"\nIts plain twin (--net shortcut=none) has {total.params - plain.params:,} fewer "
        f"parameters and {total.macs - plain.macs:,} fewer MACs."
    )


def _grouped(*numbers: int) -> tuple[str, ...]:
    return tuple(f"{number:,}" if number else "-" for number in numbers)


@app.command()
def schema() -> None:
    """Print the JSON schema of YAML files of networks, for editors."""
    from reszoo.arch.schema import schema as zoo_schema

    print(json.dumps(zoo_schema(), indent=2))


def info_of_weights(name: str, *, key: str | None = None, prefix: str | None = None, as_json: bool = False) -> None:
    """Prints a record of the catalogue, or the content of a checkpoint."""
    from reszoo.weights.catalogue import records
    from reszoo.weights.summary import details, summary

    if name in records():
        data = records()[name].model_dump(mode="json", exclude_defaults=True)
        print_json(data) if as_json else say(as_yaml(data))
    elif name.partition(".")[0] in zoo.builtin().names and not Path(name).exists():
        expected = "published weights (`reszoo list --weights`) or a file"
        raise UnknownNameError("reszoo info", got=name, known=records(), expected=expected)
    elif as_json:
        print_json(details(name, key=key, prefix=prefix))
    else:
        say(summary(name, key=key, prefix=prefix))


def _dialects(incomplete: str) -> list[str]:
    from reszoo.weights.dialects import dialects

    return [name for name in dialects() if name.startswith(incomplete)]


@app.command()
def convert(
    source: Annotated[
        str, typer.Argument(help="checkpoint of any format: file or folder", autocompletion=known.weights)
    ],
    target: Annotated[Path, typer.Argument(help=".keras, .weights.h5, .safetensors or .pth")],
    to: Annotated[
        str | None,
        typer.Option(
            help="names and layout to write: torchvision, hugging_face, reszoo, ...", autocompletion=_dialects
        ),
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="float16 to halve the file size")] = None,
    key: Annotated[str | None, typer.Option(help="network to read, in a file that holds several")] = None,
    prefix: Annotated[str | None, typer.Option(help="beginning of the network's names in the file")] = None,
    names: Annotated[
        Path | None, typer.Option(help="YAML file: reszoo layer name -> layer name in the checkpoint")
    ] = None,
    as_json: Json = False,
) -> None:
    """Convert a checkpoint to another format and check that its outputs are the same."""
    from reszoo.weights.convert import convert as convert_checkpoint
    from reszoo.weights.dialects import dialects

    # Before TensorFlow is loaded.
    check_folder(target.parent, "TARGET")
    if to is not None and to not in dialects():
        raise UnknownNameError("reszoo convert --to", got=to, known=dialects())
    result = convert_checkpoint(source, target, to=to, dtype=dtype, key=key, prefix=prefix, names=names)  # type: ignore[arg-type]
    if as_json:
        fields = ("path", "dialect", "difference")
        print_json({"network": result.spec.name} | {field: getattr(result, field) for field in fields})
        return
    name = f"{result.path}: {result.spec.name}, {result.dialect}"
    difference = f"outputs differ by {result.difference:.1e} of the largest output"
    say(f"{name}; {difference}")
