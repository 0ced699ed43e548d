"""A run that survives: what it has learnt is on disk after every epoch, and the same command goes on from there."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from reszoo._version import __version__
from reszoo.arch.build import build
from reszoo.arch.recover import layers_of
from reszoo.arch.spec import NetSpec
from reszoo.errors import ReszooError
from reszoo.training.batches import Batches, reseed
from reszoo.training.card import card
from reszoo.training.data import Data
from reszoo.training.facts import write_facts
from reszoo.training.fine_tune import freeze
from reszoo.training.folder import BEST, CARD, FINAL, HISTORY, PLAN, STATE
from reszoo.training.optimise import loss, optimizer, rate_of, regularise
from reszoo.training.recipes import Recipe
from reszoo.weights.write import renamed_when_whole


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

    Raises:
        ReszooError: the folder holds another run, or cannot be written.
        NotFiniteError: the loss is no number any more.
    """
    folder = Path(folder).expanduser()
    plan = _plan(spec, data, recipe, seed, weights)
    _begin(folder, plan)
    keras.utils.set_random_seed(seed)
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(recipe.precision)
    try:
        model = build(spec) if weights is None else _pretrained(spec, weights)
    finally:
        keras.config.set_dtype_policy(previous)
    settings: dict[str, Any] = {"batch": recipe.batch, "classes": len(data.classes), "scaling": data.scaling}
    train = Batches(data.train, seed=seed, augmentation=recipe.augmentation, **settings)
    checked = Batches(data.validation, **settings)
    if recipe.frozen != "none":
        freeze(model, until=recipe.frozen)
    regularise(model, recipe)
    model.compile(optimizer(recipe, recipe.epochs * len(train), model=model), loss(recipe), metrics=["accuracy"])
    model.optimizer.build(model.trainable_variables)
    history = _restore(folder, model)
    train.epoch = len(history)
    keeper = _Keeper(folder, history, data, spec)
    # The keeper comes last: averaged weights are swapped back before the state is written.
    averaged = [keras.callbacks.SwapEMAWeights()] if recipe.ema else []
    logs = keras.callbacks.TensorBoard(str(folder / "logs"), write_graph=False)
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
            mend = f"make room and run the same again: it goes on after epoch {len(keeper.history)}"
            raise ReszooError(str(folder), given=f"a file that could not be written ({error})", mend=mend) from None
    if recipe.ema:
        model.optimizer.finalize_variable_values(model.trainable_variables)
    _save(model, folder / FINAL, data, spec)
    test_accuracy = None
    if data.test is not None:
        rows = Batches(data.test, **settings)
        test_accuracy = float(model.evaluate(rows, verbose=0, return_dict=True)["accuracy"])
    _write(folder / CARD, card(folder, test_accuracy=test_accuracy))
    return Trained(folder, model, keeper.history, test_accuracy)


def _pretrained(spec: NetSpec, weights: Any) -> Any:
    from reszoo.weights.load import pretrained

    return pretrained(spec, weights, strict="trunk")


def _plan(spec: NetSpec, data: Data, recipe: Recipe, seed: int, weights: Any) -> dict[str, Any]:
    """Everything that a run depends on; versions are told, and not compared."""
    return {
        "spec": spec.model_dump(mode="json"),
        "recipe": recipe.model_dump(mode="json"),
        "data": {"name": data.name, "train": len(data.train), "validation": len(data.validation)},
        "classes": list(data.classes),
        "seed": seed,
        "weights": None if weights is None else str(weights),
        "backend": keras.backend.backend(),
        "versions": {"reszoo": __version__, "keras": keras.__version__},
    }


def _begin(folder: Path, plan: dict[str, Any]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / PLAN).exists():
            if any(folder.iterdir()):
                allowed = "an empty folder, or that of a run"
                raise ReszooError(str(folder), given="a folder with other files", allowed=allowed)
            _write(folder / PLAN, json.dumps(plan, indent=2))
            return
        before = json.loads((folder / PLAN).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        if isinstance(error, ReszooError):
            raise
        raise ReszooError(str(folder), given=f"a folder that cannot be used ({error})") from None
    apart = [name for name in plan if name != "versions" and before.get(name) != plan[name]]
    if apart:
        given = ", ".join(f"{path}: {new!r}" for path, new in _apart(before.get(apart[0]), plan[apart[0]], apart[0]))
        raise ReszooError(
            str(folder), given=f"another run ({given})", mend="choose another folder, or the same settings"
        )


def _apart(before: Any, now: Any, path: str) -> list[tuple[str, Any]]:
    """The fields that differ."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        return [pair for key in now for pair in _apart(before.get(key), now[key], f"{path}.{key}")]
    return [] if before == now else [(path, now)]


def _restore(folder: Path, model: Any) -> list[dict[str, float]]:
    """Takes up the last state, and returns the history up to it."""
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


def _write(path: Path, text: str) -> None:
    with renamed_when_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _save(model: Any, path: Path, data: Data, spec: NetSpec) -> None:
    """The network without its optimiser, with the facts that predicting needs."""
    bare = build(spec)
    bare.set_weights(model.get_weights())
    with renamed_when_whole(path) as temporary:
        bare.save(temporary)
        write_facts(temporary, data)


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
            step = int(self.model.optimizer.iterations)
            rate = rate_of(self.model.optimizer)
            mend = "a lower learning_rate.peak, a longer warmup, optimizer.clip=1, or float32"
            raise NotFiniteError(f"step {step}", given=f"loss {value} at a learning rate of {rate:g}", mend=mend)


class _Keeper(keras.callbacks.Callback):
    """Writes state, history and the best network after every epoch, each whole or not at all."""

    def __init__(self, folder: Path, history: list[dict[str, float]], data: Data, spec: NetSpec):
        super().__init__()
        self.history = history
        self._folder, self._data, self._spec = folder, data, spec

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        row = {"epoch": epoch + 1, **{name: float(value) for name, value in (logs or {}).items()}}
        rate = rate_of(self.model.optimizer)
        self.history.append({**row, "learning_rate": rate})
        best = max(self.history, key=lambda row: row["val_accuracy"])
        if best is self.history[-1]:
            with _averaged(self.model):
                _save(self.model, self._folder / BEST, self._data, self._spec)
        self._keep(epoch + 1)
        _write(self._folder / HISTORY, "".join(json.dumps(row) + "\n" for row in self.history))

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
