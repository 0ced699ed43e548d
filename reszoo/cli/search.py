"""Searching: search, and search report."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.live import Live

from reszoo.cli.screen import app, as_yaml, changes_of, console, escaped
from reszoo.errors import ReszooError
from reszoo.report.tables import short, table
from reszoo.tuning.results import Trial, ranked

if TYPE_CHECKING:
    from reszoo.tuning.study import Study


searching = typer.Typer()
app.add_typer(searching, name="search", invoke_without_command=True)


@searching.command()
def report(
    folder: Annotated[Path, typer.Argument(help="of a study, begun or finished")],
    output: Annotated[Path | None, typer.Option(help="where to write; by default the study's folder")] = None,
    storage: Annotated[
        str | None, typer.Option(help="address of its database, where that is not in the folder")
    ] = None,
) -> None:
    """Write a study as one page and PNG pictures: fronts, effects of depth and width, curves, the best as YAML."""
    from reszoo.report.write import write
    from reszoo.tuning.study import open_study

    study = open_study(folder, storage=storage)
    page = study.page()
    file = write(page, output or study.folder)
    console.print(f"Written: {file} and {len(page.pictures)} pictures beside it", soft_wrap=True)


@searching.callback()
def search(
    context: typer.Context,
    data: Annotated[
        str | None, typer.Option(help="a folder of class folders, a .npz, a .csv, digits, cifar10, ...")
    ] = None,
    space: Annotated[str | None, typer.Option(help="reszoo.list_spaces(), or file.yaml:name")] = None,
    output: Annotated[Path, typer.Option(help="folder of the study; the same command goes on with it")] = Path(
        "reszoo_search"
    ),
    budget: Annotated[
        list[str] | None, typer.Option(help="limit=most: macs=2e6, params=1e5, latency=0.01, seconds=60, ...")
    ] = None,
    trials: Annotated[int, typer.Option(help="in all, those of earlier calls included")] = 40,
    jobs: Annotated[int, typer.Option(help="trials at the same time")] = 1,
    minutes: Annotated[float | None, typer.Option(help="after which no epoch is begun")] = None,
    recipe: Annotated[str | None, typer.Option(help="reszoo.list_recipes(); by default one for the data")] = None,
    epochs: Annotated[int | None, typer.Option(help="passes over the data; by default the recipe's")] = None,
    sampler: Annotated[str, typer.Option(help="tpe, nsga2, random, grid or gp")] = "tpe",
    pruning: Annotated[str, typer.Option(help="halving, or none")] = "halving",
    objective: Annotated[list[str] | None, typer.Option(help="accuracy, and costs to make small after it")] = None,
    seed: Annotated[int, typer.Option(help="of proposals, weights, order and augmentation")] = 0,
    storage: Annotated[str | None, typer.Option(help="a database for many machines: postgresql+psycopg://...")] = None,
    size: Annotated[int | None, typer.Option(help="side of the images of a folder, in pixels")] = None,
    target: Annotated[str | None, typer.Option(help="of a .csv, the column of classes")] = None,
) -> None:
    """Search depth, width and recipe under a budget; killed at any moment, the same command goes on."""
    from reszoo.tuning.search import Search
    from reszoo.tuning.space import list_spaces

    if context.invoked_subcommand:
        return
    if data is None or space is None:
        expected = f"--data and --space ({', '.join(list_spaces())}, file.yaml:name); or search report FOLDER"
        raise ReszooError("search", got=f"no --{'space' if data else 'data'}", expected=expected)
    limits = {name: _number(value) for name, value in changes_of(budget or []).items()}
    said: dict[str, Any] = {"epochs": epochs} if epochs else {}
    study = Search(
        space,
        data,
        folder=output,
        recipe=recipe,
        budget=limits,
        objective=objective or "accuracy",
        sampler=sampler,
        pruning=pruning,
        seed=seed,
        storage=storage,
        size=size,
        target=target,
        **said,
    )
    console.print(f"{study.space.name}: {study.fraction:.0%} of its draws are networks within the budget")
    began, before = time.monotonic(), len(ranked(study.trials))
    with Live(console=console, auto_refresh=False) as live:

        def watch(found: Study) -> None:
            live.update(_standing(found, trials, before, time.monotonic() - began), refresh=True)

        study.search(trials=trials, jobs=jobs, seconds=None if minutes is None else 60 * minutes, watch=watch)
    _show(study)
    console.print(f"The whole study as a page: reszoo search report {output}", soft_wrap=True)


def _number(value: Any) -> Any:
    """YAML reads 2e6, which has no dot, as text."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return value


def _standing(study: Study, trials: int, before: int, seconds: float) -> str:
    found = study.trials
    over = sum(trial.state not in ("waiting", "running") for trial in found)
    best = next(iter(ranked(found)), None)
    left = f"about {seconds / (over - before) * (trials - over) / 60:.0f} min left" if over > before else ""
    parts = [f"{over} of {trials} trials", f"best {best.score:.2%} (trial {best.number})" if best else "", left]
    return ", ".join(filter(None, parts))


def _show(study: Study) -> None:
    """Prints the Pareto front, what went wrong, and the best network as YAML to paste into a zoo file."""
    front = study.pareto("macs")
    rows = [_row(trial) for trial in front]
    columns = ("trial", "network", "accuracy", "params", "MACs", "layers", "epochs")
    console.print(table("No other trial is both better and cheaper", columns, rows))
    for trial in study.trials:
        if trial.note:
            last = escaped(trial.note.splitlines()[-1])
            console.print(f"trial {trial.number}, {trial.state}: {last}", soft_wrap=True)
    if front:
        best = study.best()
        name = f"{study.space.name}_best"
        told = best.spec.model_dump(mode="json", exclude_defaults=True, exclude={"name"})
        console.print(f"\nThe best, for a zoo file:\n{escaped(as_yaml({name: told}))}", soft_wrap=True)
        console.print(f"Its weights: {best.weights}", soft_wrap=True)


def _row(trial: Trial) -> tuple[Any, ...]:
    kind = "plain" if trial.spec.block.shortcut == "none" else "residual"
    depths = "-".join(str(stage.depth) for stage in trial.spec.stages)
    widths = "-".join(str(stage.width) for stage in trial.spec.stages)
    costs = trial.costs
    network = f"{kind} {depths} x {widths}"
    accuracy = f"{trial.score:.2%}"
    return trial.number, network, accuracy, short(costs["params"]), short(costs["macs"]), costs["depth"], trial.epochs
