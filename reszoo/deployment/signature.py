"""The input of an exported network: its signature, calibration examples in its batch size, and random examples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from reszoo.arch.recover import layers_of
from reszoo.deployment.formats import Inputs
from reszoo.errors import ReszooError
from reszoo.types import Array, KerasModel, Tensor


def input_signature(model: KerasModel, batch: int | None) -> list[Any]:
    """Returns the signature of a model's input, or inputs, with their names and a batch size.

    Args:
        model: the model.
        batch: fixed batch size; None for any.
    """
    import keras

    def spec_of(tensor: Tensor) -> Any:
        return keras.InputSpec(shape=(batch, *tensor.shape[1:]), dtype=tensor.dtype, name=tensor.name)

    return [keras.tree.map_structure(spec_of, getattr(model, "input", model.inputs[0]))]


def pack_inputs(model: KerasModel, inputs: Any) -> Any:
    """Returns inputs as a model takes them: one array, a list or a dictionary.

    Args:
        model: the model.
        inputs: one array or tensor; for several inputs, a dictionary by name.
    """
    import keras

    parts = [inputs[tensor.name] for tensor in model.inputs] if isinstance(inputs, dict) else [inputs]
    # A Sequential has no `input` before its first call.
    return keras.tree.pack_sequence_as(getattr(model, "input", model.inputs[0]), parts)


def calibration_batches(examples: Array, batch: int) -> Iterator[Array]:
    """Yields examples in batches of one size; the last one is filled up with the first examples.

    Args:
        examples: for the calibration of int8.
        batch: size of the batches.
    """
    import numpy as np

    for start in range(0, len(examples), batch):
        yield examples[np.arange(start, start + batch) % len(examples)]


def random_inputs(model: KerasModel, count: int, *, sides: Sequence[int] = (64, 80, 96)) -> Inputs:
    """Returns random examples for a model.

    Args:
        model: a functional or Sequential model.
        count: number of examples.
        sides: sizes of free axes; different ones, so that swapped axes are noticed.

    Raises:
        ReszooError: an input of strings.
    """
    import numpy as np

    random = np.random.default_rng(0)
    parts = {tensor.name: _random(random, model, tensor, count, sides) for tensor in model.inputs}
    return parts if len(parts) > 1 else parts[model.inputs[0].name]


def _random(random: Any, model: KerasModel, tensor: Tensor, count: int, sides: Sequence[int]) -> Array:
    import numpy as np

    free = iter(sides)
    size = (count, *(axis or next(free) for axis in tensor.shape[1:]))
    kind, limit = np.dtype("O") if tensor.dtype == "string" else _numpy_type(tensor), _largest_index(model, tensor)
    if kind.kind == "O":
        expected = "numbers: look words up before the network"
        raise ReszooError(f"deploy: {model.name}", got="an input of strings", expected=expected)
    if kind.kind == "f" and len(size) == 4 and any(scale < 0.1 for scale in _scales(model)):
        return np.asarray(random.uniform(0, 255, size)).astype(kind)
    if kind.kind in "iub" or limit:
        return np.asarray(random.integers(0, 256 if kind == "uint8" and not limit else limit or 2, size)).astype(kind)
    return np.asarray(random.normal(size=size)).astype(kind)


def _scales(model: KerasModel) -> list[float]:
    """Factors by which a model scales its inputs itself."""
    import numpy as np

    return [float(np.max(layer.scale)) for layer in layers_of(model) if type(layer).__name__ == "Rescaling"]


def _numpy_type(tensor: Tensor) -> Any:
    """The type of NumPy; bfloat16 is none there, and every runtime takes its values as float32."""
    import numpy as np

    return np.dtype("float32" if tensor.dtype == "bfloat16" else tensor.dtype)


def _largest_index(model: KerasModel, tensor: Tensor) -> int:
    """Number of indices that an embedding or one-hot encoding takes of an input of rows; 0 if there is none."""
    readers = [layer for layer in layers_of(model) if hasattr(layer, "input_dim") or hasattr(layer, "num_tokens")]
    counts = [getattr(layer, "input_dim", None) or getattr(layer, "num_tokens", None) for layer in readers]
    return min([count for count in counts if count and len(tensor.shape) == 2], default=0)
