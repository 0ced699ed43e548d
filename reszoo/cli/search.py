"""The commands search and search report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.live import Live

from reszoo.cli import names, options
from reszoo.cli.options import Changes, Epochs, Json, RecipeChanges, RecipeName, Size, Task, Validation
from reszoo.cli.screen import app, as_yaml, changes_of, check_folder, console, keep, nested, print_json, say
from reszoo.errors import ReszooError
from reszoo.report.tables import short, table
from reszoo.tuning.leaderboard import network
from reszoo.tuning.results import Trial, ranked

if TYPE_CHECKING:
    from reszoo.tuning.study import Study


searching = typer.Typer()
app.add_typer(searching, name="search", invoke_without_command=True)


@searching.command()
def report(
    folder: Annotated[Path, typer.Argument(help="folder of a finished or unfinished study")],
    output: Annotated[Path | None, options.output("folder for the report; by default that of the study")] = None,
    logs: Annotated[Path | None, typer.Option(help="new folder for logs of TensorBoard, with hyperparameters")] = None,
    storage: Annotated[str | None, typer.Option(help="address of the database if it is not in the folder")] = None,
) -> None:
    """Write a report page and PNG pictures of a study.

    Pareto fronts, effects of depth and width, learning curves, and the best network as YAML.
    """
    from reszoo.tuning.study import open_study

    study = open_study(folder, storage=storage)
    if logs is not None:
        say(f"Saved to {study.write_logs(logs)}; show them by tensorboard --logdir {logs}")
    say(f"Saved to {study.write(output)} with its pictures and trials.csv")


@searching.callback()
def search(
    context: typer.Context,
    data: Annotated[str | None, options.data()] = None,
    space: Annotated[
        str | None,
        typer.Option(
            "--space", "-s", help="name (reszoo list --spaces) or file.yaml:name", autocompletion=names.spaces
        ),
    ] = None,
    output: Annotated[Path, options.output("folder of the study; rerun the same command to resume")] = Path(
        "reszoo_search"
    ),
    budget: Annotated[
        list[str] | None, typer.Option(help="limit: macs=2e6, params=1e5, latency=0.01, seconds=60, ...")
    ] = None,
    trials: Annotated[
        int, typer.Option("--trials", "-t", min=1, help="total number of trials, including earlier runs")
    ] = 40,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="number of parallel trials")] = 1,
    minutes: Annotated[float | None, typer.Option(min=0, help="time limit; no new epoch starts after it")] = None,
    recipe: RecipeName = None,
    epochs: Epochs = None,
    sampler: Annotated[
        str | None,
        options.choice(
            "gp, tpe, nsga2, random or grid; by default that of the study, or gp",
            "gp",
            "tpe",
            "nsga2",
            "random",
            "grid",
        ),
    ] = None,
    pruning: Annotated[
        str | None,
        options.choice("halving (the default for one objective) or none (for several)", "halving", "none"),
    ] = None,
    objective: Annotated[
        list[str] | None,
        typer.Option(
            help="accuracy, balanced_accuracy, f1, auc, loss, rmse, r2, ...; repeat it for several, costs included"
        ),
    ] = None,
    net: Changes = None,
    change: RecipeChanges = None,
    seed: Annotated[int, options.seed("proposals, weights, shuffling, augmentation")] = 0,
    storage: Annotated[
        str | None, typer.Option(help="database shared by several machines: postgresql+psycopg://...")
    ] = None,
    size: Size = None,
    target: Annotated[
        list[str] | None, typer.Option(help="target column of a table, by default the last; repeat it for several")
    ] = None,
    task: Task = None,
    validation: Validation = None,
    test: Annotated[str | None, typer.Option(help="data source on which the best network is measured once")] = None,
    folds: Annotated[
        int | None, typer.Option(min=2, help="score each trial by the median over this many folds")
    ] = None,
    extends: Annotated[Path | None, typer.Option(help="folder of a study whose finished trials are reused")] = None,
    as_json: Json = False,
) -> None:
    """Search depth, width and recipe under a budget; safe to interrupt, rerun to resume."""
    from reszoo.tuning.search import Search
    from reszoo.tuning.space import list_spaces

    if context.invoked_subcommand:
        return
    if data is None or space is None:
        expected = f"--data and --space ({', '.join(list_spaces())}, file.yaml:name); or search report FOLDER"
        raise ReszooError("search", got=f"no --{'space' if data else 'data'}", expected=expected)
    check_folder(output)
    limits = {name: _number(value) for name, value in changes_of(budget or [], "--budget").items()}
    overrides = nested(changes_of(change or [], "--set")) | ({"epochs": epochs} if epochs else {})
    study = Search(
        space,
        data,
        folder=output,
        recipe=recipe,
        budget=limits,
        changes=changes_of(net or []),
        objective=objective,
        sampler=sampler,
        pruning=pruning,
        seed=seed,
        storage=storage,
        size=size,
        target=(target[0] if len(target) == 1 else target) if target else None,
        task=task,  # type: ignore[arg-type]
        validation=validation,
        test=test,
        folds=folds,
        extends=extends,
        **overrides,
    )
    if study.setup.note:
        say(study.setup.note)
    say(f"{study.space.name}: {study.fraction:.0%} of random points in the space are networks within the budget")
    start = time.monotonic()
    before = len(ranked(study.trials))
    keep(f"finished trials and epochs are saved in {output}; the same command resumes")
    with _progress() as show:

        def watch(study: Study) -> None:
            show(_progress_line(study, trials, before, time.monotonic() - start))

        study.search(trials=trials, jobs=jobs, seconds=None if minutes is None else 60 * minutes, watch=watch)
        watch(study)
    _show(study)
    if test and ranked(study.trials):
        result = study.test_best()
        name, value = next(iter(result.metrics.items()))
        words = f"measured once: {name.replace('_', ' ')} {value:.4f} ({result.protocol})"
        say(f"Test of trial {study.best().number}, which validation chose, {words}")
    say(f"Report of the study: reszoo search report {output}")
    if as_json:
        front = study.pareto("macs")
        print_json({"folder": output, "trials": [*map(_as_data, study.trials)], "front": [t.number for t in front]})


def _as_data(trial: Trial) -> dict[str, Any]:
    fields = ("number", "state", "score", "epochs", "costs", "note")
    spec = trial.spec.model_dump(mode="json", exclude_defaults=True)
    return {name: getattr(trial, name) for name in fields} | {"weights": trial.location, "spec": spec}


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """A line that changes, or a line for each change where there is no terminal."""
    if console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            yield lambda line: live.update(line, refresh=True)
        return
    lines: list[str] = []

    def show(line: str) -> None:
        # The time that remains changes without news.
        news = line.partition(", about")[0]
        if news not in lines:
            lines.append(news)
            say(line)

    yield show


def _number(value: Any) -> Any:
    """The value as a float if possible: YAML parses 2e6, which has no dot, as a string."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return value


