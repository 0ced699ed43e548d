"""The commands deploy and bench."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from reszoo.arch import zoo
from reszoo.cli import names, options
from reszoo.cli.options import Json
from reszoo.cli.screen import app, check_file, check_folder, console, print_json, say, whole_numbers
from reszoo.deployment.formats import FORMATS, timed_formats
from reszoo.errors import ReszooError
from reszoo.report.tables import table


@app.command()
def deploy(
    model: Annotated[str, options.file_or_weights(".keras file, run folder, or a tag of reszoo list --weights")],
    to: Annotated[str, options.choice(", ".join(FORMATS), *FORMATS)],
    output: Annotated[Path | None, options.output("file to write; by default beside the model")] = None,
    quantize: Annotated[str | None, options.choice("float16 or int8", "float16", "int8")] = None,
    data: Annotated[str | None, options.data("examples for the check and for int8, as for reszoo train")] = None,
    calibration: Annotated[
        str | None, typer.Option(help="data source for the calibration of int8; by default --data")
    ] = None,
    preprocessing: Annotated[bool, typer.Option(help="include scaling and normalization in the file")] = True,
    labels: Annotated[bool, typer.Option(help="include class names in the file")] = True,
    batch: Annotated[int | None, typer.Option(min=1, help="fixed batch size; by default any")] = None,
    size: Annotated[int | None, typer.Option(min=1, help="fixed side of images in pixels")] = None,
    max_loss: Annotated[float, typer.Option(min=0, help="accepted loss of accuracy in int8")] = 0.01,
    examples: Annotated[int, typer.Option(min=1, help="maximum number of examples for the check")] = 1000,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace a file of the same format")] = False,
    as_json: Json = False,
) -> None:
    """Export a network for another runtime, and compare its outputs there with those of the Keras model."""
    from reszoo.deployment.deploy import deploy as run_deployment

    settings: dict[str, Any] = {"data": data, "calibration": calibration, "preprocessing": preprocessing}
    settings |= {"labels": labels, "batch": batch, "size": size, "max_loss": max_loss, "examples": examples}
    path = output if output is not None else _beside(model, to, quantize)
    check_folder(path.parent)
    artifact = run_deployment(model, to, path, quantize=quantize, overwrite=overwrite, **settings)  # type: ignore[arg-type]
    if as_json:
        print_json(artifact)
        return
    console.print(table(f"{artifact.path.name}, checked", ("", ""), artifact.rows()))
    for note in artifact.notes:
        say(f"- {note}")
    say(f"\nSaved to {artifact.path}")


def _beside(model: str, to: str, quantize: str | None) -> Path:
    """The default path: the model's own name and the format's."""
    path = Path(model)
    folder = path if path.is_dir() else path.parent if path.is_file() else Path()
    stem = "model" if path.is_dir() else path.stem if path.is_file() else model.replace("/", "_").replace(".", "_")
    return folder / "_".join([stem, *([quantize] if quantize else []), *(["saved"] if to == "saved_model" else [])])


@app.command()
def bench(
    model: Annotated[
        str,
        typer.Argument(
            help=".keras file, run folder, name of a network, or a tag", autocompletion=names.networks_and_weights
        ),
    ],
    formats: Annotated[
        str, typer.Option(help="all, or some of predict,function,train,onnx,onnx:int8,litert,openvino,saved_model")
    ] = "predict,function",
    batch: Annotated[str, typer.Option(help="batch sizes, such as 1,8")] = "1",
    threads: Annotated[str | None, typer.Option(help="numbers of threads of the runtimes, such as 1,2")] = None,
    data: Annotated[str | None, options.data("examples for int8, as for reszoo train")] = None,
    seconds: Annotated[float, typer.Option(min=0, help="seconds of timed calls for each format and batch size")] = 1.0,
    output: Annotated[Path | None, options.output(".json file to write")] = None,
    as_json: Json = False,
) -> None:
    """Time a network in Keras and in other runtimes on this machine."""
    sizes = _counts("--batch", batch)
    counts = _counts("--threads", threads) if threads else None
    from reszoo.deployment.network import file_of
    from reszoo.files import write_file
    from reszoo.training.evaluation_data import check_data

    # Before the next import loads TensorFlow.
    timed_formats(formats)
    if names.is_network(model):
        zoo.entry(model)
    else:
        file_of(model)
    if output is not None:
        check_file(output, ".json")
    if data is not None:
        check_data(data)
    from reszoo.deployment.bench import COLUMNS, bench as run_bench

    result = run_bench(model, formats=formats, batch=sizes, threads=counts, data=data, seconds=seconds)
    if output is not None:
        write_file(output, result.to_json())
    if as_json:
        print_json(result)
        return
    console.print(table(f"{result.network}; {result.machine}", COLUMNS, result.rows()))
    for note in result.notes:
        say(f"- {note}")
    if output is not None:
        say(f"Saved to {output}")


def _counts(option: str, text: str) -> list[int]:
    values = whole_numbers(option, text)
    if min(values) < 1:
        raise ReszooError(option, got=text, expected="numbers of at least 1, such as 1,8")
    return values
