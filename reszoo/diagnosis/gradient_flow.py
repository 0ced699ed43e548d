"""A callback that records the gradient profile during `fit()`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import tree

from reszoo.diagnosis.anatomy import Anatomy, take_apart
from reszoo.diagnosis.flatten import functional
from reszoo.diagnosis.measures.gradient_profile import block_gradients, ratio_of
from reszoo.diagnosis.objective import Loss
from reszoo.errors import ReszooError
from reszoo.types import Tensor


class GradientFlow(keras.callbacks.Callback):
    """Writes the norm of the activation gradient at every block to TensorBoard while a model trains.

    The gradient profile of the same few examples is taken every `every` steps, outside the training step; training
    itself is unchanged, bit for bit.

    Example:
        >>> import numpy as np, reszoo
        >>> x, y = np.ones((4, 8), "float32"), np.arange(4)
        >>> reszoo.GradientFlow(x, y, folder="logs", every=10)
        GradientFlow(every 10 steps, 4 examples, 0 profiles, folder='logs/gradient_flow')

    Then `model.fit(..., callbacks=[flow])`, and `tensorboard --logdir logs` shows the norms.
    """

    def __init__(
        self, x: Tensor, y: Tensor, *, folder: str | Path = "logs", every: int = 50, loss: Loss | None = None
    ) -> None:
        """Creates the callback.

        Args:
            x: a few inputs, 16 to 64.
            y: their classes, or what `loss` takes.
            folder: log folder; the TensorBoard files go to its subfolder `gradient_flow`.
            every: steps between two profiles.
            loss: a function of true values and outputs, instead of cross-entropy.

        Raises:
            ReszooError: `every` is below 1, or x and y have different lengths.
        """
        super().__init__()
        if every < 1:
            raise ReszooError("GradientFlow.every", got=every, expected="at least 1")
        if any(len(part) != len(y) for part in tree.flatten(x)):
            raise ReszooError("GradientFlow", got="x and y of different lengths", expected="one true value per input")
        self._x = x
        self._y = y
        self._loss = loss
        self._folder = Path(folder) / "gradient_flow"
        self._every = every
        self._network: Anatomy | None = None
        self._measured: Any = None
        self._writer: Any = None
        self._step = 0
        self.history: list[tuple[int, tuple[float, ...]]] = []
        """Step, and the root mean square of the gradient at h_0, ..., h_N."""

    def __repr__(self) -> str:
        size = f"{len(self._y)} examples, {len(self.history)} profiles"
        return f"GradientFlow(every {self._every} steps, {size}, folder={self._folder.as_posix()!r})"

    def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:
        from tensorboard.summary import Writer

        self._writer = Writer(str(self._folder))
        self._write()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        self._step += 1
        if self._step % self._every == 0:
            self._write()

    def on_train_end(self, logs: Mapping[str, float] | None = None) -> None:
        self._writer.close()

    def _write(self) -> None:
        # On JAX, reading self.model updates its variables to the last step.
        model = self.model
        if self._network is None or self._measured is not model:
            self._network, self._measured = take_apart(functional(model, self._x)), model
        network = self._network
        rms = block_gradients(network, self._x, self._y, loss=self._loss)
        self.history.append((self._step, rms))
        for name, value in zip(("h_0", *(block.name for block in network.blocks)), rms, strict=True):
            self._writer.add_scalar(f"gradient/{name}", np.float32(value), self._step)
        self._writer.add_scalar("gradient/ratio", np.float32(ratio_of(rms)), self._step)
        self._writer.flush()
