"""OpenVINO files: an .xml file and its weights in a .bin file."""

from __future__ import annotations

import contextlib
import io
import logging
from pathlib import Path
from typing import Any

from reszoo.deployment.formats import Inputs, Order, Program
from reszoo.deployment.signature import calibration_batches, input_signature
from reszoo.types import Array, KerasModel


def export(model: KerasModel, path: Path, order: Order) -> tuple[str, ...]:
    """Writes both files; class names are in the runtime information, where OpenVINO's Model API reads them."""
    import openvino

    raw = path.with_name(f"raw_{path.name}")
    model.export(str(raw), format="openvino", verbose=False, input_signature=input_signature(model, order.batch))
    network = _with_outputs(openvino.Core().read_model(str(raw)), [*model.output])
    if order.quantize == "int8" and order.calibration is not None:
        network = _quantized(network, [*calibration_batches(order.calibration, order.batch or 1)])
    network.set_rt_info(order.description, ["reszoo"])
    if order.labels:
        words = " ".join(name.replace(" ", "_") for name in order.labels.splitlines())
        network.set_rt_info(words, ["model_info", "labels"])
    openvino.save_model(network, str(path), compress_to_fp16=order.quantize == "float16")
    del network
    raw.unlink()
    raw.with_suffix(".bin").unlink()
    return ()


def _with_outputs(network: Any, names: list[str]) -> Any:
    """Names the outputs and drops those that the conversion of a group norm adds."""
    import openvino

    outputs = [network.output(index) for index in range(len(names))]
    for output, name in zip(outputs, _order(outputs, names), strict=True):
        output.get_tensor().set_names({name})
    return openvino.Model(outputs, network.get_parameters())


def _order(outputs: list[Any], names: list[str]) -> list[str]:
    """The names of outputs in their order: as the converter has them if it has, else as the model has them."""
    matches = [next((name for name in names if name in output.get_names()), "") for output in outputs]
    return matches if sorted(matches) == sorted(names) else sorted(names)


def _quantized(network: Any, calibration: list[Array]) -> Any:
    import nncf

    logging.getLogger("nncf").setLevel(logging.WARNING)
    with contextlib.redirect_stdout(io.StringIO()):
        return nncf.quantize(
            network,
            nncf.Dataset(calibration),
            preset=nncf.QuantizationPreset.MIXED,
            fast_bias_correction=False,
            subset_size=len(calibration),
        )


def open_program(path: Path, *, precision: str | None = "f32", threads: int | None = None) -> Program:
    """Returns the file opened by OpenVINO on the CPU.

    Args:
        path: the .xml file.
        precision: of the arithmetic; None for OpenVINO's default, which is bfloat16 on processors that have it.
        threads: their number; by default one for each core.
    """
    import openvino

    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": precision} if precision else {}
    settings |= {"INFERENCE_NUM_THREADS": threads} if threads else {}
    compiled = openvino.Core().compile_model(str(path), "CPU", settings)

    def program(x: Inputs) -> dict[str, Array]:
        outputs = compiled(x)
        return {output.get_any_name(): outputs[output] for output in compiled.outputs}

    return program
