"""Training: train, evaluate, predict."""

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
    model: Annotated[str, typer.Option(help="a name, or file.yaml:name")],
    data: Annotated[str, typer.Option(help="a folder of class folders, a .npz, a .csv, digits, cifar10, ...")],
    output: Annotated[Path, typer.Option(help="folder of the run; the same command goes on with what is in it")],
    recipe: Annotated[str | None, typer.Option(help="reszoo.list_recipes(); by default one for the data")] = None,
    epochs: Annotated[int | None, typer.Option(help="passes over the data; by default the recipe's")] = None,
    seed: Annotated[int, typer.Option(help="of split, weights, order and augmentation")] = 0,
    weights: Annotated[str | None, typer.Option(help="pretrained: a tag, a file, https://..., hf://org/repo")] = None,
    size: Annotated[int | None, typer.Option(help="side of the images of a folder, in pixels")] = None,
    test: Annotated[str | None, typer.Option(help="a second source, for testing once at the end")] = None,
    target: Annotated[str | None, typer.Option(help="of a .csv, the column of classes")] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="of the recipe: --set optimizer.momentum=0.95")
    ] = None,
    net: Annotated[list[str] | None, typer.Option("--net", help="of the network: --net depths=[2,2,2,2]")] = None,
    devices: Annotated[str, typer.Option(help="one, or all that a machine has; they share every batch")] = "one",
    machines: Annotated[
        str | None,
        typer.Option(
            envvar="KERAS_DISTRIBUTION_JOB_ADDRESSES",
            help="host:port,host:port,...: the same command on every one, on JAX; the first writes the run folder",
        ),
    ] = None,
    machine: Annotated[
        int | None, typer.Option(envvar="KERAS_DISTRIBUTION_PROCESS_ID", help="this one's place in --machines, from 0")
    ] = None,
) -> None:
    """Train a network on your data; killed at any moment, the same command goes on after the last finished epoch."""
    from reszoo.data.sources import open_data
    from reszoo.report.curves import draw_curves
    from reszoo.training.train import train as job

    opened = open_data(data, size=size, test=test, target=target, seed=seed)
    for note in opened.notes:
        console.print(escaped(note), soft_wrap=True)
    rows = [(name, *counts) for name, counts in opened.counts().items()]
    console.print(table(f"{opened.name}: examples", ("class", "training", "validation"), rows))
    said = _nested(changes_of(change or [])) | ({"epochs": epochs} if epochs else {})
    changes = changes_of(net or [])
    spread: dict[str, Any] = {
        "devices": devices,
        "machines": machines.split(",") if machines else (),
        "machine": machine,
    }
    settings: dict[str, Any] = {"recipe": recipe, "changes": changes, "weights": weights, "seed": seed}
    done = job(model, opened, output=output, **settings, **spread, **said)
    if machine:
        console.print(f"machine {machine} has done its part; the run folder is on machine 0")
        return
    losses = {"training": "loss", "validation": "val_loss"}
    curves = {name: [row[key] for row in done.history] for name, key in losses.items()}
    draw_curves({"loss": curves}, output / "curves.png", title=done.model.name, ylabel="loss (nats, penalty included)")
    best = done.best
    told = f"best validation accuracy {best['val_accuracy']:.2%} after epoch {best['epoch']:.0f} of {len(done.history)}"
    tested = "" if done.test_accuracy is None else f"; test accuracy of the last weights {done.test_accuracy:.2%}"
    console.print(f"\n{told}{tested}\nWritten: {output}", soft_wrap=True)


@app.command()
def evaluate(
    file: Annotated[str, typer.Argument(help="a .keras file of a run, or a name of reszoo list --pretrained")],
    data: Annotated[str, typer.Option(help="a source, as for training")],
    part: Annotated[str | None, typer.Option(help="test, validation, train or all; by default the test part")] = None,
    output: Annotated[Path | None, typer.Option(help="folder for confusion.png and evaluation.json")] = None,
) -> None:
    """Measure a trained network: accuracy, every class, calibration, and what is taken for what."""
    from reszoo.atomic import renamed_when_whole
    from reszoo.report.confusion import draw_confusion
    from reszoo.training.evaluate import evaluate as job

    found = job(file, data, part=part)  # type: ignore[arg-type]
    rows = [(row.name, row.examples, f"{row.recall:.1%}", f"{row.precision:.1%}") for row in found.classes]
    console.print(table(found.protocol, ("class", "examples", "recognised", "right when named"), rows))
    console.print(f"\naccuracy {found.accuracy:.2%}; calibration error {found.calibration_error:.4f}")
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        names = [row.name for row in found.classes]
        draw_confusion(
            found.confusion, names, output / "confusion.png", title=f"{Path(file).name}: {found.accuracy:.2%}"
        )
        told = {
            **asdict(found),
            "confusion": found.confusion.tolist(),
            "classes": [row._asdict() for row in found.classes],
        }
        with renamed_when_whole(output / "evaluation.json") as temporary:
            temporary.write_text(json.dumps(told, indent=2))
        console.print(f"Written: {output / 'confusion.png'} and {output / 'evaluation.json'}", soft_wrap=True)


@app.command()
def predict(
    file: Annotated[str, typer.Argument(help="a .keras file of a run, or a name of reszoo list --pretrained")],
    source: Annotated[Path, typer.Argument(help="an image, a folder of images, or a .npz with x")],
    output: Annotated[Path, typer.Option(help="the table to write")] = Path("predictions.csv"),
) -> None:
    """Write what a trained network takes new examples for, as a table of class names and probabilities."""
    import csv

    from reszoo.atomic import renamed_when_whole
    from reszoo.training.evaluate import predict as job

    found = job(file, source)
    with renamed_when_whole(output) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("example", "class", "probability"))
        writer.writerows((row.example, row.label, f"{row.probability:.6f}") for row in found)
    console.print(f"{len(found):,} predictions written: {output}", soft_wrap=True)


def _nested(flat: dict[str, Any]) -> dict[str, Any]:
    """`optimizer.momentum: 0.9` as `optimizer: {momentum: 0.9}`."""
    made: dict[str, Any] = {}
    for path, value in flat.items():
        *parts, last = path.split(".")
        here = made
        for part in parts:
            here = here.setdefault(part, {})
        here[last] = value
    return made
