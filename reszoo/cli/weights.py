"""Weights: what is published, what a checkpoint holds, convert."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from reszoo.arch import zoo
from reszoo.cli.screen import app, as_yaml, console, escaped
from reszoo.report.tables import table


def list_weights(pattern: str, family: str | None) -> None:
    """Prints the published weights of the networks that match."""
    from reszoo.weights.catalogue import records

    names = {*zoo.list_models(pattern, family=family)}
    found = [record for record in records().values() if record.model in names]
    rows = [
        (
            record.name,
            *(f"{number:.2f}" if number else "-" for number in _accuracy(record)),
            record.preprocessing.crop,
            record.licence,
        )
        for record in found
    ]
    columns = ("weights", "top-1 %", "top-5 %", "pixels", "licence")
    console.print(table(f"{len(rows)} published weights; the first of a network is its default", columns, rows))


def _accuracy(record: Any) -> tuple[float | None, float | None]:
    return (record.accuracy[0].top1, record.accuracy[0].top5) if record.accuracy else (None, None)


def info_of_weights(name: str) -> None:
    """Prints a record of the catalogue, or what a checkpoint holds."""
    from reszoo.weights.catalogue import records
    from reszoo.weights.summary import summary

    if name in records():
        data = records()[name].model_dump(mode="json", exclude_defaults=True)
        console.print(escaped(as_yaml(data)), soft_wrap=True)
    else:
        console.print(escaped(summary(name)), soft_wrap=True)


@app.command()
def convert(
    source: Annotated[str, typer.Argument(help="a checkpoint of any kind: file or folder")],
    target: Annotated[Path, typer.Argument(help=".keras, .weights.h5, .safetensors or .pth")],
    to: Annotated[
        str | None, typer.Option(help="whose names and layout: torchvision, hugging_face, reszoo, ...")
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="float16 for half of the bytes")] = None,
    key: Annotated[str | None, typer.Option(help="of a file that wraps several networks, the one to take")] = None,
    names: Annotated[Path | None, typer.Option(help="a YAML file of our names to theirs")] = None,
) -> None:
    """Write a checkpoint in another format, and check that it computes the same."""
    from reszoo.weights.convert import convert as job

    made = job(source, target, to=to, dtype=dtype, key=key, names=names)  # type: ignore[arg-type]
    told = f"{made.path}: {made.spec.name}, {made.dialect}; outputs differ by {made.difference:.1e} of the greatest"
    console.print(escaped(told), soft_wrap=True)
