"""PyTorch programs: `.pt2` files of `torch.export`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reszoo.deployment.formats import Inputs, Order, Program
from reszoo.deployment.signature import input_signature
from reszoo.errors import ReszooError
from reszoo.types import Array, KerasModel


def export(model: KerasModel, path: Path, order: Order) -> tuple[str, ...]:
    """Writes the file; class names and the description are its extra files."""
    import keras
    import torch

    if any(None in tensor.shape[1:] for tensor in model.inputs):
        expected = "the side of the images, which torch.export stores in the file"
        raise ReszooError(f"deploy.size: {model.name}", got="a network of any size", expected=expected)
    settings: dict[str, Any] = {"input_signature": input_signature(model, order.batch)}
    if order.batch is None:
        axes = {0: torch.export.Dim("batch", min=1, max=4096)}
        # The wrapping of the one argument, as Keras hands it on.
        settings["dynamic_shapes"] = [(keras.tree.map_structure(lambda spec: axes, settings["input_signature"][0]),)]
    model.export(path, format="torch", verbose=False, **settings)
    extra = {"reszoo.json": order.description} | ({"labels.txt": order.labels} if order.labels else {})
    torch.export.save(torch.export.load(str(path)), str(path), extra_files=extra)
    return ()


def open_program(path: Path) -> Program:
    """Returns the file opened by PyTorch on the CPU."""
    import keras
    import torch

    module: Any = torch.export.load(str(path)).module()

    def program(x: Inputs) -> dict[str, Array]:
        with torch.no_grad():
            outputs = module(keras.tree.map_structure(lambda part: torch.from_numpy(part.copy()), x))
        return {name: value.cpu().numpy() for name, value in outputs.items()}

    return program
