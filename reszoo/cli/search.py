"""The commands search and search report."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.live import Live

from reszoo.cli.screen import app, as_yaml, changes_of, console, say
from reszoo.errors import ReszooError
from reszoo.report.tables import short, table
from reszoo.tuning.results import Trial, ranked

if TYPE_CHECKING:
    from reszoo.tuning.study import Study


searching = typer.Typer()
app.add_typer(searching, name="search", invoke_without_command=True)


@searching.command()
def report(
    folder: Annotated[Path, typer.Argument(help="folder of a finished or unfinished study")],
    output: Annotated[Path | None, typer.Option(help="folder for the report; by default that of the study")] = None,
    storage: Annotated[str | None, typer.Option(help="address of the database if it is not in the folder")] = None,
) -> None:
    """Write a report page and PNG pictures of a study.

    Pareto fronts, effects of depth and width, learning curves, and the best network as YAML.
    """
    from reszoo.report.write import write
    from reszoo.tuning.study import open_study

    study = open_study(folder, storage=storage)
    page = study.page()
    file = write(page, output or study.folder)
    say(f"Saved to {file} with {len(page.pictures)} pictures")


@searching.callback()
def search(
    context: typer.Context,
    data: Annotated[str | None, typer.Option(help="folder of class folders, .npz, .csv, digits, cifar10, ...")] = None,
    space: Annotated[str | None, typer.Option(help="name (reszoo.list_spaces()) or file.yaml:name")] = None,
    output: Annotated[Path, typer.Option(help="folder of the study; rerun the same command to resume")] = Path(
        "reszoo_search"
    ),
    budget: Annotated[
        list[str] | None, typer.Option(help="limit: macs=2e6, params=1e5, latency=0.01, seconds=60, ...")
    ] = None,
    trials: Annotated[int, typer.Option(help="total number of trials, including earlier runs")] = 40,
    jobs: Annotated[int, typer.Option(help="number of parallel trials")] = 1,
    minutes: Annotated[float | None, typer.Option(help="time limit; no new epoch starts after it")] = None,
    recipe: Annotated[
        str | None, typer.Option(help="name (reszoo.list_recipes()); the default depends on the data")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="passes over the data; by default as in the recipe")] = None,
    sampler: Annotated[
        str | None, typer.Option(help="gp, tpe, nsga2, random or grid; by default that of the study, or gp")
    ] = None,
    pruning: Annotated[str, typer.Option(help="halving or none")] = "halving",
    objective: Annotated[list[str] | None, typer.Option(help="accuracy, then costs to minimize")] = None,
    seed: Annotated[
        int,
        typer.Option(min=0, max=2**32 - 1, help="random seed (proposals, weights, shuffling, augmentation)"),
    ] = 0,
    storage: Annotated[
        str | None, typer.Option(help="database shared by several machines: postgresql+psycopg://...")
    ] = None,
    size: Annotated[int | None, typer.Option(help="side in pixels of images from a folder")] = None,
    target: Annotated[str | None, typer.Option(help="class column of a .csv")] = None,
) -> None:
    """Search depth, width and recipe under a budget; safe to interrupt, rerun to resume."""
    from reszoo.tuning.search import Search
    from reszoo.tuning.space import list_spaces

    if context.invoked_subcommand:
        return
    if data is None or space is None:
        expected = f"--data and --space ({', '.join(list_spaces())}, file.yaml:name); or search report FOLDER"
        raise ReszooError("search", got=f"no --{'space' if data else 'data'}", expected=expected)
    limits = {name: _number(value) for name, value in changes_of(budget or []).items()}
    overrides: dict[str, Any] = {"epochs": epochs} if epochs else {}
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
        **overrides,
    )
    say(f"{study.space.name}: {study.fraction:.0%} of its random draws are networks within the budget")
    start = time.monotonic()
    before = len(ranked(study.trials))
    with Live(console=console, auto_refresh=False) as live:

        def watch(study: Study) -> None:
            live.update(_progress_line(study, trials, before, time.monotonic() - start), refresh=True)

        study.search(trials=trials, jobs=jobs, seconds=None if minutes is None else 60 * minutes, watch=watch)
    _show(study)
    say(f"Report of the study: reszoo search report {output}")


def _number(value: Any) -> Any:
    """The value as a float if possible: YAML parses 2e6, which has no dot, as a string."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return value


def _progress_line(study: Study, trials: int, before: int, seconds: float) -> str:
    done = sum(trial.state not in ("waiting", "running") for trial in study.trials)
    best = next(iter(ranked(study.trials)), None)
    remaining = f"about {seconds / (done - before) * (trials - done) / 60:.0f} min left" if done > before else ""
    parts = [f"{done} of {trials} trials", f"best {best.score:.2%} (trial {best.number})" if best else "", remaining]
    return ", ".join(filter(None, parts))


def _show(study: Study) -> None:
    """Prints the Pareto front, notes on trials, and the best network as YAML for a zoo file."""
    front = study.pareto("macs")
    rows = [_row(trial) for trial in front]
    columns = ("trial", "network", "accuracy", "params", "MACs", "layers", "epochs")
    console.print(table("Pareto front of accuracy and MACs", columns, rows))
    for trial in study.trials:
        if trial.note:
            say(f"trial {trial.number}, {trial.state}: {trial.note.splitlines()[-1]}")
    if front:
        best = study.best()
        name = f"{study.space.name}_best"
        fields = best.spec.model_dump(mode="json", exclude_defaults=True, exclude={"name"})
        say(f"\nThe best network, as YAML for a zoo file:\n{as_yaml({name: fields})}")
        say(f"Its weights: {best.weights}")


def _row(trial: Trial) -> tuple[Any, ...]:
    kind = "plain" if trial.spec.block.shortcut == "none" else "residual"
    depths = "-".join(str(stage.depth) for stage in trial.spec.stages)
    widths = "-".join(str(stage.width) for stage in trial.spec.stages)
    costs = trial.costs
    network = f"{kind} {depths} x {widths}"
    accuracy = f"{trial.score:.2%}"
    return trial.number, network, accuracy, short(costs["params"]), short(costs["macs"]), costs["depth"], trial.epochs
