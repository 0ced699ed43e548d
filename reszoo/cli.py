"""The command `reszoo`: it parses, calls and prints, and has no logic of its own."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console

from reszoo.arch import zoo
from reszoo.arch.cost import cost, cost_by_part
from reszoo.errors import ReszooError
from reszoo.report.tables import short, table

app = typer.Typer(
    name="reszoo",
    help="Residual networks and their plain twins for Keras.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console(highlight=False)


def main() -> None:
    """Runs the command; bad input ends it with one line and exit code 2."""
    # TensorFlow reads these when it is first imported. oneDNN's kernels are its default on some CPUs only; on the others
    # they train these networks about 1.7 times faster (benchmarks/train_step.py).
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        app()
    except ReszooError as error:
        Console(stderr=True, highlight=False).print(f"[red]error[/red] {_escaped(str(error))}", soft_wrap=True)
        sys.exit(2)


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")


@app.command("list")
def list_(
    pattern: Annotated[str, typer.Argument(help="shell pattern, such as 'resnet*' or '*_cifar'")] = "*",
    family: Annotated[str | None, typer.Option(help="imagenet, cifar or dense")] = None,
    max_params: Annotated[float | None, typer.Option(help="most trainable parameters, such as 5e6")] = None,
    max_macs: Annotated[float | None, typer.Option(help="most multiply-accumulates, such as 1e9")] = None,
    zoo_file: Annotated[
        Path | None, typer.Option("--zoo", help="a YAML file of networks to list instead of ours")
    ] = None,
) -> None:
    """List networks: size, multiply-accumulates, depth."""
    names = zoo.list_models(pattern, family=family, max_params=max_params, max_macs=max_macs, zoo=zoo_file)
    source = zoo.load(zoo_file) if zoo_file else zoo.builtin()
    rows = []
    for name in names:
        entry = source.entry(name)
        counted = cost(zoo.plan(entry.spec))
        size = "x".join(map(str, entry.spec.input_shape))
        rows.append((name, entry.family, short(counted.params), short(counted.macs), counted.depth, size))
    console.print(table(f"{len(rows)} networks", ("name", "family", "params", "MACs", "layers", "input"), rows))


@app.command()
def info(
    name: Annotated[str, typer.Argument(help="a name, or file.yaml:name")],
    change: Annotated[
        list[str] | None, typer.Option("--set", help="field=value, in YAML: --set depths=[2,2,2,2] --set stem=cifar")
    ] = None,
) -> None:
    """Show one network: its spec, what its parts cost, where it comes from, its plain twin."""
    entry = zoo.entry(name)
    spec = zoo.spec(entry.spec, **_changes(change or []))
    total = cost(zoo.plan(spec))
    rows = [
        (
            part,
            len(zoo.plan(spec).parts[part]),
            "x".join(map(str, c.shape)),
            f"{c.params:,}",
            f"{c.macs:,}",
            f"{c.activations:,}",
            c.receptive_field or "-",
        )
        for part, c in cost_by_part(zoo.plan(spec)).items()
    ]
    whole = (
        "total",
        sum(row[1] for row in rows),
        "",
        f"{total.params:,}",
        f"{total.macs:,}",
        f"{total.activations:,}",
        "",
    )
    columns = ("part", "pieces", "output", "params", "MACs", "activations", "field")
    console.print(f"[bold]{spec.name}[/bold]  {_escaped(entry.source.ref)}\n")
    console.print(_escaped(_yaml(spec.model_dump(mode="json", exclude_defaults=True))))
    console.print(
        table(
            f"{total.depth} weighted layers; {total.params_all:,} parameters with running statistics",
            columns,
            [*rows, whole],
        )
    )
    if spec.block.shortcut == "none":
        console.print("\nThis is a plain net.")
    else:
        plain = cost(zoo.plan(spec.plain()))
        console.print(
            f"\nPlain twin (`reszoo.spec({name!r}).plain()`): {plain.params:,} parameters, {total.params - plain.params:,} fewer; "
            f"{plain.macs:,} MACs, {total.macs - plain.macs:,} fewer."
        )


def _yaml(data: Any) -> str:
    return str(yaml.safe_dump(data, sort_keys=False, default_flow_style=None, width=110))


def _changes(said: list[str]) -> dict[str, Any]:
    changes = {}
    for item in said:
        field, equals, value = item.partition("=")
        if not equals:
            raise ReszooError("--set", given=item, allowed="field=value")
        changes[field] = yaml.safe_load(value)
    return changes


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
    """Train residual nets and their plain twins at two depths on handwritten digits: under two minutes on two cores."""
    from reszoo.report.curves import draw_curves
    from reszoo.training import data, quickstart as job

    output.mkdir(parents=True, exist_ok=True)
    digits = data.digits(seed=seed)
    results = []
    for spec in job.specs(depths, digits):
        console.print(f"\n[bold]{spec.name}[/bold]: {cost(zoo.plan(spec)).params:,} parameters")
        results.append(job.run(spec, digits, seed=seed))
    columns = ("network", "params", "loss", "train (batch BN)", "train (moving BN)", "test")
    rows = [
        (
            r.name,
            f"{r.params:,}",
            f"{r.losses[-1]:.3f}",
            f"{r.batch_accuracy:.1%}",
            f"{r.train_accuracy:.1%}",
            f"{r.test_accuracy:.1%}",
        )
        for r in results
    ]
    console.print()
    console.print(table("scikit-learn's digits, 6 epochs of SGD at 0.1", columns, rows))
    for line in job.reading(results):
        console.print(f"- {_escaped(line)}.", soft_wrap=True)
    panels = {
        word: {r.name: r.losses for r in results if r.residual == residual}
        for word, residual in (("plain", False), ("residual", True))
    }
    draw_curves(
        panels,
        output / "curves.png",
        title="Deeper plain nets train worse; residual nets do not",
        ylabel="training loss (nats)",
    )
    (output / "results.json").write_text(json.dumps([asdict(result) for result in results], indent=2))
    console.print(f"\nWritten: {output / 'curves.png'} and {output / 'results.json'}")
