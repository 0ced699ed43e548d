"""Examples with known outputs: their shapes, and other forms in which a network may expect them."""

from __future__ import annotations

from reszoo.arch.spec import NetSpec
from reszoo.errors import ReszooError
from reszoo.types import Array

UNCHANGED = "unchanged"


def transformed(x: Array) -> dict[str, Array]:
    """Returns the inputs with other orders of channels and other scaling, by name."""
    import numpy as np

    result = {UNCHANGED: x}
    if x.ndim != 4:
        return result
    mean, std = np.array([0.485, 0.456, 0.406], "float32"), np.array([0.229, 0.224, 0.225], "float32")
    scaled = {"": x, "values divided by 255": x / 255.0}
    if x.shape[-1] == 3:
        result["channels reversed"] = x[..., ::-1]
        scaled["the mean and deviation of ImageNet"] = (x - mean) / std
        scaled["values divided by 255, the mean and deviation of ImageNet"] = (x / 255.0 - mean) / std
    scaled["values from -1 to 1 in place of 0 to 1"] = 2.0 * x - 1.0
    scaled["values from -1 to 1 in place of 0 to 255"] = x / 127.5 - 1.0
    return result | {name: np.ascontiguousarray(value) for name, value in scaled.items() if name}


def check_shapes(spec: NetSpec, x: Array, y: Array, where: str) -> None:
    """Checks that inputs and outputs have shapes that a network can have.

    Raises:
        ReszooError: they have not.
    """
    shape = spec.input_shape
    fits = x.ndim == len(shape) + 1 and all(one in (None, two) for one, two in zip(shape, x.shape[1:], strict=True))
    if not fits or len(x) == 0:
        expected = f"(examples, {', '.join('any' if side is None else str(side) for side in shape)}), channels last"
        raise ReszooError(f"{where}: inputs", got=f"shape {x.shape}", expected=expected)
    if len(y) != len(x) or (spec.head.classes and y.shape != (len(x), spec.head.classes)):
        expected = f"({len(x)}, {spec.head.classes or '...'}), one row for each example"
        raise ReszooError(f"{where}: outputs", got=f"shape {y.shape}", expected=expected)
