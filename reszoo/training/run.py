"""Resumable runs: the state is on disk after every epoch, and the same call resumes after the last one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import keras
import numpy as np

from reszoo.arch.build import build, refuse_channels_first
from reszoo.arch.loops import Looped
from reszoo.arch.recover import stock_model
from reszoo.arch.spec import NetSpec
from reszoo.arch.stacked_optimizers import innermost
from reszoo.data.dataset import combined
from reszoo.data.sources import Data
from reszoo.errors import ReszooError
from reszoo.files import write_file
from reszoo.report.write import library_versions
from reszoo.training.batches import Batches
from reszoo.training.callbacks import (
    BeginEpoch,
    EarlyStopping,
    ReduceOnPlateau,
    StopIfNotFinite,
    ValidateAverages,
    progress,
)
from reszoo.training.checkpointing import Checkpoint, restore, save_model
from reszoo.training.defaults import check_class_weights, check_recipe
from reszoo.training.devices import ONE, Devices
from reszoo.training.fine_tune import warn_of_batch
from reszoo.training.losses import Targets, data_loss, loss, metrics, targets_of
from reszoo.training.optimizers import compile_for, loops_pay
from reszoo.training.recipes import Recipe
from reszoo.training.remarks import remarks
from reszoo.training.run_folder import (
    BEST,
    CARD,
    FINAL,
    HISTORY,
    SETTINGS,
    STATE,
    begin,
    is_stopped,
    locked,
    prepare,
    read_settings,
    settings_of,
    write_settings,
)
from reszoo.training.trained import Trained, card, finished
from reszoo.types import Array, KerasModel

Weights: TypeAlias = str | Path | None
Builder: TypeAlias = Callable[[NetSpec], KerasModel]


class Parts(NamedTuple):
    """The batches of a run."""

    train: Batches
    validation: Batches
    test: Batches | None
    targets: Targets


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
    record: Mapping[str, Any] | None = None,
    digest: Mapping[str, str] | None = None,
) -> Trained:
    """Returns a network trained by a recipe, with a run folder from which it can resume.

    The folder holds `run.json` (spec, recipe, data, seed, versions), `history.jsonl`, TensorBoard's `logs`, the last
    state, `best.keras`, and at the end `model.keras` and a model card, `README.md`. The same call resumes an
    interrupted run after the last finished epoch; on a CPU the weights and the history are then those of an
    uninterrupted run. A call with more epochs continues a finished one; of a finished run nothing is written again.

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
        record: further entries for `run.json`, which are not compared.
        digest: of the data (`data.digest.digests`), if it is known.

    Raises:
        ReszooError: the folder holds another run or other data, is in use, or cannot be written; the devices cannot
            share the batches; or Keras is set to `channels_first`.
        NotFiniteError: the loss became NaN or infinite.
    """
    refuse_channels_first(spec)
    check_data(data, recipe)
    folder = Path(folder).expanduser()
    settings = settings_of(spec, data, recipe, seed=seed, weights=weights, digest=digest) | dict(record or {})
    done = finished(folder, settings) if devices.machines == 1 else None
    if done is not None:
        return done
    devices.check(batch=recipe.batch, examples=len(data.train))
    if devices.count > 1 and any(getattr(part, "weights", None) is not None for part in data.parts().values()):
        raise ReszooError(f"data {data.name}", got="sample weights and several devices", expected="one device")
    settings |= {"backend": keras.backend.backend(), "versions": library_versions("numpy"), "devices": devices.count}
    settings |= {"callbacks": [type(each).__name__ for each in callbacks]} if callbacks else {}
    # Outside the devices' scope: augmentation stays on this machine.
    parts = _parts(data, recipe, seed, devices)
    patterns = (SETTINGS, HISTORY, BEST, f"{STATE}-*")
    # With several machines the folder is checked where all of them learn of an error.
    lock = prepare(folder) if devices.machines == 1 else None
    with (
        locked(lock),
        devices.folder(
            folder, begin=partial(begin, settings=settings, extends=devices.machine == 0), patterns=patterns
        ) as local,
        devices.scope(),
    ):
        keras.utils.set_random_seed(seed)
        builder = Looped if loops_pay(spec, recipe, devices, callbacks) else build
        model = _compile_model(spec, recipe, weights, parts, devices, builder)
        rates = [float(each.learning_rate) for each in innermost(model.optimizer)]
        checkpoint = Checkpoint(
            local,
            restore(local, model),
            data,
            spec,
            parts.targets,
            digest=combined(settings["digest"]),
            monitor=recipe.monitor,
        )
        # The checkpoint comes after the averaged weights were swapped back.
        own: list[keras.callbacks.Callback] = [BeginEpoch(seed, parts.train), StopIfNotFinite()]
        own += [ValidateAverages()] if recipe.ema else []
        if recipe.plateau.patience:
            own += [ReduceOnPlateau(recipe.plateau, rates, checkpoint.history, recipe.monitor)]
        own += [keras.callbacks.TensorBoard(str(local / "logs"), write_graph=False), *callbacks, checkpoint]
        with _writing(checkpoint):
            _fit(model, parts, checkpoint, recipe, callbacks=own, verbose=verbose)
            if recipe.ema:
                model.optimizer.finalize_variable_values(model.trainable_variables)
            model, results = _finish(model, parts, checkpoint, pretrained=weights is not None, devices=devices)
    remarks, accuracy = tuple(results["remarks"]), results["test_accuracy"]
    return Trained(folder, model, checkpoint.history, accuracy, remarks, recipe.monitor)


def check_data(data: Data, recipe: Recipe) -> None:
    """Checks that a run can train on data and validate it.

    Raises:
        ReszooError: a part without examples; or a recipe for another task or other pixels.
    """
    data.check_trainable()
    check_recipe(recipe, data)
    augmentation = recipe.augmentation
    if len(data.shape) == 3 and (augmentation.rand_augment or augmentation.erase):
        white = data.white or data.scaling.scale
        x = data.train.take(np.arange(min(len(data.train), 64)))
        if x.min() < 0 or x.max() > white * 1.001:
            got = f"pixels from {x.min():g} to {x.max():g}"
            expected = f"pixels from 0 to {white:g} for rand_augment and erase"
            raise ReszooError(f"data {data.name}", got=got, expected=expected)


def _parts(data: Data, recipe: Recipe, seed: int, devices: Devices) -> Parts:
    targets = targets_of(data)
    settings: dict[str, Any] = {"batch": recipe.batch, "classes": targets.outputs, "scaling": data.scaling}
    settings |= {"devices": devices, "targets": targets}
    weights: dict[str, Any] = {"class_weights": class_weights(recipe, data), "white": data.white}
    train = Batches(data.train, seed=seed, augmentation=recipe.augmentation, **weights, **settings)
    test = None if data.test is None else Batches(data.test, **settings)
    return Parts(train, Batches(data.validation, **settings), test, targets)


def class_weights(recipe: Recipe, data: Data) -> Array | None:
    """Returns the weight of every class, in the order of `data.classes`; None without weights.

    `balanced` is scikit-learn's formula: examples / (classes * examples of the class), over the training part.

    Raises:
        ReszooError: a weight for an unknown class.
    """
    check_class_weights(recipe, data)
    if recipe.class_weights == "none":
        return None
    counts = np.bincount(data.train.labels, minlength=len(data.classes))
    if recipe.class_weights == "balanced":
        present = counts > 0
        balanced: Array = np.where(present, counts.sum() / (present.sum() * np.maximum(counts, 1)), 1.0)
        return balanced.astype("float32")
    return np.array([recipe.class_weights.get(name, 1.0) for name in data.classes], "float32")


def _fit(model: KerasModel, parts: Parts, checkpoint: Checkpoint, recipe: Recipe, **settings: Any) -> None:
    """Trains the remaining epochs."""
    record = read_settings(checkpoint.folder)

    def stopped() -> bool:
        return is_stopped(checkpoint.history, recipe.model_dump(), record)

    if checkpoint.saved_epochs >= recipe.epochs or stopped():
        return
    settings["callbacks"] += [EarlyStopping(stopped)] if recipe.patience else []
    printed = progress(settings["verbose"], checkpoint.history)
    settings |= printed | {"callbacks": [*settings["callbacks"], *printed["callbacks"]]}
    settings |= {"initial_epoch": checkpoint.saved_epochs, "epochs": recipe.epochs, "shuffle": False}
    model.fit(parts.train, validation_data=parts.validation, **settings)


@contextmanager
def _writing(checkpoint: Checkpoint) -> Iterator[None]:
    """Turns errors of the disk into one that says how to continue."""
    try:
        yield
    except Exception as error:
        # The logs are written by TensorFlow, whose errors are its own; the one of a file names it.
        logs = type(error).__module__.startswith("tensorflow.") and str(checkpoint.folder) in str(error)
        if not (isinstance(error, OSError) or logs):
            raise
        hint = f"free disk space and rerun to resume after epoch {checkpoint.saved_epochs}"
        line = str(error).splitlines()[0]
        got = f"a file that could not be written ({line.partition('}} ')[2] or line})"
        raise ReszooError(str(checkpoint.folder), got=got, hint=hint) from None


def _finish(
    model: KerasModel, parts: Parts, checkpoint: Checkpoint, *, pretrained: bool, devices: Devices
) -> tuple[KerasModel, dict[str, Any]]:
    """Measures the final weights, writes network and card, and returns the stock model and the results."""
    folder, data, spec = checkpoint.folder, checkpoint.data, checkpoint.spec
    test = {} if parts.test is None else model.evaluate(parts.test, verbose=0, return_dict=True)
    outputs = _outputs(model, parts.validation) if devices.count == 1 else None
    results = {
        "test_accuracy": float(test["accuracy"]) if data.task == "classification" and test else None,
        "test": {name: float(value) for name, value in test.items() if name not in ("loss", "data_loss")},
        "remarks": remarks(data, checkpoint.history, outputs, pretrained=pretrained),
    }
    model = stock_model(model)
    parts.targets.fold(model)
    save_model(model, folder / FINAL, data, spec, digest=checkpoint.digest)
    write_file(folder / CARD, card(folder, results))
    write_settings(folder, read_settings(folder) | {"results": results})
    return model, results


def _outputs(model: KerasModel, batches: Batches) -> Array:
    rows = [model.predict_on_batch(batches[index][0]) for index in range(len(batches))]
    return np.concatenate([keras.ops.convert_to_numpy(each) for each in rows]).astype("float32")


def _compile_model(
    spec: NetSpec, recipe: Recipe, weights: Weights, parts: Parts, devices: Devices, builder: Builder
) -> KerasModel:
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(recipe.precision)
    try:
        model = builder(spec) if weights is None else _pretrained(spec, weights, builder)
    finally:
        keras.config.set_dtype_policy(previous)
    task, chosen = parts.targets.task, metrics(recipe, parts.targets)
    penalty = recipe.optimizer.decay == "l2" and recipe.optimizer.weight_decay > 0
    weighted = [data_loss(recipe, task)] if penalty else []
    # With several devices the padding rows of a validation have weight zero.
    kinds: Mapping[str, Sequence[keras.metrics.Metric]] = (
        {"metrics": chosen, "weighted_metrics": weighted}
        if devices.count == 1
        else {"weighted_metrics": [*chosen, *weighted]}
    )
    compile_for(model, recipe, steps=recipe.epochs * len(parts.train), loss=loss(recipe, task=task), **kinds)
    warn_of_batch(model, recipe.batch)
    model.optimizer.build(model.trainable_variables)
    devices.synchronize_norms(model)
    return model


def _pretrained(spec: NetSpec, weights: str | Path, builder: Builder) -> KerasModel:
    from reszoo.weights.load import pretrained

    return pretrained(spec, weights, strict="trunk", builder=builder)
