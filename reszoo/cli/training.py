"""The commands train, evaluate and predict."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from reszoo.cli.screen import app, changes_of, console, escaped
from reszoo.report.tables import table


@app.command()
def train(
    model: Annotated[str, typer.Option(help="network: a name or file.yaml:name")],
    data: Annotated[str, typer.Option(help="folder of class folders, .npz, .csv, digits, cifar10, ...")],
    output: Annotated[Path, typer.Option(help="run folder; rerun the same command to resume")],
    recipe: Annotated[
        str | None, typer.Option(help="name (reszoo.list_recipes()); the default depends on the data")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="passes over the data; by default as in the recipe")] = None,
    seed: Annotated[int, typer.Option(help="random seed (split, initial weights, shuffling, augmentation)")] = 0,
    weights: Annotated[
        str | None, typer.Option(help="pretrained weights: a tag, a file, https://..., hf://org/repo")
    ] = None,
    size: Annotated[int | None, typer.Option(help="side in pixels of images from a folder")] = None,
    test: Annotated[str | None, typer.Option(help="data source for one test at the end")] = None,
    target: Annotated[
        list[str] | None, typer.Option(help="column of a table that is learned, by default the last; again for several")
    ] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="change to the recipe: --set optimizer.momentum=0.95")
    ] = None,
    net: Annotated[
        list[str] | None, typer.Option("--net", help="change to the network: --net depths=[2,2,2,2]")
    ] = None,
    devices: Annotated[str, typer.Option(help="one or all devices of a machine; they share every batch")] = "one",
    machines: Annotated[
        str | None,
        typer.Option(
            envvar="KERAS_DISTRIBUTION_JOB_ADDRESSES",
            help="host:port,host:port,...: run the same command on each (JAX); the first one writes the run folder",
        ),
    ] = None,
    machine: Annotated[
        int | None,
        typer.Option(envvar="KERAS_DISTRIBUTION_PROCESS_ID", help="index of this machine in --machines, from 0"),
    ] = None,
) -> None:
    """Train a network on your data; safe to interrupt, rerun to resume after the last finished epoch."""
    from reszoo.data.sources import open_data
    from reszoo.report.curves import draw_curves
    from reszoo.training.train import train as run_training

    source = open_data(data, size=size, test=test, target=target or None, seed=seed)
    for note in source.notes:
        console.print(escaped(note), soft_wrap=True)
    rows = [(name, *counts) for name, counts in source.counts().items()]
    console.print(table(f"{source.name}: examples", ("class", "training", "validation"), rows))
    overrides = _nested(changes_of(change or [])) | ({"epochs": epochs} if epochs else {})
    changes = changes_of(net or [])
    placement: dict[str, Any] = {
        "devices": devices,
        "machines": machines.split(",") if machines else (),
        "machine": machine,
    }
    settings: dict[str, Any] = {"recipe": recipe, "changes": changes, "weights": weights, "seed": seed}
    run = run_training(model, source, output=output, **settings, **placement, **overrides)
    if machine:
        console.print(f"machine {machine} finished; the run folder is on machine 0")
        return
    losses = {"training": "loss", "validation": "val_loss"}
    curves = {name: [row[key] for row in run.history] for name, key in losses.items()}
    draw_curves({"loss": curves}, output / "curves.png", title=run.model.name, ylabel="loss (nats, penalty included)")
    best = run.best
    accuracy = (
        f"best validation accuracy {best['val_accuracy']:.2%} after epoch {best['epoch']:.0f} of {len(run.history)}"
    )
    test_text = "" if run.test_accuracy is None else f"; test accuracy of the last weights {run.test_accuracy:.2%}"
    console.print(f"\n{accuracy}{test_text}\nSaved to {output}", soft_wrap=True)


@app.command()
def evaluate(
    file: Annotated[str, typer.Argument(help=".keras file of a run, or a tag of reszoo list --pretrained")],
    data: Annotated[str, typer.Option(help="data source, as for reszoo train")],
    part: Annotated[str | None, typer.Option(help="test, validation, train or all; by default test")] = None,
    output: Annotated[Path | None, typer.Option(help="folder for confusion.png and evaluation.json")] = None,
) -> None:
    """Evaluate a trained network: accuracy, recall and precision per class, calibration, confusion matrix."""
    from reszoo.atomic import atomic_write
    from reszoo.report.confusion import draw_confusion
    from reszoo.training.evaluate import evaluate as run_evaluation

    evaluation = run_evaluation(file, data, part=part)  # type: ignore[arg-type]
    rows = [(row.name, row.examples, f"{row.recall:.1%}", f"{row.precision:.1%}") for row in evaluation.classes]
    console.print(table(evaluation.protocol, ("class", "examples", "recall", "precision"), rows))
    console.print(f"\naccuracy {evaluation.accuracy:.2%}; calibration error {evaluation.calibration_error:.4f}")
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        names = [row.name for row in evaluation.classes]
        draw_confusion(
            evaluation.confusion, names, output / "confusion.png", title=f"{Path(file).name}: {evaluation.accuracy:.2%}"
        )
        numbers = {
            **asdict(evaluation),
            "confusion": evaluation.confusion.tolist(),
            "classes": [row._asdict() for row in evaluation.classes],
        }
        with atomic_write(output / "evaluation.json") as temporary:
            temporary.write_text(json.dumps(numbers, indent=2))
        console.print(f"Saved to {output / 'confusion.png'} and {output / 'evaluation.json'}", soft_wrap=True)


@app.command()
def predict(
    file: Annotated[str, typer.Argument(help=".keras file of a run, or a tag of reszoo list --pretrained")],
    source: Annotated[Path, typer.Argument(help="image, folder of images, .npz with x, or a table")],
    output: Annotated[Path, typer.Option(help=".csv file to write")] = Path("predictions.csv"),
) -> None:
    """Predict classes for new examples; writes a table of class names and probabilities."""
    import csv

    from reszoo.atomic import atomic_write
    from reszoo.training.evaluate import predict as run_prediction

    predictions = run_prediction(file, source)
    with atomic_write(output) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("example", "class", "probability"))
        writer.writerows((row.example, row.label, f"{row.probability:.6f}") for row in predictions)
    console.print(f"{len(predictions):,} predictions saved to {output}", soft_wrap=True)


def _nested(flat: dict[str, Any]) -> dict[str, Any]:
    """`optimizer.momentum: 0.9` as `optimizer: {momentum: 0.9}`."""
    nested: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, name = path.split(".")
        fields = nested
        for parent in parents:
            fields = fields.setdefault(parent, {})
        fields[name] = value
    return nested
