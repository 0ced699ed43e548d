"""The command diagnose."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from reszoo.cli.screen import app, console, escaped, say
from reszoo.errors import ReszooError
from reszoo.report.tables import table

_COLORS = {"healthy": "green", "strained": "yellow", "broken": "red", "unknown": "dim"}


@app.command()
def diagnose(
    file: Annotated[Path, typer.Argument(help="a .keras file of any functional model")],
    data: Annotated[str, typer.Option(help="data source, as for reszoo train")],
    output: Annotated[Path | None, typer.Option(help="folder for the report page, its pictures and numbers")] = None,
    size: Annotated[int | None, typer.Option(help="side in pixels of images from a folder")] = None,
    seed: Annotated[int, typer.Option(help="random seed (controls, splits)")] = 0,
) -> None:
    """Diagnose a trained or untrained network and suggest changes."""
    from reszoo.training.parts import check_data

    if not file.expanduser().is_file():
        raise ReszooError(str(file), got="no such file", expected="a .keras file")
    check_data(data)
    from reszoo.diagnosis.diagnose import diagnose as run_diagnosis
    from reszoo.diagnosis.inputs import opened
    from reszoo.diagnosis.measures.result import control_text

    model, x, y = opened(file, data, size=size, seed=seed)
    with console.status("measuring"):
        diagnosis = run_diagnosis(model, x, y, seed=seed)
    rows = [(r.title, Text(r.level, style=_COLORS[r.level]), control_text(r)) for r in diagnosis.results]
    say(f"{diagnosis.network}; {diagnosis.examples} examples, {diagnosis.seconds:.0f} s")
    console.print(table(diagnosis.model, ("measurement", "verdict", "control"), rows))
    for result in diagnosis.results:
        console.print(f"\n[bold]{result.title}[/bold]: {escaped(result.verdict)}", soft_wrap=True)
        console.print(escaped(result.thresholds), style="dim", soft_wrap=True)
    for title, reason in diagnosis.skipped:
        console.print(f"\n{title} skipped: {escaped(reason)}", soft_wrap=True)
    console.print("\n[bold]Suggested changes[/bold]" if diagnosis.advice else "\nNo changes suggested.")
    for advice in diagnosis.advice:
        console.print(f"- {escaped(advice.what)} ({escaped(advice.because)})", soft_wrap=True)
    if output is not None:
        say(f"\nSaved to {diagnosis.write(output)}")
