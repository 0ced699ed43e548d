"""The command data: an audit of a data source."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from reszoo.cli import names, options
from reszoo.cli.options import Channels, Json, Size, Target, Task, Test, Validation
from reszoo.cli.screen import app, check_folder, console, escaped, print_json, say


@app.command()
def data(
    source: Annotated[
        str,
        typer.Argument(
            help="folder of class folders, .npz, .csv, digits, cifar10, ... (reszoo list --data)",
            autocompletion=names.data_sets,
        ),
    ],
    size: Size = None,
    validation: Validation = None,
    test: Test = None,
    target: Target = None,
    task: Task = None,
    channels: Channels = None,
    seed: Annotated[int, options.seed("split")] = 0,
    page: Annotated[Path | None, typer.Option(help="write a page: an .html file, or a folder")] = None,
    as_json: Json = False,
) -> None:
    """Audit a data source: examples per class and part, sizes, files left out, imbalance, exact copies."""
    from reszoo.data.sources import open_data

    check_folder(page.parent if page is not None and page.suffix == ".html" else page, "--page")
    settings: dict[str, Any] = {"size": size, "validation": validation, "test": test, "target": target, "seed": seed}
    opened = open_data(source, task=task, channels=channels, **settings)  # type: ignore[arg-type]
    audit = opened.audit()
    console.print(escaped(audit.text()), soft_wrap=True)
    if page is not None:
        say(f"Saved to {audit.write(page)}")
    if as_json:
        print_json(audit)
