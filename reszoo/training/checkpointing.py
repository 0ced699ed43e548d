"""Checkpoints of a run: states to resume from, history and the best network, each written atomically."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import keras

from reszoo.arch.build import build
from reszoo.arch.facts import write_facts
from reszoo.arch.spec import NetSpec
from reszoo.data.sources import Data
from reszoo.errors import ReszooError
from reszoo.files import atomic_write, strict_json, write_file
from reszoo.training.losses import Targets
from reszoo.training.metadata import facts_of, metadata_of, write_metadata
from reszoo.training.optimizers import averaged_weights, current_rate
from reszoo.training.recipes import best_of
from reszoo.training.run_folder import BEST, HISTORY, STATE
from reszoo.types import KerasModel


def restore(folder: Path, model: KerasModel) -> list[dict[str, float]]:
    """Loads the last state of a run into the model and returns the history up to it; empty without a state.

    Raises:
        ReszooError: the state does not fit the network or its optimizer.
    """
    for unfinished in folder.glob(f".{STATE}-*"):
        shutil.rmtree(unfinished, ignore_errors=True)
    states = sorted(folder.glob(f"{STATE}-*"))
    hint = "restore the folder from a complete copy, or choose another folder"
    if not states and (folder / HISTORY).exists():
        raise ReszooError(str(folder), got=f"a history without the {STATE}-... of its last epoch", hint=hint)
    if not states:
        return []
    state = states[-1]
    if not (folder / BEST).is_file():
        raise ReszooError(str(folder / BEST), got="no such file", expected="the best network so far", hint=hint)
    try:
        history = json.loads((state / "history.json").read_text(encoding="utf-8"))
        model.load_weights(state / "model.weights.h5")
    except OSError as error:
        raise ReszooError(str(state), got=f"a damaged state ({str(error).partition(chr(10))[0]})", hint=hint) from None
    except ValueError as error:
        got = f"a state that does not fit ({str(error).partition(chr(10))[0]})"
        hint = "it may be damaged, or come from an earlier version with other groups of layers; choose another folder"
        raise ReszooError(str(state), got=got, hint=hint) from None
    for old in states[:-1]:
        shutil.rmtree(old, ignore_errors=True)
    if not (folder / HISTORY).exists():
        write_history(folder, history)
    return list(history)


def write_history(folder: Path, history: list[dict[str, float]]) -> None:
    """Writes the metrics of every epoch, a line each."""
    write_file(folder / HISTORY, "".join(strict_json(row) + "\n" for row in history))


def save_model(
    model: KerasModel, path: Path, data: Data, spec: NetSpec, targets: Targets | None = None, *, digest: str = ""
) -> None:
    """Saves the network without its optimizer, with the metadata that predicting needs.

    A network that was trained on standardized numbers is saved so that it predicts the numbers themselves.

    Args:
        model: the network in training.
        path: of the file.
        data: the training data.
        spec: of the network.
        targets: what the network was trained on.
        digest: of the data.
    """
    # Exports use the name of the input, which is therefore the same however many networks this process has built.
    network = build(spec, input_name="input")
    if hasattr(model, "looped_spec"):
        model.copy_to(network)
    else:
        network.set_weights(model.get_weights())
    if targets is not None:
        targets.fold(network)
    metadata = metadata_of(data, digest=digest)
    # A network in training may predict standardized numbers; with `targets` only the saved one predicts the others.
    standardized = targets is not None and data.task == "regression"
    for each in (network,) if standardized else (network, model):
        write_facts(each, facts_of(metadata))
    with atomic_write(path) as temporary:
        network.save(temporary)
        write_metadata(temporary, metadata)


class Checkpoint(keras.callbacks.Callback):
    """Writes state, history and the best network after every epoch, each atomically."""

    def __init__(
        self,
        folder: Path,
        history: list[dict[str, float]],
        data: Data,
        spec: NetSpec,
        targets: Targets | None = None,
        *,
        digest: str = "",
        monitor: str = "auto",
    ):
        super().__init__()
        self.history = history
        self.saved_epochs = len(history)
        """Epochs whose state is on disk."""
        self.folder, self.data, self.spec, self._targets = folder, data, spec, targets
        self.digest, self._monitor = digest, monitor

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Writes the best network first, then the state: a state implies that everything before it was written."""
        row = {"epoch": epoch + 1, **{name: float(value) for name, value in (logs or {}).items()}}
        self.history.append(_without_penalty(row, self.model) | {"learning_rate": current_rate(self.model.optimizer)})
        if best_of(self.history, self._monitor) is self.history[-1]:
            with averaged_weights(self.model):
                save_model(self.model, self.folder / BEST, self.data, self.spec, self._targets, digest=self.digest)
        self._save_state(epoch + 1)
        self.saved_epochs = epoch + 1
        write_history(self.folder, self.history)

    def _save_state(self, epoch: int) -> None:
        """Writes the state into a new folder, which gets its final name once all of its files are on disk."""
        name = f"{STATE}-{epoch:06d}"
        temporary = self.folder / f".{name}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        reserve(temporary, state_bytes(self.model))
        self.model.save_weights(temporary / "model.weights.h5")
        (temporary / "history.json").write_text(strict_json(self.history), encoding="utf-8")
        for file in temporary.iterdir():
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
        temporary.replace(self.folder / name)
        for old in self.folder.glob(f"{STATE}-*"):
            if old.name != name:
                shutil.rmtree(old, ignore_errors=True)


def state_bytes(model: KerasModel) -> int:
    """Returns an upper limit of the size of a model's state in HDF5: values, and a few kilobytes for each variable."""
    variables = [*model.variables, *model.optimizer.variables]
    widths = (8 if "64" in str(each.dtype) else 4 for each in variables)
    values = sum(width * math.prod(each.shape) for each, width in zip(variables, widths, strict=True))
    return values + 4096 * (len(variables) + 16)


def reserve(folder: Path, size: int) -> None:
    """Raises an OSError if a folder has no room for so many bytes.

    HDF5 must not find out by itself: on a full disk it writes hundreds of tracebacks, and may end the process.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        elif shutil.disk_usage(folder).free < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _without_penalty(row: dict[str, float], model: KerasModel) -> dict[str, float]:
    """The metrics of an epoch with the losses of the data, and the L2 penalty of the weights beside them."""
    if "data_loss" not in row:
        return row
    losses = {"loss": row["data_loss"], "val_loss": row["val_data_loss"]}
    kept = {name: losses.get(name, value) for name, value in row.items() if not name.endswith("data_loss")}
    return kept | {"penalty": sum(float(keras.ops.convert_to_numpy(each)) for each in model.losses)}
