"""The command lr."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from reszoo.cli.screen import app, changes_of, console, nested


@app.command()
def lr(
    model: Annotated[str, typer.Option(help="network: a name or file.yaml:name")],
    data: Annotated[str, typer.Option(help="data source, as for reszoo train")],
    output: Annotated[Path, typer.Option(help=".png file of the curve")] = Path("lr.png"),
    recipe: Annotated[str | None, typer.Option(help="as for reszoo train")] = None,
    weights: Annotated[str | None, typer.Option(help="as for reszoo train")] = None,
    size: Annotated[int | None, typer.Option(help="as for reszoo train")] = None,
    target: Annotated[str | None, typer.Option(help="class column of a table")] = None,
    steps: Annotated[int, typer.Option(min=2, help="steps from the lowest to the highest rate")] = 100,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="random seed")] = 0,
    change: Annotated[list[str] | None, typer.Option("--set", help="change to the recipe")] = None,
    net: Annotated[list[str] | None, typer.Option("--net", help="change to the network")] = None,
) -> None:
    """Find a learning rate: train a copy with a growing rate and draw the losses."""
    from reszoo.data.sources import open_data
    from reszoo.report.rates import draw_rates
    from reszoo.training.rate_finder import find_rate

    source = open_data(data, size=size, target=target, seed=seed)
    options: dict[str, Any] = {
        "recipe": recipe,
        "weights": weights,
        "steps": steps,
        "seed": seed,
        "changes": changes_of(net or []),
    }
    curve = find_rate(model, source, **options, **nested(changes_of(change or [])))
    draw_rates(curve.rates, curve.losses, curve.suggestion, output)
    console.print(f"learning rate {curve.suggestion:.2g}: --set learning_rate.peak={curve.suggestion:.2g}")
    console.print(f"Saved to {output}", soft_wrap=True, markup=False)
