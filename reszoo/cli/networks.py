"""The commands list, info, schema and quickstart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from reszoo.arch import zoo
from reszoo.arch.cost import cost_by_part
from reszoo.arch.ops import size
from reszoo.cli.screen import app, as_yaml, changes_of, console, escaped, say
from reszoo.cli.weights import info_of_weights, list_weights
from reszoo.report.tables import short, table


@app.command("list")
def list_(
    pattern: Annotated[str, typer.Argument(help="shell pattern, such as 'resnet*' or '*_cifar'")] = "*",
    family: Annotated[str | None, typer.Option(help="imagenet, cifar or dense")] = None,
    max_params: Annotated[float | None, typer.Option(help="limit on trainable parameters, such as 5e6")] = None,
    max_macs: Annotated[float | None, typer.Option(help="limit on multiply-accumulates, such as 1e9")] = None,
    zoo_file: Annotated[
        Path | None, typer.Option("--zoo", help="YAML file to list instead of the built-in networks")
    ] = None,
    pretrained: Annotated[bool, typer.Option("--pretrained", help="list published weights instead")] = False,
) -> None:
    """List networks with their parameters, multiply-accumulates and weighted layers."""
    if pretrained:
        list_weights(pattern, family)
        return
    names = zoo.list_models(pattern, family=family, max_params=max_params, max_macs=max_macs, zoo=zoo_file)
    entries = [zoo.load(zoo_file).entry(name) if zoo_file else zoo.entry(name) for name in names]
    costs = [zoo.cost(entry.spec) for entry in entries]
    rows = [
        (entry.name, entry.family, short(c.params), short(c.macs), c.depth, size(entry.spec.input_shape))
        for entry, c in zip(entries, costs, strict=True)
    ]
    console.print(table(f"{len(rows)} networks", ("name", "family", "params", "MACs", "layers", "input"), rows))


@app.command()
def info(
    name: Annotated[str, typer.Argument(help="a name, file.yaml:name, a checkpoint, or a tag of published weights")],
    change: Annotated[
        list[str] | None,
        typer.Option("--net", "--set", help="change to the network: --net depths=[2,2,2,2] --net stem=cifar"),
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="checkpoints: network to describe, of a file that holds several")
    ] = None,
    prefix: Annotated[str | None, typer.Option(help="checkpoints: the beginning of the network's names")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="checkpoints: print JSON")] = False,
) -> None:
    """Show a network (spec, cost of its parts, source, plain twin) or the content of a checkpoint."""
    if ("." in name or Path(name).exists()) and not name.rpartition(":")[0]:
        info_of_weights(name, key=key, prefix=prefix, as_json=as_json)
        return
    entry = zoo.entry(name)
    spec = zoo.spec(entry.spec, **changes_of(change or []))
    plan, total = zoo.plan(spec), zoo.cost(spec)
    rows = [
        (
            part,
            len(plan.parts[part]),
            size(c.shape),
            *_grouped(c.params, c.macs, c.activations, c.receptive_field),
        )
        for part, c in cost_by_part(plan).items()
    ]
    total_row = ("total", len(plan.segments), "", *_grouped(total.params, total.macs, total.activations), "")
    title = f"{total.depth} weighted layers; {total.params_all:,} parameters with running statistics"
    columns = ("part", "segments", "output", "params", "MACs", "activations", "field")
    console.print(f"[bold]{escaped(spec.name)}[/bold]: {escaped(entry.source.ref)}\n", soft_wrap=True)
    say(as_yaml(spec.model_dump(mode="json", exclude_defaults=True)))
    console.print(table(title, columns, [*rows, total_row]))
    if spec.block.shortcut == "none":
        console.print("\nA plain network without shortcuts.")
        return
    plain = zoo.cost(spec.plain())
    say(
        f"\nIts plain twin, reszoo.spec({name!r}).plain(), has {total.params - plain.params:,} fewer parameters and "
        f"{total.macs - plain.macs:,} fewer MACs."
    )


def _grouped(*numbers: int) -> tuple[str, ...]:
    return tuple(f"{number:,}" if number else "-" for number in numbers)


@app.command()
def schema() -> None:
    """Print the JSON schema of YAML files of networks, for editors."""
    from reszoo.arch.schema import schema as zoo_schema

    print(json.dumps(zoo_schema(), indent=2))


@app.command()
def quickstart(
    output: Annotated[Path, typer.Option(help="folder for the page, its pictures and the numbers")] = Path(
        "reszoo_quickstart"
    ),
    seed: Annotated[int, typer.Option(help="random seed (initial weights, data order)")] = 0,
    depths: Annotated[tuple[int, int], typer.Option(help="two depths of the form 6n + 2")] = (20, 44),
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

    digits = open_data("digits", seed=seed)
    specs = experiment.specs(depths, digits)
    output.mkdir(parents=True, exist_ok=True)
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


def _percent(*shares: float) -> tuple[str, ...]:
    return tuple(f"{share:.1%}" for share in shares)
