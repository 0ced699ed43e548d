"""LiteRT files (formerly TensorFlow Lite), run by its interpreter with XNNPACK."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reszoo.deployment.formats import Inputs, Order, Program
from reszoo.deployment.signature import calibration_batches, input_signature
from reszoo.types import Array, KerasModel
from reszoo.weights.formats.archives import append_member


def export(model: KerasModel, path: Path, order: Order) -> tuple[str, ...]:
    """Writes the file; class names and the description follow it as a zip archive, as LiteRT's metadata tools do."""
    import tensorflow as tf

    settings: dict[str, Any] = {"input_signature": input_signature(model, order.batch)}
    if order.quantize is not None:
        settings["optimizations"] = [tf.lite.Optimize.DEFAULT]
    if order.quantize == "float16":
        settings["target_spec"] = {"supported_types": [tf.float16]}
    notes: tuple[str, ...] = ()
    if order.quantize == "int8" and order.calibration is not None:
        notes = _export_int8(model, path, settings, order.calibration)
    else:
        model.export(str(path), format="litert", verbose=False, **settings)
    append_member(path, "reszoo.json", order.description)
    if order.labels:
        append_member(path, "labels.txt", order.labels)
    return notes


def _export_int8(model: KerasModel, path: Path, settings: dict[str, Any], calibration: Array) -> tuple[str, ...]:
    import tensorflow as tf

    def examples() -> Iterator[list[Array]]:
        return ([x] for x in calibration_batches(calibration, settings["input_signature"][0].shape[0] or 1))

    settings |= {"representative_dataset": examples}
    operations = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    try:
        model.export(str(path), format="litert", verbose=False, **settings, target_spec={"supported_ops": operations})
    except Exception:
        # An operation without an 8-bit version: it is computed in float.
        operations.append(tf.lite.OpsSet.TFLITE_BUILTINS)
        model.export(str(path), format="litert", verbose=False, **settings, target_spec={"supported_ops": operations})
        return ("operations without an 8-bit version are in float",)
    return ()


def open_program(path: Path, *, threads: int | None = None) -> Program:
    """Returns the file opened by LiteRT's interpreter.

    Args:
        path: the file.
        threads: their number; by default one for each processor.
    """
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=threads or os.cpu_count())
    runner = interpreter.get_signature_runner()
    inputs, outputs = (
        {name: detail["index"] for name, detail in each.items()}
        for each in (runner.get_input_details(), runner.get_output_details())
    )
    shapes: dict[str, tuple[int, ...]] = {}

    def program(x: Inputs) -> dict[str, Array]:
        arrays = x if isinstance(x, dict) else dict.fromkeys(inputs, x)
        sizes = {name: array.shape for name, array in arrays.items()}
        if sizes != shapes:
            # A free axis has size 1 until the input is resized.
            for name, size in sizes.items():
                interpreter.resize_tensor_input(inputs[name], size)
            interpreter.allocate_tensors()
            shapes.update(sizes)
        for name, array in arrays.items():
            interpreter.set_tensor(inputs[name], array)
        interpreter.invoke()
        return {name: interpreter.get_tensor(index) for name, index in outputs.items()}

    return program
