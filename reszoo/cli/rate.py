"""The command lr."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from reszoo.cli import options
from reszoo.cli.options import Changes, Json, RecipeChanges, RecipeName, Size, Target, Weights
from reszoo.cli.screen import app, changes_of, check_file, nested, print_json, say


@app.command()
def lr(
    model: Annotated[str, options.model()],
    data: Annotated[str, options.data()],
    output: Annotated[Path, options.output(".png file of the curve")] = Path("lr.png"),
    recipe: RecipeName = None,
    weights: Weights = None,
    size: Size = None,
    target: Target = None,
    steps: Annotated[int, typer.Option(min=2, help="steps from the lowest to the highest rate")] = 100,
    seed: Annotated[int, options.seed("split, initial weights, shuffling")] = 0,
    change: RecipeChanges = None,
    net: Changes = None,
    as_json: Json = False,
) -> None:
    """Find a learning rate: train a copy with a growing rate and draw the losses."""
    from reszoo.data.sources import open_data
    from reszoo.training.train import checked_spec

    check_file(output, ".png")
    overrides, changes = nested(changes_of(change or [], "--set")), changes_of(net or [])
    source = open_data(data, size=size, target=target, seed=seed)
    # Before the next import loads TensorFlow.
    spec = checked_spec(model, source, recipe=recipe, changes=changes, weights=weights, **overrides)
    from reszoo.report.rates import draw_rates
    from reszoo.training.rate_finder import find_rate

    settings: dict[str, Any] = {"recipe": recipe, "weights": weights, "steps": steps, "seed": seed}
    curve = find_rate(spec, source, **settings, **overrides)
    draw_rates(curve.rates, curve.losses, curve.suggestion, output)
    say(f"learning rate {curve.suggestion:.2g}: --set learning_rate.peak={curve.suggestion:.2g}")
    say(f"Saved to {output}")
    if as_json:
        print_json(curve)
