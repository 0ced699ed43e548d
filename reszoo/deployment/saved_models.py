"""SavedModel folders: TensorFlow itself, and servers that run its graphs."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from reszoo.deployment.formats import Inputs, Order, Program
from reszoo.deployment.signature import input_signature
from reszoo.types import Array, KerasModel


def export(model: KerasModel, path: Path, order: Order) -> tuple[str, ...]:
    """Writes the folder; class names and the description are in `assets.extra`, which TensorFlow keeps for users."""
    logger = logging.getLogger("tensorflow")
    level = logger.level
    # TensorFlow announces the temporary folder, which is renamed afterwards.
    logger.setLevel(logging.WARNING)
    try:
        signature = input_signature(model, order.batch)
        model.export(str(path), format="tf_saved_model", verbose=False, input_signature=signature)
    finally:
        logger.setLevel(level)
    extra = path / "assets.extra"
    extra.mkdir()
    (extra / "reszoo.json").write_text(order.description, encoding="utf-8")
    if order.labels:
        (extra / "labels.txt").write_text(order.labels, encoding="utf-8")
    return ()


def open_program(path: Path) -> Program:
    """Returns the folder opened by TensorFlow."""
    import tensorflow as tf

    # The loaded object holds the variables: it has to live as long as its functions.
    loaded: Any = tf.saved_model.load(str(path))

    def program(x: Inputs) -> dict[str, Array]:
        outputs = loaded.serve(x)
        return {name: value.numpy() for name, value in outputs.items()}

    return program
