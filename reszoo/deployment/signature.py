"""The input of an exported network, and calibration examples in its batch size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reszoo.types import Array, KerasModel


def input_signature(model: KerasModel, batch: int | None) -> list[Any]:
    """Returns the signature of a model's one input, with its name and a batch size.

    Args:
        model: the model.
        batch: fixed batch size; None for any.
    """
    import keras

    tensor = model.inputs[0]
    return [keras.InputSpec(shape=(batch, *tensor.shape[1:]), dtype=tensor.dtype, name=tensor.name)]


def calibration_batches(examples: Array, batch: int) -> Iterator[Array]:
    """Yields examples in batches of one size; the last one is filled up with the first examples.

    Args:
        examples: for the calibration of int8.
        batch: size of the batches.
    """
    import numpy as np

    for start in range(0, len(examples), batch):
        yield examples[np.arange(start, start + batch) % len(examples)]
