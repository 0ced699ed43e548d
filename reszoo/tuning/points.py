"""Points that users write: checked against the axes of a space."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from reszoo.errors import ReszooError, UnknownNameError
from reszoo.tuning.axes import Axis, Point, applies, describe_values


def checked_point(axes: Mapping[str, Axis], values: Mapping[str, Any], /, *, where: str = "point") -> Point:
    """Returns the point of some values; axes that do not apply are left out.

    Example:
        >>> checked_point({"depth": Axis(values=(1, 2))}, {"depth": 2})
        {'depth': 2}

    Args:
        axes: of the space, in order.
        values: axis -> value.
        where: beginning of error messages.

    Raises:
        ReszooError: an unknown axis, one without a value, or a value that it does not have.
    """
    for name in values:
        if name not in axes:
            raise UnknownNameError(where, got=name, known=axes)
    point: Point = {}
    for name, axis in axes.items():
        if not applies(axis, point):
            continue
        if name not in values:
            raise ReszooError(f"{where}.{name}", got="nothing", expected=describe_values(axis))
        point[name] = _checked_value(axis, values[name], f"{where}.{name}")
    return point


def _checked_value(axis: Axis, value: Any, where: str) -> Any:
    """The value of an axis, as the space itself writes it."""
    value = value.item() if hasattr(value, "item") else value
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if axis.answers is None:
        if number and float(axis.low or 0) <= value <= float(axis.high or 0):
            return float(value)
    else:
        for answer in axis.answers:
            if answer == value and isinstance(answer, bool) == isinstance(value, bool):
                return answer
            if number and isinstance(answer, float) and math.isclose(answer, value, rel_tol=1e-9):
                return answer
    raise ReszooError(where, got=repr(value), expected=describe_values(axis))
