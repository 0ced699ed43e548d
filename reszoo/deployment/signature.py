"""The input of an exported network."""

from __future__ import annotations

from typing import Any

from reszoo.types import KerasModel


def input_signature(model: KerasModel, batch: int | None) -> list[Any]:
    """Returns the signature of a model's one input, with its name and a batch size.

    Args:
        model: the model.
        batch: fixed batch size; None for any.
    """
    import keras

    tensor = model.inputs[0]
    return [keras.InputSpec(shape=(batch, *tensor.shape[1:]), dtype=tensor.dtype, name=tensor.name)]
