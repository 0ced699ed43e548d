"""The command quickstart."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from reszoo.arch import zoo
from reszoo.cli import options
from reszoo.cli.options import Json
from reszoo.cli.screen import app, check_folder, console, escaped, keep, print_json, say
from reszoo.report.tables import table


@app.command()
def quickstart(
    output: Annotated[Path, options.output("folder for the page, its pictures and the numbers")] = Path(
        "reszoo_quickstart"
    ),
    seed: Annotated[int, options.seed("initial weights, data order")] = 0,
    depths: Annotated[tuple[int, int], typer.Option(help="two depths of the form 6n + 2")] = (20, 44),
    as_json: Json = False,
) -> None:
    """Train residual networks and their plain twins on handwritten digits.

    Two depths from scratch, then fine-tuning of shipped weights. Offline, under two minutes on two cores.
    """
    from reszoo.data.sources import open_data
    from reszoo.experiments import quickstart as experiment
    from reszoo.experiments.quickstart_page import quickstart_page
    from reszoo.experiments.transfer import RECIPES, SIZE, runs, transfer
    from reszoo.report.write import versions, write
    from reszoo.training.recipes import recipe

    check_folder(output)
    digits = open_data("digits", seed=seed)
    specs = experiment.specs(depths, digits)
    keep("nothing: the results are saved at the end; run it again")
    results = []
    for number, spec in enumerate(specs, 1):
        console.print(f"\n[bold]{spec.name}[/bold] ({number} of {len(specs)}): {zoo.cost(spec).params:,} parameters")
        results.append(experiment.run(spec, digits, seed=seed))
    columns = ("network", "params", "loss", "train (batch BN)", "train (moving BN)", "test")
    rows = [
        (
            r.name,
            f"{r.params:,}",
            f"{r.losses[-1]:.3f}",
            *_percent(r.batch_accuracy, r.train_accuracy, r.test_accuracy),
        )
        for r in results
    ]
    settings = recipe(experiment.RECIPE)
    title = f"scikit-learn's digits, {settings.epochs} epochs of SGD at {settings.learning_rate.peak:g}"
    console.print()
    console.print(table(title, columns, rows))
    for line in experiment.reading(results):
        console.print(f"- {escaped(line)}.", soft_wrap=True)
    larger = open_data("digits", size=SIZE, seed=seed)
    transfer_results = []
    for name, start in runs():
        console.print(f"\n[bold]{name}[/bold], {start}")
        transfer_results.append(transfer(name, start, larger, seed=seed))
    epochs = range(1, len(transfer_results[0].accuracies) + 1)
    rows = [(f"{r.name}, {r.start}", *_percent(*r.accuracies)) for r in transfer_results]
    rates = ", ".join(f"{recipe(name).learning_rate.peak:g} {start}" for start, name in RECIPES.items())
    title = f"Test accuracy on digits at {SIZE} pixels; pretrained on Fashion-MNIST; peak learning rate {rates}"
    console.print()
    console.print(table(title, ("network", *(f"epoch {number}" for number in epochs)), rows))
    console.print(
        "- One seed and three epochs; training from scratch uses a higher learning rate, as random weights need."
    )
    command = f"reszoo quickstart --depths {depths[0]} {depths[1]} --seed {seed}"
    page = quickstart_page(results, transfer_results, digits, command=command, seed=seed, versions=versions())
    say(f"\nSaved to {write(page, output)}, with curves.png and results.json")
    if as_json:
        print_json({"depth": [*map(asdict, results)], "transfer": [*map(asdict, transfer_results)]})


def _percent(*shares: float) -> tuple[str, ...]:
    return tuple(f"{share:.1%}" for share in shares)
