"""What a run keeps on disk: states to go on from, history, the best network; each whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras

from reszoo.arch.build import build
from reszoo.arch.spec import NetSpec
from reszoo.training.data import Data
from reszoo.training.facts import write_facts
from reszoo.training.folder import BEST, HISTORY, STATE
from reszoo.training.optimise import rate_of
from reszoo.writing import renamed_when_whole


def restored(folder: Path, model: Any) -> list[dict[str, float]]:
    """Returns the history up to the last state, which the model has taken up."""
    for left in folder.glob(f".{STATE}-*"):
        shutil.rmtree(left, ignore_errors=True)
    states = sorted(folder.glob(f"{STATE}-*"))
    if not states:
        return []
    told = json.loads((states[-1] / "history.json").read_text(encoding="utf-8"))
    model.load_weights(states[-1] / "model.weights.h5")
    for old in states[:-1]:
        shutil.rmtree(old, ignore_errors=True)
    return list(told)


@contextmanager
def _averaged(model: Any) -> Iterator[None]:
    """The averaged weights, where there are any, in the place of the last ones."""
    averages = getattr(model.optimizer, "_model_variables_moving_average", ()) if model.optimizer.use_ema else ()
    kept = [keras.ops.convert_to_numpy(variable) for variable in model.trainable_variables] if averages else []
    for variable, average in zip(model.trainable_variables, averages, strict=False):
        variable.assign(average)
    try:
        yield
    finally:
        for variable, value in zip(model.trainable_variables, kept, strict=False):
            variable.assign(value)


def write(path: Path, text: str) -> None:
    """Writes a text, whole or not at all."""
    with renamed_when_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def save_model(model: Any, path: Path, data: Data, spec: NetSpec) -> None:
    """Writes the network without its optimiser, with the facts that predicting needs."""
    # Exports are used by the input's name, which is therefore the same however many networks this process has built.
    bare = build(spec, input_name="input")
    bare.set_weights(model.get_weights())
    with renamed_when_whole(path) as temporary:
        bare.save(temporary)
        write_facts(temporary, data)


class Keeper(keras.callbacks.Callback):
    """Writes state, history and the best network after every epoch, each whole or not at all."""

    def __init__(self, folder: Path, history: list[dict[str, float]], data: Data, spec: NetSpec):
        super().__init__()
        self.history = history
        self.kept = len(history)
        """Epochs whose state is on disk."""
        self._folder, self._data, self._spec = folder, data, spec

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Writes the best network first, the state after it: a state stands for all that came before."""
        row = {"epoch": epoch + 1, **{name: float(value) for name, value in (logs or {}).items()}}
        rate = rate_of(self.model.optimizer)
        self.history.append({**row, "learning_rate": rate})
        best = max(self.history, key=lambda row: row["val_accuracy"])
        if best is self.history[-1]:
            with _averaged(self.model):
                save_model(self.model, self._folder / BEST, self._data, self._spec)
        self._keep(epoch + 1)
        self.kept = epoch + 1
        write(self._folder / HISTORY, "".join(json.dumps(row) + "\n" for row in self.history))

    def _keep(self, epoch: int) -> None:
        """A folder of its own for every state: its name appears when everything in it is on disk."""
        name = f"{STATE}-{epoch:06d}"
        made = self._folder / f".{name}"
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir()
        self.model.save_weights(made / "model.weights.h5")
        (made / "history.json").write_text(json.dumps(self.history), encoding="utf-8")
        for file in made.iterdir():
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
        made.replace(self._folder / name)
        for old in self._folder.glob(f"{STATE}-*"):
            if old.name != name:
                shutil.rmtree(old, ignore_errors=True)
