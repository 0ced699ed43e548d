"""Options that several commands have: one name, one letter and one meaning each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from reszoo.cli import names
from reszoo.cli.screen import to_stderr
from reszoo.errors import nearest

SEEDS: dict[str, Any] = {"min": 0, "max": 2**32 - 1}


def model(text: str = "network: a name (reszoo list) or file.yaml:name") -> Any:
    """Returns the option of a network to build."""
    return typer.Option("--model", "-m", help=text, autocompletion=names.networks)


def data(text: str = "folder of class folders, .npz, .csv, digits, cifar10, ... (reszoo list --data)") -> Any:
    """Returns the option of a data source."""
    return typer.Option("--data", "-d", help=text, autocompletion=names.data_sets)


def output(text: str) -> Any:
    """Returns the option of a file or a folder to write."""
    return typer.Option("--output", "-o", help=text)


def file_or_weights(text: str) -> Any:
    """Returns the argument of a trained network."""
    return typer.Argument(help=text, autocompletion=names.weights)


def choice(text: str, *words: str) -> Any:
    """Returns an option that takes one of several words, checked before the command starts and completed by shells."""

    def check(value: str | None) -> str | None:
        if value is None or value in words:
            return value
        raise typer.BadParameter("; ".join(filter(None, (", ".join(words), nearest(value, words)))))

    return typer.Option(help=text, callback=check, autocompletion=names.words(*words))


def seed(text: str) -> Any:
    """Returns the option of a random seed."""
    return typer.Option(help=f"random seed ({text})", **SEEDS)


Changes = Annotated[
    list[str] | None, typer.Option("--net", help="change to the network: --net depths=[2,2,2,2] --net stem=cifar")
]
RecipeChanges = Annotated[
    list[str] | None, typer.Option("--set", help="change to the recipe: --set optimizer.momentum=0.95")
]
RecipeName = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        "-r",
        help="name (reszoo list --recipes) or file.yaml:name; the default depends on the data",
        autocompletion=names.recipes,
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        "--weights",
        "-w",
        help="pretrained weights: a tag (reszoo list --weights), a file, https://..., hf://org/repo",
        autocompletion=names.weights,
    ),
]
Epochs = Annotated[
    int | None, typer.Option("--epochs", "-e", min=1, help="passes over the data; by default as in the recipe")
]
Size = Annotated[int | None, typer.Option(min=1, help="resize images to this side, in pixels")]
Target = Annotated[str | None, typer.Option(help="class column of a table")]
Validation = Annotated[str | None, typer.Option(help="data source for validation; by default a part of --data")]
Test = Annotated[str | None, typer.Option(help="data source for one test at the end")]
Task = Annotated[
    str | None,
    choice(
        "classification, multilabel or regression; by default by the labels",
        "classification",
        "multilabel",
        "regression",
    ),
]
Channels = Annotated[
    str | None, choice("rgb or gray; by default those of the weights, else as they are", "rgb", "gray")
]
Pictures = Annotated[Path | None, output("folder for the report page, its pictures and numbers")]
Json = Annotated[
    bool, typer.Option("--json", help="print the result as JSON; everything else goes to stderr", callback=to_stderr)
]
