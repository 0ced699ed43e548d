"""The commands search show and search best."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from reszoo.cli import options
from reszoo.cli.options import Epochs, Json, Size
from reszoo.cli.screen import check_folder, console, keep, print_json, say
from reszoo.cli.search import searching
from reszoo.errors import ReszooError
from reszoo.report.tables import table


@searching.command()
def show(
    folder: Annotated[Path, typer.Argument(help="folder of a finished or unfinished study")],
    top: Annotated[int, typer.Option(min=1, help="number of trials, best first")] = 20,
    ensemble: Annotated[
        int | None, typer.Option(min=2, help="measure the average of so many of the best networks, too")
    ] = None,
    as_json: Json = False,
    storage: Annotated[str | None, typer.Option(help="address of the database if it is not in the folder")] = None,
) -> None:
    """Print the leaderboard of a study, with 95 % intervals of the scores."""
    from reszoo.tuning.study import open_study

    study = open_study(folder, storage=storage)
    board = study.leaderboard()
    together = None if ensemble is None else study.ensemble(ensemble)
    if as_json:
        further = {} if together is None else {"ensemble": together.to_dict()}
        print_json({"study": str(study.folder), **board.to_dict(), **further})
        return
    rows = board.rows()
    title = f"{board.space}: {len(rows)} of {len(study.trials)} trials were trained to their end"
    console.print(table(title, board.columns(), rows[:top]))
    say(f"\n{board.note}" if rows else "no trial was trained to its end")
    if together is not None:
        say(str(together))


@searching.command()
def best(
    folder: Annotated[Path, typer.Argument(help="folder of a finished or unfinished study")],
    output: Annotated[Path, options.output("folder for network.yaml, recipe.yaml, model.keras and README.md")],
    trial: Annotated[int | None, typer.Option(help="number of the trial; by default the best one")] = None,
    refit: Annotated[bool, typer.Option("--refit", help="train it again from the start; rerun to resume")] = False,
    part: Annotated[
        str, typer.Option(help="with --refit: train on all examples (all), or on those of the search (train)")
    ] = "all",
    epochs: Epochs = None,
    data: Annotated[str | None, options.data("with --refit: by default the data of the study")] = None,
    size: Size = None,
    target: Annotated[str | None, typer.Option(help="with --data: class column of a .csv")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the files of an earlier export")] = False,
    storage: Annotated[str | None, typer.Option(help="address of the database if it is not in the folder")] = None,
) -> None:
    """Export the best network of a study: network, recipe, weights and model card.

    With --refit it is trained again, longer or on all examples, in an ordinary run folder.
    """
    from reszoo.tuning.study import open_study

    if not refit:
        further = {"epochs": epochs, "data": data, "size": size, "target": target, "part": part != "all"}
        name = next((name for name, value in further.items() if value), None)
        if name:
            raise ReszooError("search best", got=f"--{name} without --refit", expected="--refit, which trains")
    elif overwrite:
        raise ReszooError(
            "search best", got="--overwrite with --refit", expected="a run folder of its own, which resumes"
        )
    study = open_study(folder, storage=storage)
    if not refit:
        file = study.export(output, trial=trial, overwrite=overwrite)
        say((file.parent / "README.md").read_text(encoding="utf-8"))
    else:
        check_folder(output)
        keep(f"every finished epoch is saved in {output}; the same command resumes after the last one")
        settings: dict[str, Any] = {"data": data, "size": size, "target": target}
        settings |= {"epochs": epochs} if epochs else {}
        run = study.refit(output, trial=trial, part=part, **settings)  # type: ignore[arg-type]
        say(f"\n{run!r}")
        for remark in run.remarks:
            say(f"  {remark}")
        file = run.folder / "model.keras"
    say(f"Saved to {file.parent}; reszoo deploy {file} --to onnx")
