"""Checkpoints of a run: states to resume from, history and the best network, each written atomically."""

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
from reszoo.arch.facts import write_facts
from reszoo.arch.spec import NetSpec
from reszoo.atomic import atomic_write
from reszoo.data.digest import digest
from reszoo.data.sources import Data
from reszoo.strict_json import strict_json
from reszoo.training.metadata import facts_of, metadata_of, write_metadata
from reszoo.training.optimizers import current_rate
from reszoo.training.run_folder import BEST, HISTORY, STATE
from reszoo.types import KerasModel


def restore(folder: Path, model: KerasModel) -> list[dict[str, float]]:
    """Loads the last state of a run into the model and returns the history up to it; empty without a state."""
    for unfinished in folder.glob(f".{STATE}-*"):
        shutil.rmtree(unfinished, ignore_errors=True)
    states = sorted(folder.glob(f"{STATE}-*"))
    if not states:
        return []
    history = json.loads((states[-1] / "history.json").read_text(encoding="utf-8"))
    model.load_weights(states[-1] / "model.weights.h5")
    for old in states[:-1]:
        shutil.rmtree(old, ignore_errors=True)
    return list(history)


@contextmanager
def _averaged_weights(model: KerasModel) -> Iterator[None]:
    """Swaps in the optimizer's moving average of the weights, if it keeps one."""
    averages = getattr(model.optimizer, "_model_variables_moving_average", ()) if model.optimizer.use_ema else ()
    backup = [keras.ops.convert_to_numpy(variable) for variable in model.trainable_variables] if averages else []
    for variable, average in zip(model.trainable_variables, averages, strict=False):
        variable.assign(average)
    try:
        yield
    finally:
        for variable, value in zip(model.trainable_variables, backup, strict=False):
            variable.assign(value)


def write(path: Path, text: str) -> None:
    """Writes a text file atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def save_model(model: KerasModel, path: Path, data: Data, spec: NetSpec, *, digest: str = "") -> None:
    """Saves the network without its optimizer, with the metadata that predicting needs.

    Args:
        model: the network in training.
        path: of the file.
        data: the training data.
        spec: of the network.
        digest: of the data.
    """
    # Exports use the name of the input, which is therefore the same however many networks this process has built.
    network = build(spec, input_name="input")
    network.set_weights(model.get_weights())
    metadata = metadata_of(data, digest=digest)
    for each in (network, model):
        write_facts(each, facts_of(metadata))
    with atomic_write(path) as temporary:
        network.save(temporary)
        write_metadata(temporary, metadata)


class Checkpoint(keras.callbacks.Callback):
    """Writes state, history and the best network after every epoch, each atomically."""

    def __init__(self, folder: Path, history: list[dict[str, float]], data: Data, spec: NetSpec):
        super().__init__()
        self.history = history
        self.saved_epochs = len(history)
        """Epochs whose state is on disk."""
        self.folder, self._data, self._spec = folder, data, spec
        self.digest = digest(data)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Writes the best network first, then the state: a state implies that everything before it was written."""
        row = {"epoch": epoch + 1, **{name: float(value) for name, value in (logs or {}).items()}}
        self.history.append({**row, "learning_rate": current_rate(self.model.optimizer)})
        best = max(self.history, key=lambda row: row["val_accuracy"])
        if best is self.history[-1]:
            with _averaged_weights(self.model):
                save_model(self.model, self.folder / BEST, self._data, self._spec, digest=self.digest)
        self._save_state(epoch + 1)
        self.saved_epochs = epoch + 1
        write(self.folder / HISTORY, "".join(strict_json(row) + "\n" for row in self.history))

    def _save_state(self, epoch: int) -> None:
        """Writes the state into a new folder, which gets its final name once all of its files are on disk."""
        name = f"{STATE}-{epoch:06d}"
        temporary = self.folder / f".{name}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        self.model.save_weights(temporary / "model.weights.h5")
        (temporary / "history.json").write_text(strict_json(self.history), encoding="utf-8")
        for file in temporary.iterdir():
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
        temporary.replace(self.folder / name)
        for old in self.folder.glob(f"{STATE}-*"):
            if old.name != name:
                shutil.rmtree(old, ignore_errors=True)
