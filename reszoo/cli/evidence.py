"""The commands compare and evidence: the effects of residual connections."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from reszoo.cli.screen import app, changes_of, console, escaped, say
from reszoo.report.page import number
from reszoo.report.tables import table


@app.command()
def compare(
    model: Annotated[str, typer.Argument(help="residual network: a name or file.yaml:name")],
    data: Annotated[str, typer.Option(help="data source, as for reszoo train")],
    output: Annotated[Path, typer.Option(help="folder for the report page, its pictures and numbers")] = Path(
        "comparison"
    ),
    shallow: Annotated[str | None, typer.Option(help="blocks per stage of the shallow network: 3,3,3")] = None,
    steps: Annotated[int | None, typer.Option(help="training steps of every run")] = None,
    rates: Annotated[str | None, typer.Option(help="learning rates to try; the best one counts: 0.1,0.01")] = None,
    seeds: Annotated[int | None, typer.Option(help="number of seeds; by default that of the budget")] = None,
    change: Annotated[
        list[str] | None, typer.Option("--net", "--set", help="change to the network: --net width_multiplier=0.5")
    ] = None,
) -> None:
    """Compare a network with its plain twin and two controls: same data order, budget and seeds."""
    from reszoo.experiments.compare import compare as run_comparison

    with _progress() as progress:
        comparison = run_comparison(
            model,
            data,
            shallow=None if shallow is None else [*map(int, _numbers("--shallow", shallow))],
            steps=steps,
            rates=None if rates is None else _numbers("--rates", rates),
            seeds=None if seeds is None else range(seeds),
            watch=progress,
            **changes_of(change or []),
        )
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


@app.command()
def evidence(
    data: Annotated[str, typer.Option(help="images: data source, as for reszoo train")] = "digits",
    depths: Annotated[str, typer.Option(help="depths of the dense networks, up to 1,000 layers")] = "10,50,100",
    seeds: Annotated[int | None, typer.Option(help="number of seeds; by default that of the budget")] = None,
    claim: Annotated[
        list[str] | None, typer.Option(help='claims to measure: --claim "gradient flow"; by default all')
    ] = None,
    output: Annotated[Path, typer.Option(help="folder for the report page, its pictures and numbers")] = Path(
        "evidence"
    ),
) -> None:
    """Measure claims about residual networks against plain networks and controls, offline, in a few minutes."""
    from reszoo.experiments.evidence import KINDS, evidence as run_evidence

    with _progress() as progress:
        result = run_evidence(
            data,
            depths=[*map(int, _numbers("--depths", depths))],
            seeds=None if seeds is None else range(seeds),
            claims=claim,
            watch=progress,
        )
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


def _numbers(option: str, text: str) -> list[float]:
    """The numbers in a comma-separated list."""
    from reszoo.errors import ReszooError

    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ReszooError(option, got=text, expected="comma-separated numbers") from None


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar; yields its callback (stage, done, total)."""
    from rich.progress import Progress

    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda stage, done, total: bar.update(task, description=stage, completed=done, total=total)
