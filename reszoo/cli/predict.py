"""The commands evaluate and predict."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from reszoo.cli import options
from reszoo.cli.options import Json, Pictures
from reszoo.cli.screen import app, check_folder, console, print_json, say
from reszoo.errors import ReszooError
from reszoo.report.tables import table

_FILE = ".keras file of a run, or published weights (reszoo list --weights)"
_SIZE = "side of the images in pixels, for a network of any size"
_FLIP = "average the outputs for images and for their mirror images"


@contextmanager
def _without_data_warnings() -> Iterator[None]:
    """Leaves out the warnings about data: the commands print the same as notes."""
    from reszoo.training.metadata import DataWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        yield


@app.command()
def evaluate(
    file: Annotated[str, options.file_or_weights(_FILE)],
    data: Annotated[str, options.data()],
    part: Annotated[
        str | None,
        options.choice("test, validation, train or all; by default test", "test", "validation", "train", "all"),
    ] = None,
    output: Pictures = None,
    size: Annotated[int | None, typer.Option(min=1, help=_SIZE)] = None,
    flip: Annotated[bool, typer.Option("--flip", help=_FLIP)] = False,
    as_json: Json = False,
) -> None:
    """Evaluate a trained network: accuracy beside the largest class' share, measures per class, calibration, errors."""
    from reszoo.training.evaluate import dash, evaluate as run_evaluation

    check_folder(output)
    with _without_data_warnings():
        evaluation = run_evaluation(file, data, part=part, size=size, flip=flip)  # type: ignore[arg-type]
    if evaluation.classes:
        rows = [
            (row.name, row.examples, dash(row.recall, ".1%"), dash(row.precision, ".1%"), dash(row.f1), dash(row.auc))
            for row in evaluation.classes
        ]
        console.print(table(evaluation.protocol, ("class", "examples", "recall", "precision", "F1", "AUC"), rows))
    else:
        say(evaluation.protocol)
    metrics = dict(evaluation.metrics)
    if evaluation.task == "classification":
        share = metrics.pop("largest_class_share")
        say(f"\naccuracy {metrics.pop('accuracy'):.2%} (always naming the largest class: {share:.2%})")
    say("; ".join(f"{name.replace('_', ' ')} {dash(value)}" for name, value in metrics.items()))
    for note in evaluation.notes:
        say(note)
    from reszoo.report.evaluation import evaluation_page, numbers

    if output is not None:
        from reszoo.report.write import versions, write

        page = write(evaluation_page(evaluation, title=f"{Path(file).name} on {data}", foot=versions()), output)
        say(f"Saved to {page} and {output / 'evaluation.json'}")
    if as_json:
        print_json(numbers(evaluation))


@app.command()
def predict(
    file: Annotated[str, options.file_or_weights(_FILE)],
    sources: Annotated[
        list[str],
        typer.Argument(help="images, folders of images, .txt lists of files; or one table, .npz with x, or .npy"),
    ],
    output: Annotated[
        str | None, options.output(".csv, .json or .npz file, by default predictions.csv; - prints CSV")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="number of classes for every example, most probable first")] = 1,
    every: Annotated[
        bool, typer.Option("--probabilities", help="write the probability of every class, a column for each")
    ] = False,
    size: Annotated[int | None, typer.Option(min=1, help=_SIZE)] = None,
    flip: Annotated[bool, typer.Option("--flip", help=_FLIP)] = False,
    as_json: Json = False,
) -> None:
    """Predict classes for new examples; unreadable files are named and left out."""
    from reszoo.training.predict import (
        as_csv,
        as_json as json_of,
        check_output,
        predict as run_prediction,
        write_predictions,
    )

    if as_json and output == "-":
        raise ReszooError("reszoo predict", got="--json with --output -", expected="one of them")
    target = output or ("" if as_json else "predictions.csv")
    if target:
        check_output(target)
    with _without_data_warnings():
        predictions = run_prediction(file, sources[0] if len(sources) == 1 else sources, top=top, size=size, flip=flip)
    to_screen = target == "-"
    for name, reason in predictions.left_out:
        say(f"left out {name}: {reason}", aside=to_screen)
    for note in predictions.notes:
        say(note, aside=to_screen)
    if to_screen:
        typer.echo(as_csv(predictions, every=every), nl=False)
    saved = f"; saved to {write_predictions(predictions, target, every=every)}" if target and not to_screen else ""
    say(f"{predictions.summary}{saved}", aside=to_screen)
    if as_json:
        print_json(json.loads(json_of(predictions, every=every)))
