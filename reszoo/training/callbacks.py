"""Keras callbacks of a run: randomness by epoch, averaged weights, early stopping, plateaus, progress by line."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, NoReturn

import keras
import numpy as np

from reszoo.arch.recover import layers_of
from reszoo.errors import NotFiniteError
from reszoo.training.batches import Batches, reseed
from reszoo.training.optimizers import averaged_weights, current_rate, set_rates, steps_made
from reszoo.training.recipes import Plateau, plateau_factor
from reszoo.types import KerasModel

Logs = dict[str, Any] | None


class BeginEpoch(keras.callbacks.Callback):
    """Makes randomness and batches of an epoch depend on seed and epoch only: a weights file does not hold their state.

    Args:
        seed: of the run.
        batches: for training.
    """

    def __init__(self, seed: int, batches: Batches):
        super().__init__()
        self._seed, self._batches = seed, batches

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self._batches.epoch = epoch
        random = np.random.default_rng([self._seed, epoch, 1])
        if hasattr(self.model, "looped_spec"):
            self.model.reseed(random)
        else:
            for layer in layers_of(self.model):
                reseed(layer, random)
        if keras.backend.backend() == "torch":
            # Keras' dropout on PyTorch draws from the generator of the process.
            import torch

            torch.manual_seed(int(random.integers(2**31)))


def non_finite_weights(model: KerasModel) -> list[str]:
    """Returns the paths of the variables of a model that hold NaN or infinity."""
    return [
        variable.path
        for variable in model.weights
        if keras.backend.is_float_dtype(variable.dtype) and not bool(keras.ops.all(keras.ops.isfinite(variable)))
    ]


class StopIfNotFinite(keras.callbacks.Callback):
    """Ends a run whose loss became NaN or infinite, or whose weights did by the end of an epoch.

    Weights alone: fused kernels of TensorFlow on CPUs drop NaN, so that the loss of such a network is a usual number.
    """

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        value = float((logs or {}).get("loss", 0.0))
        if not math.isfinite(value):
            if hasattr(self.model, "jax_state_sync"):
                # During fit() on JAX the optimizer's variables do not hold the current values.
                self.model.jax_state_sync()
            self._stop(f"loss {value}")

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        paths = non_finite_weights(self.model)
        if paths:
            self._stop(f"{len(paths)} variables with NaN or infinite weights ({paths[0]}, ...)")

    def _stop(self, got: str) -> NoReturn:
        step, rate = steps_made(self.model.optimizer), current_rate(self.model.optimizer)
        hint = "a lower learning_rate.peak, a longer warmup, optimizer.clip=1, or float32"
        raise NotFiniteError(f"step {step}", got=f"{got} at a learning rate of {rate:g}", hint=hint)


class ValidateAverages(keras.callbacks.Callback):
    """Validates the moving averages of the weights, those that are saved.

    Keras' SwapEMAWeights exchanges the two by additions on TensorFlow, which change the weights by rounding.
    """

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()

    def on_test_begin(self, logs: Logs = None) -> None:
        self._stack.enter_context(averaged_weights(self.model))

    def on_test_end(self, logs: Logs = None) -> None:
        self._stack.close()


class EarlyStopping(keras.callbacks.Callback):
    """Ends the run after an epoch if the history says so; it comes after the checkpoint."""

    def __init__(self, stopped: Callable[[], bool]):
        super().__init__()
        self._stopped = stopped

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        if self._stopped():
            self.model.stop_training = True


class ReduceOnPlateau(keras.callbacks.Callback):
    """Sets the learning rates of an epoch from the history before it.

    Args:
        plateau: when and by how much.
        rates: of the innermost optimizers at the beginning of the run.
        history: of the run so far; a row is added to it after every epoch.
        monitor: the metric by which epochs are compared, as in the recipe.
    """

    def __init__(
        self, plateau: Plateau, rates: Sequence[float], history: Sequence[dict[str, float]], monitor: str = "auto"
    ):
        super().__init__()
        self._plateau, self._rates, self._history, self._monitor = plateau, rates, history, monitor

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        factor = plateau_factor(self._history, self._plateau, self._monitor)
        set_rates(self.model.optimizer, [rate * factor for rate in self._rates])


class PrintEpochs(keras.callbacks.Callback):
    """Prints one line an epoch, for logs: a progress bar needs a terminal.

    Args:
        history: of a run, whose last row is printed; by default the values of Keras.
    """

    def __init__(self, history: Sequence[dict[str, float]] = ()):
        super().__init__()
        self._history = history
        self._start = 0.0

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        row = self._history[-1] if self._history else logs or {}
        values = ", ".join(f"{name} {value:.4g}" for name, value in row.items() if name not in ("epoch", "penalty"))
        seconds = time.perf_counter() - self._start
        print(f"epoch {epoch + 1} of {self.params['epochs']}: {values}; {seconds:.1f} s", flush=True)


def progress(verbose: str | int, history: Sequence[dict[str, float]] = ()) -> dict[str, Any]:
    """Returns the arguments of `fit()` for a wish: where there is no terminal, `auto` is one line an epoch.

    Args:
        verbose: as in `fit()`.
        history: of a run (see `PrintEpochs`).
    """
    if verbose != "auto" or sys.stdout.isatty():
        return {"verbose": verbose, "callbacks": []}
    return {"verbose": 0, "callbacks": [PrintEpochs(history)]}
