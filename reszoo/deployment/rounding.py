"""Where 8-bit numbers hurt: the noise of rounding, layer by layer."""

from __future__ import annotations

from typing import NamedTuple

import keras
import numpy as np

from reszoo.types import Array, KerasModel


class LayerNoise(NamedTuple):
    """Signal-to-noise ratios of one layer in 8-bit numbers, in decibels: 40 dB are good, below 20 dB is poor."""

    name: str
    weights: float
    """Of its kernel, rounded per output channel."""
    activations: float
    """Of its output, rounded as one tensor from its smallest to its largest value."""

    def __repr__(self) -> str:
        return f"{self.name} (weights {self.weights:.0f} dB, output {self.activations:.0f} dB)"


def layer_noise(model: KerasModel, inputs: Array) -> tuple[LayerNoise, ...]:
    """Returns the noise of every convolution and dense layer, the noisiest first.

    Args:
        model: the network in float; layers inside sub-models are left out.
        inputs: examples as the network takes them.
    """
    layers = [layer for layer in model.layers if hasattr(layer, "kernel") and not hasattr(layer, "layers")]
    if not layers:
        return ()
    outputs = keras.Model(model.inputs, [layer.output for layer in layers]).predict_on_batch(inputs)
    outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    rows = [
        LayerNoise(layer.name, _weight_ratio(np.asarray(layer.get_weights()[0])), _output_ratio(np.asarray(output)))
        for layer, output in zip(layers, outputs, strict=True)
    ]
    return tuple(sorted(rows, key=lambda row: min(row.weights, row.activations)))


def _weight_ratio(kernel: Array) -> float:
    step = np.abs(kernel).max(axis=tuple(range(kernel.ndim - 1)), keepdims=True) / 127
    step = np.where(step > 0, step, 1.0)
    return _decibels(kernel, np.rint(kernel / step) * step)


def _output_ratio(output: Array) -> float:
    low, high = min(float(output.min()), 0.0), max(float(output.max()), 0.0)
    step = (high - low) / 255 or 1.0
    return _decibels(output, np.rint(output / step) * step)


def _decibels(signal: Array, rounded: Array) -> float:
    noise = float(np.square(signal - rounded, dtype="float64").sum())
    return 10 * float(np.log10(max(float(np.square(signal, dtype="float64").sum()), 1e-30) / max(noise, 1e-30)))
