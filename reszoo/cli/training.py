"""The command train."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reszoo.cli.screen import app, changes_of, console, nested, say
from reszoo.errors import ReszooError
from reszoo.report.tables import table
from reszoo.training.trained import Trained

if TYPE_CHECKING:
    from reszoo.data.dataset import Data
    from reszoo.diagnosis.doctor import Doctor


@app.command()
def train(
    model: Annotated[str | None, typer.Option(help="network: a name or file.yaml:name")] = None,
    data: Annotated[str | None, typer.Option(help="folder of class folders, .npz, .csv, digits, cifar10, ...")] = None,
    output: Annotated[Path | None, typer.Option(help="run folder; rerun the same command to resume")] = None,
    run_folder: Annotated[
        Path | None, typer.Option("--continue", help="run folder to continue, with more --epochs; the rest is recorded")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="name (reszoo.list_recipes()); the default depends on the data")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="passes over the data; by default as in the recipe")] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="random seed (split, initial weights, shuffling, augmentation)")
    ] = 0,
    weights: Annotated[
        str | None, typer.Option(help="pretrained weights: a tag, a file, https://..., hf://org/repo")
    ] = None,
    size: Annotated[int | None, typer.Option(min=1, help="side in pixels of images from a folder")] = None,
    validation: Annotated[str | None, typer.Option(help="data source for validation; by default a tenth")] = None,
    test: Annotated[str | None, typer.Option(help="data source for one test at the end")] = None,
    target: Annotated[
        list[str] | None, typer.Option(help="column of a table that is learned, by default the last; again for several")
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="classification, multilabel or regression; by default by the labels")
    ] = None,
    channels: Annotated[
        str | None, typer.Option(help="rgb or gray; by default those of the weights, else as they are")
    ] = None,
    sample_weight: Annotated[str | None, typer.Option(help="column of a table: weight of each row in the loss")] = None,
    folds: Annotated[int | None, typer.Option(min=2, help="cross-validation: a run for each fold")] = None,
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
    from reszoo.training.cross_validation import cross_validate
    from reszoo.training.opening import arguments_of
    from reszoo.training.resume import resume
    from reszoo.training.train import train as run_training

    opening: dict[str, Any] = {
        "size": size,
        "validation": validation,
        "test": test,
        "target": target or None,
        "task": task,
        "channels": channels,
        "sample_weight": sample_weight,
    }
    if run_folder is not None:
        excess = {"model": model, "output": output, "recipe": recipe, "weights": weights, "folds": folds, **opening}
        name = next((name for name, value in [*excess.items(), ("set", change), ("net", net)] if value), None)
        if name:
            hint = "a run with other settings has a folder of its own: --weights RUN/model.keras --output OTHER"
            raise ReszooError("train --continue", got=f"--{name}", expected="--epochs, --data", hint=hint)
        _show(resume(run_folder, epochs=epochs, data=data, devices=devices, callbacks=[_doctor]))
        return
    if model is None or data is None or output is None:
        name = next(name for name, value in (("model", model), ("data", data), ("output", output)) if value is None)
        raise ReszooError("train", got=f"no --{name}", expected="--model, --data and --output, or --continue RUN")
    overrides = nested(changes_of(change or [])) | ({"epochs": epochs} if epochs else {})
    settings: dict[str, Any] = {"recipe": recipe, "changes": changes_of(net or []), "weights": weights, "seed": seed}
    if folds is not None:
        if validation or test:
            raise ReszooError("train --folds", got="--validation or --test", expected="one source, which is divided")
        further = {name: value for name, value in opening.items() if value is not None}
        settings["callbacks"] = [_doctor]
        result = cross_validate(model, data, output=output, folds=folds, **further, **settings, **overrides)
        values = [(number, f"{value:.4f}") for number, value in enumerate(result.values, 1)]
        console.print(table("after the last epoch", ("fold", result.metric), values))
        console.print(f"\nmean {result.mean:.4f}, standard deviation over the folds {result.spread:.4f}")
        say(f"Saved to {output}")
        return
    arguments = arguments_of(model, data, opening, output=output, weights=weights)
    source = open_data(data, seed=seed, **arguments)
    say(source.audit().text())
    if "size" in arguments:
        say(f"images of {arguments['size']} x {arguments['size']} pixels")
    placement: dict[str, Any] = {
        "devices": devices,
        "machines": machines.split(",") if machines else (),
        "machine": machine,
        # Several machines draw their examples in step: none of them does more than the others.
        "callbacks": [] if machines else [_doctor],
    }
    run = run_training(model, source, output=output, opened=(data, opening), **settings, **placement, **overrides)
    if machine:
        console.print(f"machine {machine} finished; the run folder is on machine 0")
        return
    _show(run)


def _doctor(data: Data) -> Doctor:
    """Returns a callback that prints one line when training turns ill.

    It looks at one in fifteen of the training examples, 16 to 64, for at most three hundredths of the time.
    """
    import numpy as np

    from reszoo.diagnosis.doctor import Doctor
    from reszoo.training.losses import targets_of

    count = min(max(len(data.train) // 15, 16), 64, len(data.train))
    rows = np.sort(np.random.default_rng(data.seed).choice(len(data.train), count, replace=False))
    x = data.scaling(data.train.take(rows)).astype("float32")
    return Doctor(x, targets_of(data)(data.train.labels[rows]), report=say, share=0.03)


def _show(run: Trained) -> None:
    """Draws the curves of a run that has just finished, and prints its results and what they are worth."""
    from reszoo.report.curves import draw_curves
    from reszoo.training.selection import metric_of

    if run.network is None:
        console.print("already finished; nothing was trained or written")
    else:
        losses = {"training": "loss", "validation": "val_loss"}
        curves = {name: [row[key] for row in run.history] for name, key in losses.items()}
        title, label = run.model.name, "loss, without the L2 penalty"
        draw_curves({"loss": curves}, run.folder / "curves.png", title=title, ylabel=label)
    best, metric = run.best, metric_of(run.best).name
    percent = metric == "val_accuracy"
    value = f"{best[metric]:.2%}" if percent else f"{best[metric]:.4g}"
    words = (
        f"best validation {metric.removeprefix('val_')} {value} after epoch {best['epoch']:.0f} of {len(run.history)}"
    )
    test_text = "" if run.test_accuracy is None else f"; test accuracy of the last weights {run.test_accuracy:.2%}"
    say(f"\n{words}{test_text}")
    for remark in run.remarks:
        say(f"  {remark}")
    say(f"Saved to {run.folder}")
