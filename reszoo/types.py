"""Names for what Keras and NumPy hand about, so that a signature says what it takes; nothing is imported for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import keras
    import numpy as np

    KerasModel: TypeAlias = keras.Model
    """A functional, Sequential or subclassed Keras model."""
    KerasLayer: TypeAlias = keras.layers.Layer
    """A layer."""
    KerasVariable: TypeAlias = keras.Variable
    """A weight or the state of a layer or optimizer."""
    KerasOptimizer: TypeAlias = keras.optimizers.Optimizer
    """An optimizer."""
    Array: TypeAlias = np.ndarray[Any, Any]
    """A NumPy array."""
else:
    KerasModel = KerasLayer = KerasVariable = KerasOptimizer = Array = Any
Tensor: TypeAlias = Any
"""A tensor of the current backend, or what Keras turns into one."""
