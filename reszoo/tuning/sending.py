"""Sending of objects to worker processes: classes of a script or a notebook are pickled by value."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import cloudpickle

from reszoo.errors import ReszooError

OWN_RATE = ("ReduceLROnPlateau", "LearningRateScheduler")
"""Callbacks of Keras that set the learning rate, which belongs to the recipe."""


def dumps(message: Any) -> bytes:
    """Returns an object as bytes that `pickle.loads` reads in another process."""
    data: bytes = cloudpickle.dumps(message)
    return data


def check_callbacks(callbacks: tuple[Any, ...]) -> None:
    """Checks that callbacks can be sent to a worker and leave the learning rate to the recipe.

    Raises:
        ReszooError: one cannot, or does not.
    """
    if not isinstance(callbacks, Iterable):
        raise ReszooError("callbacks", got=repr(callbacks), expected="a list of callbacks")
    for callback in callbacks:
        name = type(callback).__name__
        if not hasattr(callback, "set_model"):
            raise ReszooError("callbacks", got=repr(callback), expected="a Keras callback")
        if any(kind.__name__ in OWN_RATE and kind.__module__.startswith("keras.") for kind in type(callback).__mro__):
            hint = "recipe: plateau={'patience': 2}, learning_rate={'kind': 'constant', 'warmup': 0.0}"
            raise ReszooError("callbacks", got=name, expected="callbacks that leave the learning rate alone", hint=hint)
        module = sys.modules.get(type(callback).__module__)
        top = type(callback).__module__.partition(".")[0]
        if module is not None and top != "__main__" and not any(each.find_spec(top, None) for each in sys.meta_path):
            # A worker could not import it.
            cloudpickle.register_pickle_by_value(module)
        try:
            dumps(callback)
        except Exception as error:
            hint = "create what it holds in on_train_begin, which runs in the worker"
            got = f"{name}, which cannot be sent to a worker process ({type(error).__name__}: {error})"
            raise ReszooError("callbacks", got=got, expected="callbacks that can be pickled", hint=hint) from None
