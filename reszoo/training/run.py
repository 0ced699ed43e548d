"""Resumable runs: the state is on disk after every epoch, and the same call resumes after the last one."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

import keras
import numpy as np

from reszoo.arch.build import build, refuse_channels_first
from reszoo.arch.recover import layers_of
from reszoo.arch.spec import NetSpec
from reszoo.data.sources import Data
from reszoo.errors import ReszooError
from reszoo.notebook import html_table
from reszoo.strict_json import strict_json
from reszoo.training.batches import Batches, reseed
from reszoo.training.card import card
from reszoo.training.checkpointing import Checkpoint, restore, save_model, write
from reszoo.training.devices import ONE, Devices
from reszoo.training.fine_tune import warn_of_batch
from reszoo.training.optimizers import compile_for, current_rate
from reszoo.training.recipes import Recipe
from reszoo.training.run_folder import CARD, FINAL, HISTORY, SETTINGS, STATE
from reszoo.types import KerasModel

MAY_DIFFER = ("versions", "devices")
"""Recorded settings that may differ when a run resumes."""
Weights: TypeAlias = str | Path | None


@dataclass(frozen=True)
class Trained:
    """A finished run."""

    folder: Path
    model: KerasModel
    history: list[dict[str, float]]
    """Metrics of every epoch; losses include the L2 penalty where the recipe has one."""
    test_accuracy: float | None
    """Of the final weights, where the data has a test part."""

    @property
    def best(self) -> dict[str, float]:
        """Metrics of the epoch with the highest validation accuracy."""
        return max(self.history, key=lambda row: row["val_accuracy"])

    def __repr__(self) -> str:
        test = "" if self.test_accuracy is None else f", test accuracy {self.test_accuracy:.4f}"
        best = f"best val_accuracy {self.best['val_accuracy']:.4f}" if self.history else "no epochs"
        return f"Trained({self.model.name!r}: {len(self.history)} epochs, {best}{test}, in {str(self.folder)[-60:]!r})"

    def _repr_html_(self) -> str:
        """Metrics of every epoch."""
        columns = [*self.history[0]] if self.history else []
        rows = [[_short(row.get(name)) for name in columns] for row in self.history]
        return html_table(columns, rows, title=repr(self))


def _short(value: float | None) -> object:
    return round(value, 4) if isinstance(value, float) else value


class NotFiniteError(ReszooError):
    """The loss became NaN or infinite."""


def run(
    spec: NetSpec,
    data: Data,
    recipe: Recipe,
    folder: str | Path,
    *,
    seed: int = 0,
    weights: Weights = None,
    callbacks: tuple[keras.callbacks.Callback, ...] = (),
    verbose: str | int = "auto",
    devices: Devices = ONE,
) -> Trained:
    """Returns a network trained by a recipe, with a run folder from which it can resume.

    The folder holds `run.json` (spec, recipe, data, seed, versions), `history.jsonl`, TensorBoard's `logs`, the last
    state, `best.keras`, and at the end `model.keras` and a model card, `README.md`. The same call resumes an
    interrupted run after the last finished epoch; on a CPU the weights and the history are then those of an
    uninterrupted run.

    Args:
        spec: the network; input shape and classes match the data.
        data: examples (`open_data`).
        recipe: how to train (`recipe`).
        folder: the run folder.
        seed: of initial weights, order and augmentation.
        weights: pretrained weights to start from, as in `create`.
        callbacks: further Keras callbacks.
        verbose: as in `fit()`.
        devices: that share every batch (`open_devices`). A resumed run may use others: its losses then agree up to
            rounding.

    Raises:
        ReszooError: the folder holds another run or cannot be written; the devices cannot share the batches; or Keras
            is set to `channels_first`.
        NotFiniteError: the loss became NaN or infinite.
    """
    refuse_channels_first(spec)
    folder = Path(folder).expanduser()
    devices.check(batch=recipe.batch, examples=len(data.train))
    settings = _settings(spec, data, recipe, seed, weights) | {"devices": devices.count}
    batches: dict[str, Any] = {"batch": recipe.batch, "classes": len(data.classes), "scaling": data.scaling}
    batches["devices"] = devices
    # Outside the devices' scope: augmentation stays on this machine.
    train = Batches(data.train, seed=seed, augmentation=recipe.augmentation, **batches)
    validation = Batches(data.validation, **batches)
    patterns = (SETTINGS, HISTORY, f"{STATE}-*")
    begin = partial(_begin, settings=settings)
    with devices.folder(folder, begin=begin, patterns=patterns) as local, devices.scope():
        keras.utils.set_random_seed(seed)
        model = _compile_model(spec, recipe, weights, steps=recipe.epochs * len(train))
        devices.synchronize_norms(model)
        checkpoint = Checkpoint(local, restore(local, model), data, spec)
        train.epoch = checkpoint.saved_epochs
        # The checkpoint comes last: averaged weights are swapped back before the state is written.
        average = [keras.callbacks.SwapEMAWeights()] if recipe.ema else []
        logs = keras.callbacks.TensorBoard(str(local / "logs"), write_graph=False)
        all_callbacks = [_Reseed(seed), _StopIfNotFinite(), *average, logs, *callbacks, checkpoint]
        _fit(model, train, validation, checkpoint, epochs=recipe.epochs, callbacks=all_callbacks, verbose=verbose)
        if recipe.ema:
            model.optimizer.finalize_variable_values(model.trainable_variables)
        save_model(model, local / FINAL, data, spec, digest=checkpoint.digest)
        test_accuracy = None
        if data.test is not None:
            test = Batches(data.test, **batches)
            test_accuracy = float(model.evaluate(test, verbose=0, return_dict=True)["accuracy"])
        write(local / CARD, card(local, test_accuracy=test_accuracy))
    return Trained(folder, model, checkpoint.history, test_accuracy)


def _fit(
    model: KerasModel, train: Batches, validation: Batches, checkpoint: Checkpoint, *, epochs: int, **settings: Any
) -> None:
    """Trains the remaining epochs."""
    if checkpoint.saved_epochs >= epochs:
        return
    settings |= {"initial_epoch": checkpoint.saved_epochs, "epochs": epochs, "shuffle": False}
    folder = checkpoint.folder
    try:
        model.fit(train, validation_data=validation, **settings)
    except OSError as error:
        hint = f"free disk space and rerun to resume after epoch {checkpoint.saved_epochs}"
        raise ReszooError(str(folder), got=f"a file that could not be written ({error})", hint=hint) from None


def _compile_model(spec: NetSpec, recipe: Recipe, weights: Weights, *, steps: int) -> KerasModel:
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(recipe.precision)
    try:
        model = build(spec) if weights is None else _pretrained(spec, weights)
    finally:
        keras.config.set_dtype_policy(previous)
    # Weighted, because with several devices the padding rows of a validation have weight zero.
    compile_for(model, recipe, steps=steps, weighted_metrics=["accuracy"])
    warn_of_batch(model, recipe.batch)
    model.optimizer.build(model.trainable_variables)
    return model


def _pretrained(spec: NetSpec, weights: str | Path) -> KerasModel:
    from reszoo.weights.load import pretrained

    return pretrained(spec, weights, strict="trunk")


def _settings(spec: NetSpec, data: Data, recipe: Recipe, seed: int, weights: Weights) -> dict[str, Any]:
    """Everything that a run depends on: the content of `run.json`."""
    return {
        "spec": spec.model_dump(mode="json"),
        "recipe": recipe.model_dump(mode="json"),
        "data": {"name": data.name, "train": len(data.train), "validation": len(data.validation)},
        "classes": list(data.classes),
        "seed": seed,
        "weights": None if weights is None else str(weights),
        "backend": keras.backend.backend(),
        "versions": {name: version(name) for name in ("reszoo", "keras", keras.backend.backend(), "numpy")},
    }


def _begin(folder: Path, settings: dict[str, Any]) -> None:
    """Creates a run folder, or checks that an existing one holds a run with the same settings."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / SETTINGS).exists():
            if any(folder.iterdir()):
                expected = "an empty folder, or that of a run"
                raise ReszooError(str(folder), got="a folder with other files", expected=expected)
            write(folder / SETTINGS, strict_json(settings, indent=2))
            return
        previous = _with_defaults(json.loads((folder / SETTINGS).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        if isinstance(error, ReszooError):
            raise
        raise ReszooError(str(folder), got=f"an unusable folder ({error})") from None
    changed = [name for name in settings if name not in MAY_DIFFER and previous.get(name) != settings[name]]
    if changed:
        differences = _differences(previous.get(changed[0]), settings[changed[0]], changed[0])
        got = ", ".join(f"{path}: {value!r}" for path, value in differences)
        raise ReszooError(str(folder), got=f"another run ({got})", hint="choose another folder, or the same settings")


def _with_defaults(settings: dict[str, Any]) -> dict[str, Any]:
    """Recorded settings, completed with the defaults of fields that later versions added."""
    kinds: dict[str, type[NetSpec] | type[Recipe]] = {"spec": NetSpec, "recipe": Recipe}
    try:
        records = {name: kind.model_validate_json(json.dumps(settings[name])) for name, kind in kinds.items()}
    except (KeyError, ValueError):
        # Not from this version or an earlier one: the settings are compared as they are.
        return settings
    return settings | {name: record.model_dump(mode="json") for name, record in records.items()}


def _differences(before: Any, now: Any, path: str) -> list[tuple[str, Any]]:
    """Dotted names and new values of the fields that differ."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        return [pair for key in now for pair in _differences(before.get(key), now[key], f"{path}.{key}")]
    return [] if before == now else [(path, now)]


class _Reseed(keras.callbacks.Callback):
    """Seeds the generators of dropout and drop path in every epoch: a weights file does not hold their state."""

    def __init__(self, seed: int):
        super().__init__()
        self._seed = seed

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        random = np.random.default_rng([self._seed, epoch, 1])
        for layer in layers_of(self.model):
            reseed(layer, random)


class _StopIfNotFinite(keras.callbacks.Callback):
    """Ends a run whose loss became NaN or infinite."""

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        value = float((logs or {}).get("loss", 0.0))
        if not math.isfinite(value):
            if hasattr(self.model, "jax_state_sync"):
                # During fit() on JAX the optimizer's variables do not hold the current values.
                self.model.jax_state_sync()
            step = int(self.model.optimizer.iterations)
            rate = current_rate(self.model.optimizer)
            hint = "a lower learning_rate.peak, a longer warmup, optimizer.clip=1, or float32"
            raise NotFiniteError(f"step {step}", got=f"loss {value} at a learning rate of {rate:g}", hint=hint)
