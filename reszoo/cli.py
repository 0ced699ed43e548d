"""The command `reszoo`: it parses, calls and prints, and has no logic of its own."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console

from reszoo.arch import zoo
from reszoo.arch.cost import cost_by_part
from reszoo.arch.ops import size
from reszoo.errors import ReszooError
from reszoo.report.tables import short, table

app = typer.Typer(
    name="reszoo",
    help="Residual networks and their plain twins for Keras.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console(highlight=False)


def main() -> None:
    """Runs the command; bad input ends it with one line and exit code 2."""
    # TensorFlow reads these when it is first imported. oneDNN's kernels are its default on some CPUs only; on the
    # others they make training these networks 1.3 to 1.7 times faster.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        app()
    except KeyboardInterrupt:
        Console(stderr=True).print("stopped; what was finished is kept")
        sys.exit(130)
    except ReszooError as error:
        Console(stderr=True, highlight=False).print(f"[red]error[/red] {_escaped(str(error))}", soft_wrap=True)
        sys.exit(2)


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")


@app.command("list")
def list_(
    pattern: Annotated[str, typer.Argument(help="shell pattern, such as 'resnet*' or '*_cifar'")] = "*",
    family: Annotated[str | None, typer.Option(help="imagenet, cifar or dense")] = None,
    max_params: Annotated[float | None, typer.Option(help="most trainable parameters, such as 5e6")] = None,
    max_macs: Annotated[float | None, typer.Option(help="most multiply-accumulates, such as 1e9")] = None,
    zoo_file: Annotated[Path | None, typer.Option("--zoo", help="a YAML file to list instead of our networks")] = None,
    pretrained: Annotated[bool, typer.Option("--pretrained", help="published weights instead of networks")] = False,
) -> None:
    """List networks: size, multiply-accumulates, weighted layers."""
    if pretrained:
        _list_weights(pattern, family)
        return
    names = zoo.list_models(pattern, family=family, max_params=max_params, max_macs=max_macs, zoo=zoo_file)
    entries = [zoo.load(zoo_file).entry(name) if zoo_file else zoo.entry(name) for name in names]
    costs = [zoo.cost(entry.spec) for entry in entries]
    rows = [
        (entry.name, entry.family, short(c.params), short(c.macs), c.depth, size(entry.spec.input_shape))
        for entry, c in zip(entries, costs, strict=True)
    ]
    console.print(table(f"{len(rows)} networks", ("name", "family", "params", "MACs", "layers", "input"), rows))


def _list_weights(pattern: str, family: str | None) -> None:
    from reszoo.weights.catalogue import records

    names = {*zoo.list_models(pattern, family=family)}
    found = [record for record in records().values() if record.model in names]
    rows = [
        (
            record.name,
            *(f"{number:.2f}" if number else "-" for number in _accuracy(record)),
            record.preprocessing.crop,
            record.licence,
        )
        for record in found
    ]
    columns = ("weights", "top-1 %", "top-5 %", "pixels", "licence")
    console.print(table(f"{len(rows)} published weights; the first of a network is its default", columns, rows))


def _accuracy(record: Any) -> tuple[float | None, float | None]:
    return (record.accuracy[0].top1, record.accuracy[0].top5) if record.accuracy else (None, None)


@app.command()
def info(
    name: Annotated[str, typer.Argument(help="a name, file.yaml:name, a checkpoint, or published weights")],
    change: Annotated[
        list[str] | None, typer.Option("--set", help="field=value, in YAML: --set depths=[2,2,2,2] --set stem=cifar")
    ] = None,
) -> None:
    """Show one network: its spec, what its parts cost, its source and plain twin; or what a checkpoint holds."""
    if ("." in name or Path(name).exists()) and not name.rpartition(":")[0]:
        _info_of_weights(name)
        return
    entry = zoo.entry(name)
    spec = zoo.spec(entry.spec, **_changes(change or []))
    plan, total = zoo.plan(spec), zoo.cost(spec)
    rows = [
        (
            part,
            len(plan.parts[part]),
            size(c.shape),
            *_grouped(c.params, c.macs, c.activations, c.receptive_field),
        )
        for part, c in cost_by_part(plan).items()
    ]
    whole = ("total", len(plan.segments), "", *_grouped(total.params, total.macs, total.activations), "")
    title = f"{total.depth} weighted layers; {total.params_all:,} parameters with running statistics"
    columns = ("part", "pieces", "output", "params", "MACs", "activations", "field")
    console.print(f"[bold]{spec.name}[/bold]: {_escaped(entry.source.ref)}\n", soft_wrap=True)
    console.print(_escaped(_yaml(spec.model_dump(mode="json", exclude_defaults=True))), soft_wrap=True)
    console.print(table(title, columns, [*rows, whole]))
    if spec.block.shortcut == "none":
        console.print("\nA plain net: there is no shortcut in it.")
        return
    plain = zoo.cost(spec.plain())
    console.print(
        f"\nIts plain twin, reszoo.spec({name!r}).plain(), has {total.params - plain.params:,} parameters and "
        f"{total.macs - plain.macs:,} MACs fewer.",
        soft_wrap=True,
    )


def _info_of_weights(name: str) -> None:
    from reszoo.weights.catalogue import records
    from reszoo.weights.summary import summary

    if name in records():
        data = records()[name].model_dump(mode="json", exclude_defaults=True)
        console.print(_escaped(_yaml(data)), soft_wrap=True)
    else:
        console.print(_escaped(summary(name)), soft_wrap=True)


@app.command()
def convert(
    source: Annotated[str, typer.Argument(help="a checkpoint of any kind: file or folder")],
    target: Annotated[Path, typer.Argument(help=".keras, .weights.h5, .safetensors or .pth")],
    to: Annotated[
        str | None, typer.Option(help="whose names and layout: torchvision, hugging_face, reszoo, ...")
    ] = None,
    key: Annotated[str | None, typer.Option(help="of a file that wraps several networks, the one to take")] = None,
    names: Annotated[Path | None, typer.Option(help="a YAML file of our names to theirs")] = None,
) -> None:
    """Write a checkpoint in another format, and check that it computes the same."""
    from reszoo.weights.convert import convert as job

    made = job(source, target, to=to, key=key, names=names)
    told = f"{made.path}: {made.spec.name}, {made.dialect}; outputs differ by {made.difference:.1e} of the greatest"
    console.print(_escaped(told), soft_wrap=True)


def _grouped(*numbers: int) -> tuple[str, ...]:
    return tuple(f"{number:,}" if number else "-" for number in numbers)


def _yaml(data: Any) -> str:
    return str(yaml.safe_dump(data, sort_keys=False, default_flow_style=None, width=110))


def _changes(said: list[str]) -> dict[str, Any]:
    changes = {}
    for item in said:
        field, equals, value = item.partition("=")
        if not equals:
            raise ReszooError("--set", given=item, allowed="field=value")
        changes[field] = yaml.safe_load(value)
    return changes


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
) -> None:
    """Train a network on your data; killed at any moment, the same command goes on after the last finished epoch."""
    from reszoo.report.curves import draw_curves
    from reszoo.training.data import open_data
    from reszoo.training.train import train as job

    opened = open_data(data, size=size, test=test, target=target, seed=seed)
    for note in opened.notes:
        console.print(_escaped(note), soft_wrap=True)
    rows = [(name, *counts) for name, counts in opened.counts().items()]
    console.print(table(f"{opened.name}: examples", ("class", "training", "validation"), rows))
    said = _nested(_changes(change or [])) | ({"epochs": epochs} if epochs else {})
    changes = _changes(net or [])
    done = job(model, opened, output=output, recipe=recipe, changes=changes, weights=weights, seed=seed, **said)
    losses = {"training": "loss", "validation": "val_loss"}
    curves = {name: [row[key] for row in done.history] for name, key in losses.items()}
    draw_curves({"loss": curves}, output / "curves.png", title=done.model.name, ylabel="loss (nats, penalty included)")
    best = done.best
    told = f"best validation accuracy {best['val_accuracy']:.2%} after epoch {best['epoch']:.0f} of {len(done.history)}"
    tested = "" if done.test_accuracy is None else f"; test accuracy of the last weights {done.test_accuracy:.2%}"
    console.print(f"\n{told}{tested}\nWritten: {output}", soft_wrap=True)


@app.command()
def evaluate(
    file: Annotated[Path, typer.Argument(help="a .keras file of a run")],
    data: Annotated[str, typer.Option(help="a source, as for training")],
    part: Annotated[str | None, typer.Option(help="test, validation, train or all; by default the test part")] = None,
    output: Annotated[Path | None, typer.Option(help="folder for confusion.png and evaluation.json")] = None,
) -> None:
    """Measure a trained network: accuracy, every class, calibration, and what is taken for what."""
    from reszoo.report.confusion import draw_confusion
    from reszoo.training.evaluate import evaluate as job

    found = job(file, data, part=part)  # type: ignore[arg-type]
    rows = [(row.name, row.examples, f"{row.recall:.1%}", f"{row.precision:.1%}") for row in found.classes]
    console.print(table(found.protocol, ("class", "examples", "recognised", "right when named"), rows))
    console.print(f"\naccuracy {found.accuracy:.2%}; calibration error {found.calibration_error:.4f}")
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        names = [row.name for row in found.classes]
        draw_confusion(found.confusion, names, output / "confusion.png", title=f"{file.name}: {found.accuracy:.2%}")
        told = {
            **asdict(found),
            "confusion": found.confusion.tolist(),
            "classes": [row._asdict() for row in found.classes],
        }
        (output / "evaluation.json").write_text(json.dumps(told, indent=2))
        console.print(f"Written: {output / 'confusion.png'} and {output / 'evaluation.json'}", soft_wrap=True)


@app.command()
def predict(
    file: Annotated[Path, typer.Argument(help="a .keras file of a run")],
    source: Annotated[Path, typer.Argument(help="an image, a folder of images, or a .npz with x")],
    output: Annotated[Path, typer.Option(help="the table to write")] = Path("predictions.csv"),
) -> None:
    """Write what a trained network takes new examples for, as a table of class names and probabilities."""
    import csv

    from reszoo.training.evaluate import predict as job

    found = job(file, source)
    with output.open("w", newline="", encoding="utf-8") as stream:
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


@app.command()
def schema() -> None:
    """Print the JSON schema of a YAML file of networks, for editors."""
    from reszoo.arch.schema import schema as made

    print(json.dumps(made(), indent=2))


@app.command()
def quickstart(
    output: Annotated[Path, typer.Option(help="folder for the picture and the numbers")] = Path("reszoo_quickstart"),
    seed: Annotated[int, typer.Option(help="of weights and data order")] = 0,
    depths: Annotated[tuple[int, int], typer.Option(help="two depths of the form 6n + 2")] = (20, 44),
) -> None:
    """Train residual nets and their plain twins at two depths on handwritten digits: under two minutes on two cores."""
    from reszoo.report.curves import draw_curves
    from reszoo.training import quickstart as job

    digits = job.digits(seed=seed)
    specs = job.specs(depths, digits)
    output.mkdir(parents=True, exist_ok=True)
    results = []
    for number, spec in enumerate(specs, 1):
        console.print(f"\n[bold]{spec.name}[/bold] ({number} of {len(specs)}): {zoo.cost(spec).params:,} parameters")
        results.append(job.run(spec, digits, seed=seed))
    columns = ("network", "params", "loss", "train (batch BN)", "train (moving BN)", "test")
    rows = [
        (
            r.name,
            f"{r.params:,}",
            f"{r.losses[-1]:.3f}",
            *_percent(r.batch_accuracy, r.train_accuracy, r.test_accuracy),
        )
        for r in results
    ]
    title = "scikit-learn's digits, {epochs} epochs of SGD at {learning_rate}".format(**job.RECIPE)
    console.print()
    console.print(table(title, columns, rows))
    for line in job.reading(results):
        console.print(f"- {_escaped(line)}.", soft_wrap=True)
    curves = {kind: {r.name: r.losses for r in results if r.kind == kind} for kind in ("plain", "residual")}
    draw_curves(curves, output / "curves.png", title="Training at two depths", ylabel="training loss (nats)")
    (output / "results.json").write_text(json.dumps([asdict(result) for result in results], indent=2))
    console.print(f"\nWritten: {output / 'curves.png'} and {output / 'results.json'}")


def _percent(*shares: float) -> tuple[str, ...]:
    return tuple(f"{share:.1%}" for share in shares)
