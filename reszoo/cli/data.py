"""The command data: an audit of a data source."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from reszoo.cli.screen import app, console, escaped, say


@app.command()
def data(
    source: Annotated[str, typer.Argument(help="folder of class folders, .npz, .csv, digits, cifar10, ...")],
    size: Annotated[int | None, typer.Option(help="side in pixels that images are resized to")] = None,
    validation: Annotated[str | None, typer.Option(help="data source for validation")] = None,
    test: Annotated[str | None, typer.Option(help="data source for testing")] = None,
    target: Annotated[str | None, typer.Option(help="class column of a table")] = None,
    task: Annotated[str | None, typer.Option(help="classification, multilabel or regression")] = None,
    channels: Annotated[str | None, typer.Option(help="rgb or gray")] = None,
    seed: Annotated[int, typer.Option(help="random seed of the split")] = 0,
    page: Annotated[Path | None, typer.Option(help="write a page: an .html file, or a folder")] = None,
) -> None:
    """Audit a data source: examples per class and part, sizes, files left out, imbalance, exact copies."""
    from reszoo.data.sources import open_data

    settings: dict[str, Any] = {"size": size, "validation": validation, "test": test, "target": target, "seed": seed}
    opened = open_data(source, task=task, channels=channels, **settings)  # type: ignore[arg-type]
    audit = opened.audit()
    console.print(escaped(audit.text()), soft_wrap=True)
    if page is not None:
        say(f"Saved to {audit.write(page)}")
