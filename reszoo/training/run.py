"""A run that survives: what it has learnt is on disk after every epoch, and the same command goes on from there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import numpy as np

from reszoo.arch.build import build, refuse_channels_first
from reszoo.arch.recover import layers_of
from reszoo.arch.spec import NetSpec
from reszoo.data.sources import Data
from reszoo.errors import ReszooError
from reszoo.training.batches import Batches, reseed
from reszoo.training.card import card
from reszoo.training.checkpointing import Keeper, restored, save_model, write
from reszoo.training.devices import ONE, Devices
from reszoo.training.fine_tune import warn_of_batch
from reszoo.training.optimizers import compile_for, rate_of
from reszoo.training.recipes import Recipe
from reszoo.training.run_folder import CARD, FINAL, HISTORY, SETTINGS, STATE

TOLD = ("versions", "devices")
"""Of what a run depends on: another time they may be others."""


@dataclass(frozen=True)
class Trained:
    """A finished run."""

    folder: Path
    model: Any
    history: list[dict[str, float]]
    """What was measured after every epoch; losses hold the L2 penalty where the recipe has one."""
    test_accuracy: float | None
    """Of the last weights, where the data has a test part."""

    @property
    def best(self) -> dict[str, float]:
        """The epoch of the greatest validation accuracy."""
        return max(self.history, key=lambda row: row["val_accuracy"])


class NotFiniteError(ReszooError):
    """The loss became NaN or infinite."""


def run(
    spec: NetSpec,
    data: Data,
    recipe: Recipe,
    folder: str | Path,
    *,
    seed: int = 0,
    weights: Any = None,
    callbacks: tuple[Any, ...] = (),
    verbose: str | int = "auto",
    devices: Devices = ONE,
) -> Trained:
    """Returns a network trained by a recipe, in a run folder that can be gone on with.

    The folder holds `run.json` (spec, recipe, data, seed, versions), `history.jsonl`, TensorBoard's `logs`, the last
    state, `best.keras`, and at the end `model.keras` and a model card, `README.md`. Killed at any moment and called
    again, it goes on after the last finished epoch; on a CPU it ends with the same weights and history as if it had not
    been killed.

    Args:
        spec: the network; its input shape and classes are the data's.
        data: examples (`open_data`).
        recipe: how to train (`recipe`).
        folder: of the run.
        seed: of initial weights, order and augmentation.
        weights: pretrained ones to begin with, as in `create`.
        callbacks: Keras callbacks of your own.
        verbose: as in `fit()`.
        devices: what it is spread over (`open_devices`). Another time they may be others: losses are then equal but for
            rounding.

    Raises:
        ReszooError: the folder holds another run, or cannot be written; the devices cannot share the batches; or Keras
            is set to `channels_first`.
        NotFiniteError: the loss is no number any more.
    """
    refuse_channels_first(spec)
    folder = Path(folder).expanduser()
    devices.check(batch=recipe.batch, examples=len(data.train))
    settings = _settings(spec, data, recipe, seed, weights) | {"devices": devices.count}
    batches: dict[str, Any] = {"batch": recipe.batch, "classes": len(data.classes), "scaling": data.scaling}
    batches["devices"] = devices
    # Made outside the devices' scope: augmentation stays on this machine.
    train = Batches(data.train, seed=seed, augmentation=recipe.augmentation, **batches)
    checked = Batches(data.validation, **batches)
    carried = (SETTINGS, HISTORY, f"{STATE}-*")
    with devices.folder(folder, begin=partial(_begin, settings=settings), carried=carried) as own, devices.scope():
        keras.utils.set_random_seed(seed)
        model = _compiled(spec, recipe, weights, steps=recipe.epochs * len(train))
        devices.join_norms(model)
        history = restored(own, model)
        train.epoch = len(history)
        keeper = Keeper(own, history, data, spec)
        # The keeper comes last: averaged weights are swapped back before the state is written.
        averaged = [keras.callbacks.SwapEMAWeights()] if recipe.ema else []
        logs = keras.callbacks.TensorBoard(str(own / "logs"), write_graph=False)
        watch = [_Reseed(seed), _Finite(), *averaged, logs, *callbacks, keeper]
        if len(history) < recipe.epochs:
            try:
                model.fit(
                    train,
                    validation_data=checked,
                    initial_epoch=len(history),
                    epochs=recipe.epochs,
                    callbacks=watch,
                    verbose=verbose,
                    shuffle=False,
                )
            except OSError as error:
                hint = f"make room and run the same again: it goes on after epoch {keeper.kept}"
                raise ReszooError(str(own), got=f"a file that could not be written ({error})", hint=hint) from None
        if recipe.ema:
            model.optimizer.finalize_variable_values(model.trainable_variables)
        save_model(model, own / FINAL, data, spec)
        test_accuracy = None
        if data.test is not None:
            rows = Batches(data.test, **batches)
            test_accuracy = float(model.evaluate(rows, verbose=0, return_dict=True)["accuracy"])
        write(own / CARD, card(own, test_accuracy=test_accuracy))
    return Trained(folder, model, keeper.history, test_accuracy)


def _compiled(spec: NetSpec, recipe: Recipe, weights: Any, *, steps: int) -> Any:
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(recipe.precision)
    try:
        model = build(spec) if weights is None else _pretrained(spec, weights)
    finally:
        keras.config.set_dtype_policy(previous)
    # Weighted, since with several devices the last rows of a validation count for nothing.
    compile_for(model, recipe, steps=steps, weighted_metrics=["accuracy"])
    warn_of_batch(model, recipe.batch)
    model.optimizer.build(model.trainable_variables)
    return model


def _pretrained(spec: NetSpec, weights: Any) -> Any:
    from reszoo.weights.load import pretrained

    return pretrained(spec, weights, strict="trunk")


def _settings(spec: NetSpec, data: Data, recipe: Recipe, seed: int, weights: Any) -> dict[str, Any]:
    """Everything that a run depends on."""
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
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / SETTINGS).exists():
            if any(folder.iterdir()):
                expected = "an empty folder, or that of a run"
                raise ReszooError(str(folder), got="a folder with other files", expected=expected)
            write(folder / SETTINGS, json.dumps(settings, indent=2))
            return
        before = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        if isinstance(error, ReszooError):
            raise
        raise ReszooError(str(folder), got=f"a folder that cannot be used ({error})") from None
    apart = [name for name in settings if name not in TOLD and before.get(name) != settings[name]]
    if apart:
        got = ", ".join(f"{path}: {new!r}" for path, new in _apart(before.get(apart[0]), settings[apart[0]], apart[0]))
        raise ReszooError(str(folder), got=f"another run ({got})", hint="choose another folder, or the same settings")


def _apart(before: Any, now: Any, path: str) -> list[tuple[str, Any]]:
    """The fields that differ."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        return [pair for key in now for pair in _apart(before.get(key), now[key], f"{path}.{key}")]
    return [] if before == now else [(path, now)]


class _Reseed(keras.callbacks.Callback):
    """Sets the generators of dropout and drop path anew in every epoch: their state is not in a weights file."""

    def __init__(self, seed: int):
        super().__init__()
        self._seed = seed

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        random = np.random.default_rng([self._seed, epoch, 1])
        for layer in layers_of(self.model):
            reseed(layer, random)


class _Finite(keras.callbacks.Callback):
    """Ends a run whose loss is no number."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        import math

        value = float((logs or {}).get("loss", 0.0))
        if not math.isfinite(value):
            if hasattr(self.model, "jax_state_sync"):
                # On JAX the optimiser's variables are away while a network is fitted.
                self.model.jax_state_sync()
            step = int(self.model.optimizer.iterations)
            rate = rate_of(self.model.optimizer)
            hint = "a lower learning_rate.peak, a longer warmup, optimizer.clip=1, or float32"
            raise NotFiniteError(f"step {step}", got=f"loss {value} at a learning rate of {rate:g}", hint=hint)
