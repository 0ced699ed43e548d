"""Keras callbacks that kill a worker or make its training fail."""

import os
import signal
from pathlib import Path

import keras


class KilledOnce(keras.callbacks.Callback):
    """Kills the process at the start of its second epoch, the first time."""

    def __init__(self, marker):
        super().__init__()
        self.marker = str(marker)

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1 and not Path(self.marker).exists():
            Path(self.marker).touch()
            os.kill(os.getpid(), signal.SIGKILL)


class OutOfMemory(keras.callbacks.Callback):
    """Raises MemoryError."""

    def on_epoch_begin(self, epoch, logs=None):
        raise MemoryError("9 GiB")


class Mistaken(keras.callbacks.Callback):
    """Fails like a bug in a user's callback."""

    def on_train_begin(self, logs=None):
        raise TypeError("a mistake of mine")


class Unreadable(keras.callbacks.Callback):
    """Can be pickled, but not unpickled."""

    def __reduce__(self):
        return int, ("no number",)
