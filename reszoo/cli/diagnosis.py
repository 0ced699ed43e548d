"""Diagnosis: diagnose."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reszoo.cli.screen import app, console, escaped
from reszoo.report.tables import table

_COLOURS = {"healthy": "green", "strained": "yellow", "broken": "red", "unknown": "dim"}


@app.command()
def diagnose(
    file: Annotated[Path, typer.Argument(help="a .keras file of any functional model")],
    data: Annotated[str, typer.Option(help="a source, as for training")],
    output: Annotated[Path | None, typer.Option(help="folder for the page, its pictures and the numbers")] = None,
    size: Annotated[int | None, typer.Option(help="side of the images of a folder, in pixels")] = None,
    seed: Annotated[int, typer.Option(help="of controls and splits")] = 0,
) -> None:
    """Say what is wrong with a network, trained or not, and what to change."""
    from reszoo.diagnosis.diagnose import diagnose as job
    from reszoo.diagnosis.inputs import opened
    from reszoo.diagnosis.measures.result import control_text

    model, x, y = opened(file, data, size=size, seed=seed)
    with console.status("measuring"):
        found = job(model, x, y, seed=seed)
    rows = [(r.title, f"[{_COLOURS[r.level]}]{r.level}[/]", escaped(control_text(r))) for r in found.results]
    console.print(escaped(f"{found.network}; {found.examples} examples, {found.seconds:.0f} s"), soft_wrap=True)
    console.print(table(found.model, ("measurement", "verdict", "control"), rows))
    for result in found.results:
        console.print(f"\n[bold]{result.title}[/bold]: {escaped(result.verdict)}", soft_wrap=True)
        console.print(escaped(result.thresholds), style="dim", soft_wrap=True)
    for title, why in found.skipped:
        console.print(f"\n{title} left out: {escaped(why)}", soft_wrap=True)
    console.print("\n[bold]What to change[/bold]" if found.advice else "\nNothing to change.")
    for advice in found.advice:
        console.print(f"- {escaped(advice.what)} ({escaped(advice.because)})", soft_wrap=True)
    if output is not None:
        console.print(f"\nWritten: {found.write(output)}", soft_wrap=True)
