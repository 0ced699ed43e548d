"""The commands evaluate and predict."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from reszoo.cli.screen import app, console, say
from reszoo.report.tables import table

_FILE = ".keras file of a run, or published weights (reszoo list --pretrained)"
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
    file: Annotated[str, typer.Argument(help=_FILE)],
    data: Annotated[str, typer.Option(help="data source, as for reszoo train")],
    part: Annotated[str | None, typer.Option(help="test, validation, train or all; by default test")] = None,
    output: Annotated[Path | None, typer.Option(help="folder for a page with pictures, and evaluation.json")] = None,
    size: Annotated[int | None, typer.Option(help=_SIZE)] = None,
    flip: Annotated[bool, typer.Option("--flip", help=_FLIP)] = False,
) -> None:
    """Evaluate a trained network: accuracy beside the largest class' share, measures per class, calibration, errors."""
    from reszoo.training.evaluate import dash, evaluate as run_evaluation

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
    if output is not None:
        from reszoo.report.evaluation import evaluation_page
        from reszoo.report.write import versions, write

        page = write(evaluation_page(evaluation, title=f"{Path(file).name} on {data}", foot=versions()), output)
        say(f"Saved to {page} and {output / 'evaluation.json'}")


@app.command()
def predict(
    file: Annotated[str, typer.Argument(help=_FILE)],
    sources: Annotated[
        list[str],
        typer.Argument(help="images, folders of images, .txt lists of files; or one table, .npz with x, or .npy"),
    ],
    output: Annotated[str, typer.Option(help=".csv, .json or .npz file; - prints CSV")] = "predictions.csv",
    top: Annotated[int, typer.Option(help="number of classes for every example, most probable first")] = 1,
    every: Annotated[
        bool, typer.Option("--probabilities", help="write the probability of every class, a column for each")
    ] = False,
    size: Annotated[int | None, typer.Option(help=_SIZE)] = None,
    flip: Annotated[bool, typer.Option("--flip", help=_FLIP)] = False,
) -> None:
    """Predict classes for new examples; unreadable files are named and left out."""
    from reszoo.training.predict import predict as run_prediction
    from reszoo.training.prediction_files import as_csv, check_output, write_predictions

    check_output(output)
    with _without_data_warnings():
        predictions = run_prediction(file, sources[0] if len(sources) == 1 else sources, top=top, size=size, flip=flip)
    to_screen = output == "-"
    for name, reason in predictions.left_out:
        say(f"left out {name}: {reason}", aside=to_screen)
    for note in predictions.notes:
        say(note, aside=to_screen)
    if to_screen:
        typer.echo(as_csv(predictions, every=every), nl=False)
        say(predictions.summary, aside=True)
    else:
        say(f"{predictions.summary}; saved to {write_predictions(predictions, output, every=every)}")
