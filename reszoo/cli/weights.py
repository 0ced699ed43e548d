"""The command convert, and the weights part of info."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reszoo.arch import zoo
from reszoo.cli import names as known
from reszoo.cli.options import Json
from reszoo.cli.screen import app, as_yaml, check_folder, print_json, say
from reszoo.errors import UnknownNameError


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
