"""The commands train and lr."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reszoo.cli import options
from reszoo.cli.options import (
    Changes,
    Channels,
    Epochs,
    Json,
    RecipeChanges,
    RecipeName,
    Size,
    Target,
    Task,
    Test,
    Validation,
    Weights,
)
from reszoo.cli.screen import app, changes_of, check_file, check_folder, console, keep, nested, print_json, say
from reszoo.errors import ReszooError
from reszoo.report.tables import table
from reszoo.training.run_folder import SETTINGS
from reszoo.training.trained import Trained

if TYPE_CHECKING:
    from reszoo.data.dataset import Data
    from reszoo.diagnosis.doctor import Doctor


@app.command()
def train(
    model: Annotated[str | None, options.model()] = None,
    data: Annotated[str | None, options.data()] = None,
    output: Annotated[Path | None, options.output("run folder; rerun the same command to resume")] = None,
    run_folder: Annotated[
        Path | None,
        typer.Option("--continue", help="run folder to continue, also to more --epochs; it records all other settings"),
    ] = None,
    recipe: RecipeName = None,
    epochs: Epochs = None,
    weights: Weights = None,
    size: Size = None,
    validation: Validation = None,
    test: Test = None,
    target: Annotated[
        list[str] | None, typer.Option(help="target column of a table, by default the last; repeat it for several")
    ] = None,
    task: Task = None,
    channels: Channels = None,
    sample_weight: Annotated[str | None, typer.Option(help="column of a table: weight of each row in the loss")] = None,
    seed: Annotated[int, options.seed("split, initial weights, shuffling, augmentation")] = 0,
    folds: Annotated[int | None, typer.Option(min=2, help="cross-validation: a run for each fold")] = None,
    change: RecipeChanges = None,
    net: Changes = None,
    devices: Annotated[
        str, options.choice("one or all devices of a machine; they share every batch", "one", "all")
    ] = "one",
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
    as_json: Json = False,
) -> None:
    """Train a network on your data; safe to interrupt, rerun to resume after the last finished epoch."""
    from reszoo.data.sources import open_data
    from reszoo.training.cross_validation import cross_validate
    from reszoo.training.defaults import arguments_of
    from reszoo.training.resume import resume
    from reszoo.training.train import checked_spec, train as run_training

    opening: dict[str, Any] = {
        "size": size,
        "validation": validation,
        "test": test,
        "target": target or None,
        "task": task,
        "channels": channels,
        "sample_weight": sample_weight,
    }
    check_folder(output)
    if run_folder is not None:
        excess = {"model": model, "output": output, "recipe": recipe, "weights": weights, "folds": folds, **opening}
        name = next((name for name, value in [*excess.items(), ("set", change), ("net", net)] if value), None)
        if name:
            hint = "a run with other settings has a folder of its own: --weights RUN/model.keras --output OTHER"
            raise ReszooError("train --continue", got=f"--{name}", expected="--epochs, --data", hint=hint)
        _keep(run_folder)
        run = resume(run_folder, epochs=epochs, data=data, devices=devices, callbacks=[_doctor])
        _show(run, as_json=as_json)
        return
    if model is None or data is None or output is None:
        name = next(name for name, value in (("model", model), ("data", data), ("output", output)) if value is None)
        raise ReszooError("train", got=f"no --{name}", expected="--model, --data and --output, or --continue RUN")
    overrides = nested(changes_of(change or [], "--set")) | ({"epochs": epochs} if epochs else {})
    settings: dict[str, Any] = {"recipe": recipe, "changes": changes_of(net or []), "weights": weights, "seed": seed}
    _keep(output)
    if folds is not None:
        if validation or test:
            raise ReszooError("train --folds", got="--validation or --test", expected="one source, which is divided")
        further = {name: value for name, value in opening.items() if value is not None}
        settings["callbacks"] = [_doctor]
        result = cross_validate(model, data, output=output, folds=folds, **further, **settings, **overrides)
        values = [(number, f"{value:.4f}") for number, value in enumerate(result.values, 1)]
        console.print(table("after the last epoch", ("fold", result.metric), values))
        say(f"\nmean {result.mean:.4f}, standard deviation over the folds {result.spread:.4f}")
        say(f"Saved to {output}")
        if as_json:
            print_json({"folder": output, "metric": result.metric, "values": result.values, "mean": result.mean})
        return
    arguments = arguments_of(model, data, opening, output=output, weights=weights)
    source = open_data(data, seed=seed, **arguments)
    # A finished run no longer needs its pretrained weights.
    start = None if (output.expanduser() / SETTINGS).exists() else weights
    checked_spec(model, source, recipe=recipe, changes=settings["changes"], weights=start, **overrides)
    say(source.audit().text())
    if "size" in arguments:
        say(f"images of {arguments['size']} x {arguments['size']} pixels")
    placement: dict[str, Any] = {
        "devices": devices,
        "machines": machines.split(",") if machines else (),
        "machine": machine,
        # Several machines train in lockstep: none of them may do extra work.
        "callbacks": [] if machines else [_doctor],
    }
    run = run_training(model, source, output=output, opened=(data, opening), **settings, **placement, **overrides)
    if machine:
        console.print(f"machine {machine} finished; the run folder is on machine 0")
        return
    _show(run, as_json=as_json)


def _keep(folder: Path) -> None:
    """Sets what is printed after Ctrl-C."""
    keep(f"every finished epoch is saved in {folder}; the same command resumes after the last one")


def _doctor(data: Data) -> Doctor:
    """Returns a callback that prints one line when training goes wrong.

    It looks at one in fifteen of the training examples, 16 to 64, for at most a fiftieth of the time.
    """
    import numpy as np

    from reszoo.diagnosis.doctor import Doctor
    from reszoo.training.losses import targets_of

    count = min(max(len(data.train) // 15, 16), 64, len(data.train))
    rows = np.sort(np.random.default_rng(data.seed).choice(len(data.train), count, replace=False))
    x = data.scaling(data.train.take(rows)).astype("float32")
    return Doctor(x, targets_of(data)(data.train.labels[rows]), report=say, share=0.02)


def _show(run: Trained, *, as_json: bool) -> None:
    """Writes the page of a run that has just finished, and prints its results and what they are worth."""
    if run.network is None:
        console.print("already finished; nothing was trained or written")
    else:
        run.write(run.folder)
    say(f"\n{run.summary}")
    for remark in run.remarks:
        say(f"  {remark}")
    say(f"Saved to {run.folder} (report.html)")
    if as_json:
        fields = ("folder", "best", "test_accuracy", "remarks", "history")
        print_json({name: getattr(run, name) for name in fields})


@app.command()
def lr(
    model: Annotated[str, options.model()],
    data: Annotated[str, options.data()],
    output: Annotated[Path, options.output(".png file of the curve")] = Path("lr.png"),
    recipe: RecipeName = None,
    weights: Weights = None,
    size: Size = None,
    target: Target = None,
    task: Task = None,
    steps: Annotated[int, typer.Option(min=2, help="steps from the lowest to the highest rate")] = 100,
    seed: Annotated[int, options.seed("split, initial weights, shuffling")] = 0,
    change: RecipeChanges = None,
    net: Changes = None,
    as_json: Json = False,
) -> None:
    """Find a learning rate: train a copy with a growing rate and draw the losses."""
    from reszoo.data.sources import open_data
    from reszoo.training.train import checked_spec

    check_file(output, ".png")
    overrides, changes = nested(changes_of(change or [], "--set")), changes_of(net or [])
    source = open_data(data, size=size, target=target, task=task, seed=seed)  # type: ignore[arg-type]
    # Before the next import loads TensorFlow.
    spec = checked_spec(model, source, recipe=recipe, changes=changes, weights=weights, **overrides)
    from reszoo.report.lines import draw_rates
    from reszoo.training.rate_finder import find_rate

    settings: dict[str, Any] = {"recipe": recipe, "weights": weights, "steps": steps, "seed": seed}
    curve = find_rate(spec, source, **settings, **overrides)
    draw_rates(curve.rates, curve.losses, curve.suggestion, output)
    say(f"learning rate {curve.suggestion:.2g}: --set learning_rate.peak={curve.suggestion:.2g}")
    say(f"Saved to {output}")
    if as_json:
        print_json(curve)
