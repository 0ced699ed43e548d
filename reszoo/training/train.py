"""From a network's name and a data source to a trained network."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from reszoo.arch import zoo
from reszoo.arch.spec import NetSpec
from reszoo.data.labels import Task
from reszoo.data.pictures import Channels
from reszoo.data.sources import Data, DataSource, open_data
from reszoo.errors import ReszooError
from reszoo.training.defaults import MIN_UPDATES, arguments_of, default_recipe, fitted
from reszoo.training.metadata import check_columns, features_of, scaling_of_weights
from reszoo.training.recipes import HEADS, Recipe, recipe as load_recipe
from reszoo.training.run_folder import locked, read_settings, settings_of
from reszoo.training.trained import Trained, finished
from reszoo.types import Array

if TYPE_CHECKING:
    import keras


def train(
    model: str | NetSpec,
    data: Data | DataSource,
    /,
    *,
    output: str | Path,
    recipe: str | Recipe | None = None,
    changes: Mapping[str, object] | None = None,
    weights: str | Path | None = None,
    size: int | None = None,
    validation: DataSource | None = None,
    test: DataSource | None = None,
    target: str | Sequence[str] | None = None,
    task: Task | None = None,
    channels: Channels | None = None,
    sample_weight: str | Sequence[float] | Array | None = None,
    seed: int = 0,
    callbacks: Sequence[keras.callbacks.Callback | Callable[[Data], keras.callbacks.Callback]] = (),
    verbose: str | int = "auto",
    devices: Literal["one", "all"] = "one",
    machines: Sequence[str] = (),
    machine: int | None = None,
    opened: tuple[str | Path, Mapping[str, object]] | None = None,
    **recipe_changes: object,
) -> Trained:
    """Returns a finished run: the trained network, its history and the run folder.

    Safe to interrupt: the same call resumes after the last finished epoch. With more epochs it continues a finished
    run; a finished run is returned at once, and none of its files is written again.

    Example:
        >>> import reszoo, tempfile
        >>> rows = [[float(number), 1.0] for number in range(20)], [0, 1] * 10
        >>> settings = {"output": tempfile.mkdtemp(), "epochs": 1, "verbose": 0}
        >>> run = reszoo.train("residual_mlp18", rows, changes={"depths": 1}, **settings)
        >>> len(run.history)
        1

    Args:
        model: a name, `file.yaml:name`, or a spec; input shape and classes are taken from the data.
        data: a source (see `open_data`), or an opened `Data`.
        output: the run folder.
        recipe: a name of `reszoo.list_recipes()`, `file.yaml:name`, or a recipe. The default depends on the kind of
            data and the number of examples.
        changes: changes to the network, as in `NetSpec.replace`.
        weights: pretrained weights to start from; images are scaled, and the columns of a table encoded, as these
            weights expect.
        size: see `open_data`; for image folders by default the network's own size.
        validation: see `open_data`.
        test: see `open_data`.
        target: see `open_data`.
        task: see `open_data`.
        channels: see `open_data`; by default those of the weights.
        sample_weight: see `open_data`.
        seed: random seed (split, initial weights, shuffling, augmentation).
        callbacks: further Keras callbacks, or functions of the opened data that return one, which are only called if
            there is something to train; their names are recorded in `run.json`.
        verbose: as in `fit()`; without a terminal `auto` prints one line an epoch.
        devices: `all` shares every batch among the machine's devices; see `reszoo.training.devices.open_devices`.
        machines: addresses of several machines; see `open_devices`. Each one makes the same call.
        machine: index of this machine in `machines`.
        opened: for an opened `Data`, the source and the arguments of `open_data` it came from, to be recorded.
        recipe_changes: changes to the recipe: `epochs=4, batch=64, optimizer={"momentum": 0.95}`. `optimizer` and
            `loss` may be Keras objects; their configuration is recorded.

    Raises:
        ReszooError: an invalid network, recipe or source; or the folder holds another run or other data, or is in use.
        NotFiniteError: the loss became NaN or infinite.
    """
    check_seed(seed)
    options: dict[str, Any] = {"size": size, "validation": validation, "test": test, "target": target}
    options |= {"task": task, "channels": channels, "sample_weight": sample_weight}
    if isinstance(data, Data):
        excess = next((name for name, value in options.items() if value is not None), None)
        if excess:
            raise ReszooError(
                f"train.{excess}", got="an opened Data", expected="a source", hint=f"open_data(..., {excess}=)"
            )
        source, record = data, source_record(*opened) if opened else {}
    else:
        arguments = arguments_of(model, data, options, output=output, weights=weights)
        source, record = open_data(data, seed=seed, **arguments), source_record(data, options)
    source.check_trainable()
    columns = None if weights is None else features_of(weights)
    if columns is not None:
        check_columns(source, columns)
    folder = Path(output).expanduser()
    changes_of_recipe = _with_objects(recipe_changes)
    before = read_settings(folder)
    line = ""
    if recipe is None and (not before or "digest" in before):
        name = default_recipe(source, weights)
        # A run that began with the recipe's own number of epochs, as in earlier versions, ends with it.
        begun = before.get("recipe", {}).get("epochs") == load_recipe(name).epochs
        settings, line = fitted(
            name, len(source.train), changes_of_recipe, updates=0 if begun or weights is not None else MIN_UPDATES
        )
    else:
        # A run of an earlier version resumes with the default settings of that version.
        settings = load_recipe(recipe or before["recipe"]["name"], **changes_of_recipe)
    spec = fitting_spec(model, source, settings, changes or {})
    digest = None
    if before and not machines:
        # Before TensorFlow is imported.
        identity = settings_of(spec, source, settings, seed=seed, weights=weights)
        done, digest = finished(folder, identity), identity["digest"]
        if done is not None:
            return done
        with locked(folder):
            pass
    if weights is not None:
        source = scaled_for(weights, spec, source)
    from reszoo.training.devices import open_devices
    from reszoo.training.run import run

    group = open_devices(devices, machines=machines, machine=machine)
    if line and verbose != 0:
        print(line, flush=True)
    return run(
        spec,
        source,
        settings,
        output,
        seed=seed,
        weights=weights,
        callbacks=tuple(each if hasattr(each, "set_model") else each(source) for each in callbacks),
        verbose=verbose,
        devices=group,
        record=record,
        digest=digest,
    )


def check_seed(seed: int) -> None:
    """Checks a random seed.

    Raises:
        ReszooError: it is negative or too large.
    """
    if not 0 <= seed < 2**32:
        raise ReszooError("seed", got=seed, expected="0 to 4294967295")


def fitting_spec(model: str | NetSpec, data: Data, recipe: Recipe, changes: Mapping[str, Any]) -> NetSpec:
    """Returns the spec of a network for data: input shape, classes and the activation of its outputs.

    Raises:
        ReszooError: an unknown network; or one for images, and data of rows, or the reverse.
    """
    spec = zoo.spec(model)
    check_kind(spec, data)
    return spec.replace(**{**changes, **fields_for(data, recipe.loss)})


def check_kind(spec: NetSpec, data: Data) -> None:
    """Checks that a network for images has images, and one for rows has rows.

    Raises:
        ReszooError: it does not.
    """
    shape = data.shape
    if spec.dense != (len(shape) == 1):
        got = f"rows of {shape[0]} numbers" if len(shape) == 1 else f"images of shape {shape}"
        expected = "rows of numbers" if spec.dense else "images"
        hint = "for images: resnet18, resnet20_cifar, ...; for rows: tabular_resnet, residual_mlp18, ..."
        raise ReszooError(f"{spec.name} on {data.name}", got=got, expected=expected, hint=hint)


def fields_for(data: Data, loss: str) -> dict[str, Any]:
    """Returns what data and loss decide about a network: input shape, classes and the activation of its outputs."""
    several = data.task != "classification"
    classes = int(data.train.labels.shape[1]) if several else len(data.classes)
    kinds = {"regression": "linear", "multilabel": "sigmoid"}
    activation = kinds.get(data.task, HEADS.get(loss, "softmax"))
    return {"input_shape": data.shape, "classes": classes, "classifier_activation": activation}


def checked_spec(
    model: str | NetSpec,
    data: Data,
    /,
    *,
    recipe: str | Recipe | None = None,
    changes: Mapping[str, object] | None = None,
    weights: str | Path | None = None,
    **recipe_changes: object,
) -> NetSpec:
    """Returns the network that a run would train, without Keras: the arguments are those of `train`.

    Raises:
        ReszooError: as for `train`, where names, settings and files alone say it.
    """
    settings = load_recipe(recipe or default_recipe(data, weights), **_with_objects(recipe_changes))
    spec = fitting_spec(model, data, settings, changes or {})
    if weights is not None:
        scaled_for(weights, spec, data)
    return spec


def source_record(data: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns how data were opened, where names alone say it, as `source`; otherwise nothing.

    `reszoo train --continue` opens them again.

    Args:
        data: the source.
        options: arguments of `open_data`.
    """
    values = {"data": data, **{name: value for name, value in options.items() if value is not None}}
    values = {
        name: list(value) if name == "target" and not isinstance(value, str) else value
        for name, value in values.items()
    }
    if not all(isinstance(value, (str, Path, int)) for name, value in values.items() if name != "target"):
        return {}
    paths = {
        name: Path(str(value)).expanduser() for name, value in values.items() if name in ("data", "validation", "test")
    }
    existing = {name: str(path.resolve()) for name, path in paths.items() if path.exists()}
    return {"source": {name: existing.get(name, value) for name, value in values.items()}}


def _with_objects(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Changes to a recipe, with Keras' objects as data."""
    result = dict(changes)
    for name in ("optimizer", "loss"):
        value = changes.get(name)
        if hasattr(value, "get_config"):
            import keras

            package = keras.optimizers if name == "optimizer" else keras.losses
            result[f"keras_{name}"] = json.loads(json.dumps(package.serialize(value), default=float))
            del result[name]
        elif callable(value):
            expected = "a word of the recipe, or an object of a class in keras.losses or keras.optimizers"
            raise ReszooError(f"train.{name}", got="a function, which cannot be recorded", expected=expected)
    return result


def scaled_for(weights: str | Path, spec: NetSpec, data: Data) -> Data:
    """Returns the data with the scaling that pretrained weights expect.

    Raises:
        ReszooError: unknown weights, or weights for other images.
    """
    from reszoo.weights.origin import Origin, open_weights

    opened = open_weights(weights, spec)
    facts = Origin(None, opened.record, opened.translated.checkpoint).facts
    return replace(data, scaling=scaling_of_weights(facts, data), white=data.white or data.scaling.scale)
