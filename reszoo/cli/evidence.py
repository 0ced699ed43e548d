"""What residual connections do: compare, evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from reszoo.cli.screen import app, changes_of, console, escaped
from reszoo.report.page import number
from reszoo.report.tables import table


@app.command()
def compare(
    model: Annotated[str, typer.Argument(help="a residual network: a name, or file.yaml:name")],
    data: Annotated[str, typer.Option(help="a source, as for training")],
    output: Annotated[Path, typer.Option(help="folder for the page, its pictures and the numbers")] = Path(
        "comparison"
    ),
    shallow: Annotated[str | None, typer.Option(help="blocks of every stage of the shallow network: 3,3,3")] = None,
    steps: Annotated[int | None, typer.Option(help="of every training")] = None,
    rates: Annotated[str | None, typer.Option(help="learning rates, the best of which counts: 0.1,0.01")] = None,
    seeds: Annotated[int | None, typer.Option(help="how many; by default those of the budget")] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="of the network: --set width_multiplier=0.5")
    ] = None,
) -> None:
    """Compare a network with its plain twin and two controls: same examples in the same order, budget and seeds."""
    from reszoo.experiments.compare import compare as job

    with _progress() as watch:
        found = job(
            model,
            data,
            shallow=None if shallow is None else [*map(int, _numbers("--shallow", shallow))],
            steps=steps,
            rates=None if rates is None else _numbers("--rates", rates),
            seeds=None if seeds is None else range(seeds),
            watch=watch,
            **changes_of(change or []),
        )
    columns, rows = found.run_table()
    shown = [[cell if isinstance(cell, str) else number(cell) for cell in row] for row in rows]
    console.print(table(f"{found.name} on {found.data}: {found.budget.description}", columns, shown))
    first = found.contestants[0]
    for one in found.contestants[1:]:
        console.print(
            f"{one.family}: {escaped(one.description)}; {one.params - first.params:+,} parameters", soft_wrap=True
        )
    console.print("\n[bold]Training loss, deep less shallow (nats)[/bold]")
    for gap in found.gaps:
        console.print(
            f"- {gap.family}: {escaped(gap.description)}; inference mode {gap.moving_gap:+.3f}", soft_wrap=True
        )
    console.print(f"\nWritten: {found.write(output)} ({found.seconds:.0f} s)", soft_wrap=True)


@app.command()
def evidence(
    data: Annotated[str, typer.Option(help="images: a source, as for training")] = "digits",
    depths: Annotated[str, typer.Option(help="layers of the dense networks, up to 1,000")] = "10,50,100",
    seeds: Annotated[int | None, typer.Option(help="how many; by default those of the budget")] = None,
    claim: Annotated[list[str] | None, typer.Option(help='only these: --claim "gradient flow"; by default all')] = None,
    output: Annotated[Path, typer.Option(help="folder for the page, its pictures and the numbers")] = Path("evidence"),
) -> None:
    """Measure what is claimed of residual networks: plain beside residual beside control, offline, in a few minutes."""
    from reszoo.experiments.evidence import KINDS, evidence as job

    with _progress() as watch:
        found = job(
            data,
            depths=[*map(int, _numbers("--depths", depths))],
            seeds=None if seeds is None else range(seeds),
            claims=claim,
            watch=watch,
        )
    rows = []
    for finding in found.findings:
        cells = [
            "\n".join(f"{n.text} {escaped(n.family)}" for n in finding.numbers if n.kind == kind) for kind in KINDS
        ]
        rows.append((finding.name, *cells))
    console.print(table(f"What residual connections do, on {found.data}", ("claim", *KINDS), rows))
    for finding in found.findings:
        told = finding.claim
        console.print(
            f"\n[bold]{finding.name}[/bold]: {escaped(told.measure)}; {escaped(finding.where)}", soft_wrap=True
        )
        console.print(f"found: {escaped(finding.reading)}", soft_wrap=True)
        console.print(f"published: {escaped(told.published)}", soft_wrap=True)
        console.print(f"caveat: {escaped(told.caveat)}", style="dim", soft_wrap=True)
    console.print(f"\nWritten: {found.write(output)} ({found.seconds:.0f} s)", soft_wrap=True)


def _numbers(option: str, said: str) -> list[float]:
    """Numbers between commas."""
    from reszoo.errors import ReszooError

    try:
        return [float(part) for part in said.split(",")]
    except ValueError:
        raise ReszooError(option, got=said, expected="numbers with commas between them") from None


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar, and what to tell it."""
    from rich.progress import Progress

    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total)
