"""The command diagnose."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from reszoo.cli import options
from reszoo.cli.options import Json, Pictures, Size
from reszoo.cli.screen import app, check_folder, console, escaped, print_json, say
from reszoo.errors import ReszooError
from reszoo.report.tables import table

_COLORS = {"healthy": "green", "strained": "yellow", "broken": "red", "unknown": "dim"}


@app.command()
def diagnose(
    file: Annotated[Path, typer.Argument(help="a .keras file of any functional model")],
    data: Annotated[str, options.data()],
    output: Pictures = None,
    size: Size = None,
    scaling: Annotated[
        str,
        options.choice(
            "inputs: model (as its run scaled them, else as they are), data, or none", "model", "data", "none"
        ),
    ] = "model",
    batch: Annotated[int | None, typer.Option(help="batch size of its training, if known")] = None,
    epochs: Annotated[int | None, typer.Option(help="epochs of its training, if known")] = None,
    trial: Annotated[bool, typer.Option(help="train a copy for a few steps at several rates")] = True,
    seed: Annotated[int, options.seed("controls, splits, trials")] = 0,
    as_json: Json = False,
) -> None:
    """Find out why a trained or untrained network does not learn, and what to change."""
    from reszoo.training.evaluation_data import check_data
    from reszoo.weights.formats.archives import checked_zip

    # Before the next import loads TensorFlow.
    if not file.expanduser().is_file():
        raise ReszooError(str(file), got="no such file", expected="a .keras file")
    checked_zip(file.expanduser()).close()
    check_data(data)
    check_folder(output)
    from reszoo.diagnosis.diagnose import diagnose as run_diagnosis
    from reszoo.diagnosis.inputs import opened
    from reszoo.diagnosis.measures.result import control_text

    source = opened(file, data, size=size, scaling=scaling, seed=seed)
    settings: dict[str, Any] = {"loss": source.loss, "sample_weight": source.weights, "trial": None if trial else False}
    with console.status("measuring"):
        diagnosis = run_diagnosis(
            source.model, source.x, source.y, batch_size=batch, epochs=epochs, seed=seed, **settings
        )
    rows = [(r.title, Text(r.level, style=_COLORS[r.level]), control_text(r)) for r in diagnosis.results]
    say(f"{diagnosis.network}; {diagnosis.examples} examples, {diagnosis.seconds:.0f} s")
    constant = f"; the best constant prediction has {diagnosis.constant_loss:.4g}"
    if isfinite(diagnosis.loss):
        say(f"loss {diagnosis.loss:.4g} on these examples{constant}")
    say(f"inputs: {source.scaling}")
    for number, cause in enumerate(diagnosis.causes, 1):
        sure = "certain" if cause.certain else "suspected"
        console.print(f"\n[bold]{number}. {cause.kind}[/bold] ({sure}): {escaped(cause.seen)}", soft_wrap=True)
        say(cause.why)
        say(cause.remedy, style="green")
    for note in diagnosis.notes:
        say(f"\nnote: {note}")
    if not diagnosis.causes:
        say("\nNo cause found: nothing explains a failure to train.")
    console.print()
    console.print(table(diagnosis.model, ("measurement", "verdict", "control"), rows))
    for result in diagnosis.results:
        console.print(f"\n[bold]{result.title}[/bold]: {escaped(result.verdict)}", soft_wrap=True)
        console.print(escaped(result.thresholds), style="dim", soft_wrap=True)
    for title, reason in diagnosis.skipped:
        console.print(f"\n{title} skipped: {escaped(reason)}", soft_wrap=True)
    if diagnosis.advice:
        console.print("\n[bold]Suggested changes of depth and blocks[/bold]")
    for advice in diagnosis.advice:
        console.print(f"- {escaped(advice.what)} ({escaped(advice.because)})", soft_wrap=True)
    if output is not None:
        say(f"\nSaved to {diagnosis.write(output)}")
    if as_json:
        print_json(diagnosis.to_dict())
