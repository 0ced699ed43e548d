"""Networks: list, info, schema, quickstart."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from reszoo.arch import zoo
from reszoo.arch.cost import cost_by_part
from reszoo.arch.ops import size
from reszoo.cli.screen import app, as_yaml, changes_of, console, escaped
from reszoo.cli.weights import info_of_weights, list_weights
from reszoo.report.tables import short, table


@app.command("list")
def list_(
    pattern: Annotated[str, typer.Argument(help="shell pattern, such as 'resnet*' or '*_cifar'")] = "*",
    family: Annotated[str | None, typer.Option(help="imagenet, cifar or dense")] = None,
    max_params: Annotated[float | None, typer.Option(help="most trainable parameters, such as 5e6")] = None,
    max_macs: Annotated[float | None, typer.Option(help="most multiply-accumulates, such as 1e9")] = None,
    zoo_file: Annotated[Path | None, typer.Option("--zoo", help="a YAML file to list instead of our networks")] = None,
    pretrained: Annotated[bool, typer.Option("--pretrained", help="published weights instead of networks")] = False,
) -> None:
    """List networks: size, multiply-accumulates, weighted layers."""
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
    name: Annotated[str, typer.Argument(help="a name, file.yaml:name, a checkpoint, or published weights")],
    change: Annotated[
        list[str] | None, typer.Option("--set", help="field=value, in YAML: --set depths=[2,2,2,2] --set stem=cifar")
    ] = None,
) -> None:
    """Show one network: its spec, what its parts cost, its source and plain twin; or what a checkpoint holds."""
    if ("." in name or Path(name).exists()) and not name.rpartition(":")[0]:
        info_of_weights(name)
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
    whole = ("total", len(plan.segments), "", *_grouped(total.params, total.macs, total.activations), "")
    title = f"{total.depth} weighted layers; {total.params_all:,} parameters with running statistics"
    columns = ("part", "pieces", "output", "params", "MACs", "activations", "field")
    console.print(f"[bold]{spec.name}[/bold]: {escaped(entry.source.ref)}\n", soft_wrap=True)
    console.print(escaped(as_yaml(spec.model_dump(mode="json", exclude_defaults=True))), soft_wrap=True)
    console.print(table(title, columns, [*rows, whole]))
    if spec.block.shortcut == "none":
        console.print("\nA plain net: there is no shortcut in it.")
        return
    plain = zoo.cost(spec.plain())
    console.print(
        f"\nIts plain twin, reszoo.spec({name!r}).plain(), has {total.params - plain.params:,} parameters and "
        f"{total.macs - plain.macs:,} MACs fewer.",
        soft_wrap=True,
    )


def _grouped(*numbers: int) -> tuple[str, ...]:
    return tuple(f"{number:,}" if number else "-" for number in numbers)


@app.command()
def schema() -> None:
    """Print the JSON schema of a YAML file of networks, for editors."""
    from reszoo.arch.schema import schema as made

    print(json.dumps(made(), indent=2))


@app.command()
def quickstart(
    output: Annotated[Path, typer.Option(help="folder for the picture and the numbers")] = Path("reszoo_quickstart"),
    seed: Annotated[int, typer.Option(help="of weights and data order")] = 0,
    depths: Annotated[tuple[int, int], typer.Option(help="two depths of the form 6n + 2")] = (20, 44),
) -> None:
    """Train residual nets and their plain twins on handwritten digits, at two depths and from shipped weights.

    Offline, under two minutes on two cores.
    """
    from reszoo.data.sources import open_data
    from reszoo.experiments import quickstart as job
    from reszoo.experiments.transfer import RECIPES, SIZE, runs, transfer
    from reszoo.report.curves import draw_curves
    from reszoo.training.recipes import recipe

    digits = open_data("digits", seed=seed)
    specs = job.specs(depths, digits)
    output.mkdir(parents=True, exist_ok=True)
    results = []
    for number, spec in enumerate(specs, 1):
        console.print(f"\n[bold]{spec.name}[/bold] ({number} of {len(specs)}): {zoo.cost(spec).params:,} parameters")
        results.append(job.run(spec, digits, seed=seed))
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
    how = recipe(job.RECIPE)
    title = f"scikit-learn's digits, {how.epochs} epochs of SGD at {how.learning_rate.peak:g}"
    console.print()
    console.print(table(title, columns, rows))
    for line in job.reading(results):
        console.print(f"- {escaped(line)}.", soft_wrap=True)
    curves = {kind: {r.name: r.losses for r in results if r.kind == kind} for kind in ("plain", "residual")}
    draw_curves(curves, output / "curves.png", title="Training at two depths", ylabel="training loss (nats)")
    digits = open_data("digits", size=SIZE, seed=seed)
    transferred = []
    for name, start in runs():
        console.print(f"\n[bold]{name}[/bold], {start}")
        transferred.append(transfer(name, start, digits, seed=seed))
    epochs = range(1, len(transferred[0].accuracies) + 1)
    rows = [(f"{r.name}, {r.start}", *_percent(*r.accuracies)) for r in transferred]
    rates = ", ".join(f"{recipe(name).learning_rate.peak:g} {start}" for start, name in RECIPES.items())
    title = f"Test accuracy on digits at {SIZE} pixels; pretrained on Fashion-MNIST; greatest rate {rates}"
    console.print()
    console.print(table(title, ("network", *(f"epoch {number}" for number in epochs)), rows))
    console.print("- One seed and three epochs; the rate is higher from scratch, as random weights need.")
    told = {"depth": [asdict(result) for result in results], "transfer": [asdict(item) for item in transferred]}
    (output / "results.json").write_text(json.dumps(told, indent=2))
    console.print(f"\nWritten: {output / 'curves.png'} and {output / 'results.json'}")


def _percent(*shares: float) -> tuple[str, ...]:
    return tuple(f"{share:.1%}" for share in shares)
