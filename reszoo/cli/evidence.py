"""The commands compare, evidence and quickstart: the effects of residual connections."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from reszoo.arch import zoo
from reszoo.cli import names, options
from reszoo.cli.options import Changes, Json
from reszoo.cli.screen import (
    app,
    changes_of,
    check_folder,
    console,
    escaped,
    keep,
    numbers,
    print_json,
    progress,
    say,
    whole_numbers,
)
from reszoo.report.page import number
from reszoo.report.tables import table


@app.command()
def compare(
    model: Annotated[
        str, typer.Argument(help="residual network: a name or file.yaml:name", autocompletion=names.networks)
    ],
    data: Annotated[str, options.data()],
    output: Annotated[Path, options.output("folder for the report page, its pictures and numbers")] = Path(
        "comparison"
    ),
    shallow: Annotated[str | None, typer.Option(help="blocks per stage of the shallow network: 3,3,3")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="training steps of every run")] = None,
    rates: Annotated[str | None, typer.Option(help="learning rates to try; the best one counts: 0.1,0.01")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="number of seeds; by default that of the budget")] = None,
    change: Changes = None,
    as_json: Json = False,
) -> None:
    """Compare a network with its plain twin and two controls: same data order, budget and seeds."""
    from reszoo.data.sources import open_data
    from reszoo.experiments.contestants import budget, contestants, shallower

    settings: dict[str, Any] = {
        "steps": steps,
        "rates": None if rates is None else numbers("--rates", rates),
        "seeds": None if seeds is None else range(seeds),
    }
    depths = None if shallow is None else whole_numbers("--shallow", shallow)
    # Before the next import loads TensorFlow.
    check_folder(output)
    spec = zoo.spec(model, **changes_of(change or []))
    contestants(spec, {})
    shallower(spec, depths)
    budget("dense" if spec.dense else "image", **settings)
    source = open_data(data)
    from reszoo.experiments.compare import compare as run_comparison

    keep("nothing was saved: a comparison is written at its end; fewer --steps, --rates or --seeds are faster")
    with progress() as watch:
        comparison = run_comparison(spec, source, shallow=depths, watch=watch, **settings)
    columns, rows = comparison.run_table()
    cells = [[cell if isinstance(cell, str) else number(cell) for cell in row] for row in rows]
    console.print(table(f"{comparison.name} on {comparison.data}: {comparison.budget.description}", columns, cells))
    first, *others = comparison.contestants
    for other in others:
        more = other.params - first.params
        say(f"{other.family}: {other.description}; {more:+,} parameters")
    console.print("\n[bold]Training loss, deep minus shallow (nats)[/bold]")
    for gap in comparison.gaps:
        say(f"- {gap.family}: {gap.description}; inference mode {gap.moving_gap:+.3f}")
    say(f"\nSaved to {comparison.write(output)} ({comparison.seconds:.0f} s)")
    if as_json:
        print_json(comparison.to_dict())


def _claims(incomplete: str) -> list[str]:
    from reszoo.experiments.contestants import claims

    return [name for name in claims() if name.startswith(incomplete)]


@app.command()
def evidence(
    data: Annotated[str, options.data("images: data source, as for reszoo train")] = "digits",
    depths: Annotated[str, typer.Option(help="depths of the dense networks, up to 1,000 layers")] = "10,50,100",
    seeds: Annotated[int | None, typer.Option(min=1, help="number of seeds; by default that of the budget")] = None,
    claim: Annotated[
        list[str] | None,
        typer.Option(help='claims to measure: --claim "gradient flow"; by default all', autocompletion=_claims),
    ] = None,
    output: Annotated[Path, options.output("folder for the report page, its pictures and numbers")] = Path("evidence"),
    as_json: Json = False,
) -> None:
    """Measure claims about residual networks against plain networks and controls, offline, in a few minutes."""
    from reszoo.data.sources import open_data
    from reszoo.experiments.contestants import check_evidence

    # Before the next import loads TensorFlow.
    check_folder(output)
    layers = whole_numbers("--depths", depths)
    check_evidence(layers, claim)
    source = open_data(data)
    from reszoo.experiments.evidence import KINDS, evidence as run_evidence

    keep("nothing was saved: the evidence is written at its end; a single --claim is faster")
    number_of = None if seeds is None else range(seeds)
    with progress() as watch:
        result = run_evidence(source, depths=layers, seeds=number_of, claims=claim, watch=watch)
    rows = []
    for finding in result.findings:
        cells = ["\n".join(f"{n.text} {n.family}" for n in finding.numbers if n.kind == kind) for kind in KINDS]
        rows.append((finding.name, *cells))
    console.print(table(f"What residual connections do, on {result.data}", ("claim", *KINDS), rows))
    for finding in result.findings:
        statement = finding.claim
        console.print(
            f"\n[bold]{finding.name}[/bold]: {escaped(statement.measure)}; {escaped(finding.where)}", soft_wrap=True
        )
        console.print(f"measured: {escaped(finding.reading)}", soft_wrap=True)
        console.print(f"published: {escaped(statement.published)}", soft_wrap=True)
        console.print(f"caveat: {escaped(statement.caveat)}", style="dim", soft_wrap=True)
    say(f"\nSaved to {result.write(output)} ({result.seconds:.0f} s)")
    if as_json:
        print_json(result.to_dict())


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
    from reszoo.report.write import versions, write
    from reszoo.training.recipes import recipe

    check_folder(output)
    digits = open_data("digits", seed=seed)
    specs = experiment.specs(depths, digits)
    keep("nothing was saved: the results are written at the end")
    results = []
    for index, spec in enumerate(specs, 1):
        console.print(f"\n[bold]{spec.name}[/bold] ({index} of {len(specs)}): {zoo.cost(spec).params:,} parameters")
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
    larger = open_data("digits", size=experiment.SIZE, seed=seed)
    transfer_results = []
    for name, start in experiment.runs():
        console.print(f"\n[bold]{name}[/bold], {start}")
        transfer_results.append(experiment.transfer(name, start, larger, seed=seed))
    epochs = range(1, len(transfer_results[0].accuracies) + 1)
    rows = [(f"{r.name}, {r.start}", *_percent(*r.accuracies)) for r in transfer_results]
    rates = ", ".join(f"{recipe(name).learning_rate.peak:g} {start}" for start, name in experiment.RECIPES.items())
    title = (
        f"Test accuracy on digits at {experiment.SIZE} pixels; pretrained on Fashion-MNIST; peak learning rate {rates}"
    )
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
