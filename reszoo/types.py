"""Type aliases for Keras and NumPy objects in signatures; importing them imports neither library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import keras
    import numpy as np

    KerasModel: TypeAlias = keras.Model
    """A functional, Sequential or subclassed Keras model."""
    KerasLayer: TypeAlias = keras.layers.Layer
    """A Keras layer."""
    KerasVariable: TypeAlias = keras.Variable
    """A weight or another state variable of a layer or optimizer."""
    KerasOptimizer: TypeAlias = keras.optimizers.Optimizer
    """A Keras optimizer."""
    Array: TypeAlias = np.ndarray[Any, Any]
    """A NumPy array."""
else:
    KerasModel = KerasLayer = KerasVariable = KerasOptimizer = Array = Any
Tensor: TypeAlias = Any
"""A tensor of the current backend, or a value that Keras converts to one."""