def _progress_line(study: Study, trials: int, before: int, seconds: float) -> str:
    done = sum(trial.state not in ("waiting", "running") for trial in study.trials)
    best = next(iter(ranked(study.trials)), None)
    remaining = (
        f"about {seconds / (done - before) * (trials - done) / 60:.0f} min left" if before < done < trials else ""
    )
    best_text = f"best {_score(best)} (trial {best.number})" if best else ""
    parts = [f"{done} of {trials} trials", best_text, remaining]
    return ", ".join(filter(None, parts))


def _show(study: Study) -> None:
    """Prints the Pareto front, notes on trials, and the best network as YAML for a zoo file."""
    from reszoo.tuning.production import recipe_yaml

    front = study.pareto("macs")
    rows = [_row(trial) for trial in front]
    measure = study.objectives[0].replace("_", " ")
    columns = ("trial", "network", measure, "params", "MACs", "layers", "epochs")
    console.print(table(f"Pareto front of {measure} and MACs", columns, rows))
    examples = study.settings["data"]["validation"]
    say(f"{measure} on {examples:,} validation examples, by which the search chose: optimistic")
    for trial in study.trials:
        if trial.note:
            say(f"trial {trial.number}, {trial.state}: {trial.note.splitlines()[-1]}")
    if front:
        best = study.best()
        name = f"{study.space.name}_best"
        fields = best.spec.model_dump(mode="json", exclude_defaults=True, exclude={"name"})
        say(f"\nThe best network, as YAML for a zoo file:\n{as_yaml({name: fields})}")
        say(f"Its weights: {best.location}")
        say(f"\nIts recipe, as YAML for a recipe file:\n{recipe_yaml(best, name)}")
        say(f"To export it: reszoo search best {study.folder} --output best")


def _score(trial: Trial) -> str:
    return f"{trial.score:.2%}" if trial.measure.name.endswith("accuracy") else f"{trial.score:.4g}"


def _row(trial: Trial) -> tuple[Any, ...]:
    costs = trial.costs
    sizes = (short(costs["params"]), short(costs["macs"]), costs["depth"])
    return trial.number, network(trial), _score(trial), *sizes, trial.epochs
