"""The gradient's way to the input, watched during `fit()`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import tree

from reszoo.diagnosis.anatomy import Anatomy, Loss, take_apart
from reszoo.diagnosis.measures.gradient_profile import block_gradients, ratio_of
from reszoo.errors import ReszooError


class GradientFlow(keras.callbacks.Callback):
    """Writes the norm of the activation gradient at every block to TensorBoard while a model trains.

    `model.fit(x, y, callbacks=[GradientFlow(x[:64], y[:64], folder="logs")])`: every `every` steps the gradient profile
    of the same few examples is taken, outside the step that trains; training itself is unchanged, bit for bit.
    """

    def __init__(
        self, x: Any, y: Any, *, folder: str | Path = "logs", every: int = 50, loss: Loss | None = None
    ) -> None:
        """Makes the callback.

        Args:
            x: a few inputs, 16 to 64.
            y: their classes, or what `loss` takes.
            folder: for TensorBoard's files; they come into `gradient_flow` in it.
            every: steps from one profile to the next.
            loss: a function of true values and outputs, other than cross-entropy.

        Raises:
            ReszooError: an impossible number of steps, or x and y of different lengths.
        """
        super().__init__()
        if every < 1:
            raise ReszooError("GradientFlow.every", got=every, expected="at least 1")
        if any(len(part) != len(y) for part in tree.flatten(x)):
            raise ReszooError("GradientFlow", got="x and y of different lengths", expected="one true value an input")
        self._x, self._y, self._loss = x, y, loss
        self._folder, self._every = Path(folder) / "gradient_flow", every
        self._network: Anatomy | None = None
        self._writer: Any = None
        self._step = 0
        self.history: list[tuple[int, tuple[float, ...]]] = []
        """Step, and the root mean square of the gradient at h_0, ..., h_N."""

    def on_train_begin(self, logs: Any = None) -> None:
        from tensorboard.summary import Writer

        self._writer = Writer(str(self._folder))
        self._write()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._step += 1
        if self._step % self._every == 0:
            self._write()

    def on_train_end(self, logs: Any = None) -> None:
        self._writer.close()

    def _write(self) -> None:
        # On JAX, asking for the model brings its variables up to the last step.
        network = self._network if self._network and self._network.graph.model is self.model else take_apart(self.model)
        self._network = network
        rms = block_gradients(network, self._x, self._y, loss=self._loss)
        self.history.append((self._step, rms))
        for name, value in zip(("h_0", *(block.name for block in network.blocks)), rms, strict=True):
            self._writer.add_scalar(f"gradient/{name}", np.float32(value), self._step)
        self._writer.add_scalar("gradient/ratio", np.float32(ratio_of(rms)), self._step)
        self._writer.flush()
