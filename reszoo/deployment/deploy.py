"""One call from a network to a checked file for another runtime."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reszoo.data.sources import Data, DataSource, Scaling
from reszoo.deployment.artifact import Artifact, FormatName, Quantize, moved_into_place, size_of, target_path
from reszoo.deployment.formats import Format, Inputs, Order, format_for, versions
from reszoo.deployment.network import file_of, open_network
from reszoo.errors import ReszooError
from reszoo.types import Array, KerasModel
from reszoo.weights.catalogue import Preprocessing

if TYPE_CHECKING:
    from reszoo.deployment.check import Comparison
    from reszoo.deployment.examples import CheckSet
    from reszoo.deployment.prepare import Prepared


def deploy(
    model: KerasModel | str | Path,
    /,
    format: FormatName,
    path: str | Path,
    *,
    quantize: Quantize | None = None,
    data: Data | DataSource | None = None,
    calibration: Data | DataSource | None = None,
    preprocessing: bool | Scaling | Preprocessing = True,
    labels: bool | Sequence[str] = True,
    batch: int | None = None,
    size: int | None = None,
    max_loss: float = 0.01,
    examples: int = 1000,
    overwrite: bool = False,
) -> Artifact:
    """Returns a file for another runtime, checked: it is run in that runtime and compared with the Keras model.

    Nothing is written if the check fails. Networks in mixed precision are exported in float32. Under another Keras
    backend than the format's converter needs, a second Python exports.

    Example:
        >>> import reszoo
        >>> model = reszoo.residual_mlp18(depths=1, input_shape=(4,), classes=3)
        >>> artifact = reszoo.deploy(model, "saved_model", "served")
        >>> artifact.input, artifact.outputs, artifact.difference < 1e-4
        ('float32 (batch, 4)', ('probabilities',), True)

    Args:
        model: a functional or Sequential Keras model, a `.keras` file, a run folder, or published weights
            (`resnet50.tv2_in1k`).
        format: `saved_model` (TensorFlow), `onnx` (ONNX Runtime), `litert` (LiteRT), `openvino` or `torch_export`.
        path: of the file; for `saved_model`, of the folder.
        quantize: number type of the weights: `float16` halves the file; `int8`, also for activations, needs examples
            for its calibration. Weights are rounded per output channel, activations per tensor.
        data: examples of the check, as for `open_data`; with labels, accuracy is compared, too. By default random
            examples. In int8 the training part calibrates, and the test or validation part checks.
        calibration: other data, whose training part calibrates int8.
        preprocessing: whether scaling and normalization are in the file where they are known (files of a run, published
            weights): it then takes images as bytes from 0 to 255. Or the preprocessing itself.
        labels: whether the class names are in the file where they are known. Or the names.
        batch: fixed batch size; by default any.
        size: fixed side of the images in pixels, for networks of variable size.
        max_loss: accepted loss of accuracy in int8, as a fraction.
        examples: largest number of examples of the check.
        overwrite: whether to replace a file of the same format.

    Raises:
        ReszooError: invalid settings, a missing runtime, data that do not fit, a converter that fails, or a file whose
            outputs differ by more than its precision explains.
    """
    entry = format_for(format, quantize)
    target = target_path(path, entry, overwrite=overwrite)
    _check_settings(batch=batch, size=size, examples=examples, max_loss=max_loss)
    if quantize == "int8" and data is None:
        expected = "examples for calibration and check, as for reszoo.open_data"
        raise ReszooError("deploy.data: int8", got="None", expected=expected)
    if isinstance(model, (str, Path)):
        file_of(model)
    network = open_network(model, preprocessing, labels)
    from reszoo.deployment.examples import check_set
    from reszoo.deployment.exporting import export
    from reszoo.deployment.prepare import prepare

    inside = preprocessing is not False and network.scaling is not None
    prepared = prepare(network, inside=inside, size=size, quantize=quantize)
    chosen = check_set(
        prepared.network, prepared.exported, data, calibration, inside=inside, quantize=quantize, limit=examples
    )
    classes = chosen.classes or network.classes if labels is not False else ()
    notes = (*prepared.notes, *chosen.notes)
    if preprocessing is True and not inside:
        notes = (*notes, "preprocessing is unknown and not in the file: it takes the network's own inputs")
    numbers = versions(entry, quantize)
    description = _description(prepared, inside, classes, numbers)
    order = Order(batch, quantize, chosen.calibration, "\n".join(classes), description)
    with moved_into_place(target, entry) as temporary:
        notes = (*notes, *export(entry, prepared.exported, temporary, order))
        comparison, check_notes = _checked(entry, temporary, prepared, chosen, order, inside, max_loss)
        bytes_written = size_of(temporary, entry)
    return Artifact(
        path=target,
        format=entry.name,
        quantize=quantize,
        size=bytes_written,
        input=_input(prepared.exported, batch),
        outputs=tuple(prepared.exported.output),
        examples=chosen.total,
        real=chosen.real,
        difference=comparison.difference,
        mean_difference=comparison.mean_difference,
        agreement=comparison.agreement,
        accuracy=comparison.accuracy,
        accuracy_before=comparison.accuracy_before,
        classes=classes,
        notes=(*notes, *check_notes),
        versions=numbers,
    )


def _check_settings(**numbers: Any) -> None:
    for name, value in numbers.items():
        whole = name != "max_loss"
        valid = isinstance(value, int) if whole else isinstance(value, (int, float)) and 0 <= value < 1
        if value is None and name in ("batch", "size"):
            continue
        if not valid or isinstance(value, bool) or (whole and value < 1):
            raise ReszooError(
                f"deploy.{name}", got=repr(value), expected="at least 1" if whole else "from 0 to below 1"
            )


def _input(model: KerasModel, batch: int | None) -> str:
    return ", ".join(f"{tensor.dtype} ({_axes(tensor.shape[1:], batch)})" for tensor in model.inputs)


def _axes(shape: tuple[int | None, ...], batch: int | None) -> str:
    free = ("height", "width", "channels") if len(shape) == 3 else ("any",) * len(shape)
    sides = [str(side or name) for side, name in zip(shape, free, strict=True)]
    return ", ".join([str(batch or "batch"), *sides])


def _description(prepared: Prepared, inside: bool, classes: tuple[str, ...], numbers: dict[str, str]) -> str:
    """JSON in the file: what it takes and gives, and the versions that wrote it."""
    scaling = prepared.network.scaling
    content = {
        "network": prepared.network.model.name,
        "input": _input(prepared.exported, None),
        "preprocessing": "inside" if inside else "outside" if scaling else "unknown",
        "scaling": asdict(scaling) if scaling else None,
        "channels": "bgr" if prepared.network.reverse else "rgb",
        "outputs": [*prepared.exported.output],
        "activations": prepared.activations,
        "classes": [*classes],
        "versions": numbers,
    }
    return json.dumps(content)


def _checked(
    entry: Format,
    path: Path,
    prepared: Prepared,
    chosen: CheckSet,
    order: Order,
    inside: bool,
    max_loss: float,
) -> tuple[Comparison, tuple[str, ...]]:
    """Compares a file with the network; raises if it differs by more than its precision explains."""
    from reszoo.deployment.check import CHUNK, accepted, batches, by_name, compare, fault, reference, run
    from reszoo.deployment.signature import random_inputs

    network, exported = prepared.network, prepared.exported
    where = f"deploy: {entry.name}: {network.model.name}"
    settings: dict[str, Any] = {"activations": prepared.activations, "exact": order.quantize != "int8"}
    settings["classes"] = network.task == "classification"

    def expected_of(x: Inputs) -> dict[str, Array]:
        return by_name(reference(network.model, network.inputs(x) if inside else x), [*exported.output])

    def comparison_of(open_file: Any, x: Inputs, expected: dict[str, Array], labels: Array | None) -> Comparison:
        try:
            outputs = run(open_file(path), x, order.batch)
        except Exception as error:
            # Runtimes raise exceptions of any kind.
            message = " ".join(str(error).split())[:300]
            hint = "some operations run in a file of one batch size only: try batch=1" if order.batch is None else ""
            raise ReszooError(where, got=f"a file that the runtime does not run ({message})", hint=hint) from error
        return compare(expected, outputs, labels=labels, **settings)

    def check(x: Inputs, expected: dict[str, Array], labels: Array | None) -> Comparison:
        comparison = comparison_of(entry.writer.open_program, x, expected, labels)
        if reason := fault(comparison, order.quantize, max_loss):
            hint = "nothing was written"
            if order.quantize == "int8" and comparison.finite:
                hint = _noisiest(prepared, network.inputs(x) if inside else x)
            raise ReszooError(where, got=reason, expected=accepted(order.quantize, max_loss), hint=hint)
        return comparison

    expected = expected_of(chosen.x)
    part, count = next(batches(chosen.x, CHUNK))
    first = {name: values[:count] for name, values in expected.items()}
    if compare(first, expected_of(part), labels=None, **settings).difference > 1e-3:
        got = "a network whose own outputs change from call to call"
        raise ReszooError(where, got=got, expected="the same outputs for the same inputs", hint="nothing was written")
    comparison = check(chosen.x, expected, chosen.labels)
    if any(None in tensor.shape[1:] for tensor in exported.inputs) and order.quantize != "int8":
        # A converter may store the size of its trace.
        x = random_inputs(exported, order.batch or 2, sides=(96, 64, 80))
        check(x, expected_of(x), None)
    notes: tuple[str, ...] = () if comparison.varied else ("all examples have the same outputs: the check says little",)
    if order.quantize == "int8" and (accuracy := comparison.accuracy) is not None:
        error = (accuracy * (1 - accuracy) / chosen.total) ** 0.5
        notes = (*notes, f"accuracy on {chosen.total} examples has a standard error of {error:.1%}")
    if entry.name == "openvino" and order.quantize != "int8":
        notes = (*notes, _default_precision(lambda opened: comparison_of(opened, chosen.x, expected, chosen.labels)))
    return comparison, notes


def _noisiest(prepared: Prepared, inputs: Any) -> str:
    from reszoo.deployment.rounding import layer_noise

    rows = layer_noise(prepared.network.model, inputs[:64])
    layers = ", ".join(map(repr, rows[:5]))
    return f"nothing was written; the layers with most rounding noise: {layers}" if rows else "nothing was written"


def _default_precision(comparison_of: Any) -> str:
    """OpenVINO computes in bfloat16 by default on processors that have it: another precision than the check's."""
    from reszoo.deployment.openvino_files import open_program

    default = comparison_of(lambda path: open_program(path, precision=None))
    same = "" if default.agreement is None else f", same first class {default.agreement:.2%}"
    accuracy = "" if default.accuracy is None else f", accuracy {default.accuracy:.2%}"
    hint = "checked with INFERENCE_PRECISION_HINT f32"
    return f"{hint}; in OpenVINO's default precision here: difference {default.difference:.1e}{same}{accuracy}"
