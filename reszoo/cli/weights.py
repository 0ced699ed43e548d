"""The command convert, and the weights part of list and info."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from reszoo.arch import zoo
from reszoo.cli.screen import app, as_yaml, console, say
from reszoo.report.tables import table


def list_weights(pattern: str, family: str | None) -> None:
    """Prints the published weights of the matching networks."""
    from reszoo.weights.catalogue import records

    names = {*zoo.list_models(pattern, family=family)}
    matches = [record for record in records().values() if record.model in names]
    rows = [
        (
            record.name,
            *(f"{number:.2f}" if number else "-" for number in _accuracy(record)),
            record.preprocessing.crop,
            record.licence,
        )
        for record in matches
    ]
    columns = ("weights", "top-1 %", "top-5 %", "pixels", "licence")
    console.print(table(f"{len(rows)} published weights; the first one of a network is its default", columns, rows))


def _accuracy(record: Any) -> tuple[float | None, float | None]:
    return (record.accuracy[0].top1, record.accuracy[0].top5) if record.accuracy else (None, None)


def info_of_weights(name: str) -> None:
    """Prints a record of the catalogue, or the content of a checkpoint."""
    from reszoo.weights.catalogue import records
    from reszoo.weights.summary import summary

    if name in records():
        data = records()[name].model_dump(mode="json", exclude_defaults=True)
        say(as_yaml(data))
    else:
        say(summary(name))


@app.command()
def convert(
    source: Annotated[str, typer.Argument(help="checkpoint of any format: file or folder")],
    target: Annotated[Path, typer.Argument(help=".keras, .weights.h5, .safetensors or .pth")],
    to: Annotated[
        str | None, typer.Option(help="names and layout to write: torchvision, hugging_face, reszoo, ...")
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="float16 to halve the file size")] = None,
    key: Annotated[str | None, typer.Option(help="network to read from a file that holds several")] = None,
    names: Annotated[
        Path | None, typer.Option(help="YAML file: reszoo layer name -> layer name in the checkpoint")
    ] = None,
) -> None:
    """Convert a checkpoint to another format and check that its outputs are the same."""
    from reszoo.weights.convert import convert as convert_checkpoint

    result = convert_checkpoint(source, target, to=to, dtype=dtype, key=key, names=names)  # type: ignore[arg-type]
    name = f"{result.path}: {result.spec.name}, {result.dialect}"
    difference = f"outputs differ by {result.difference:.1e} of the largest output"
    say(f"{name}; {difference}")
