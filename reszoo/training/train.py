"""From a network's name and a data source to a trained network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from reszoo.arch import zoo
from reszoo.arch.spec import NetSpec
from reszoo.data.sources import Data, DataSource, open_data
from reszoo.training.metadata import check_columns, features_of, scaling_for
from reszoo.training.recipes import Recipe, recipe as load_recipe

if TYPE_CHECKING:
    from reszoo.training.run import Trained


def train(
    model: str | NetSpec,
    data: Data | DataSource,
    /,
    *,
    output: str | Path,
    recipe: str | Recipe | None = None,
    changes: Mapping[str, Any] | None = None,
    weights: str | Path | None = None,
    size: int | None = None,
    test: DataSource | None = None,
    target: str | Sequence[str] | None = None,
    seed: int = 0,
    verbose: str | int = "auto",
    devices: Literal["one", "all"] = "one",
    machines: Sequence[str] = (),
    machine: int | None = None,
    **recipe_changes: Any,
) -> Trained:
    """Returns a finished run: the trained network, its history and the run folder.

    Safe to interrupt: the same call resumes after the last finished epoch.

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
        recipe: a name of `reszoo.list_recipes()`, `file.yaml:name`, or a recipe; the default depends on the data.
        changes: changes to the network, as in `NetSpec.replace`.
        weights: pretrained weights to start from; images are scaled, and the columns of a table encoded, as these
            weights expect.
        size: see `open_data`.
        test: see `open_data`.
        target: see `open_data`.
        seed: random seed (split, initial weights, shuffling, augmentation).
        verbose: as in `fit()`.
        devices: `all` shares every batch among the machine's devices; see `reszoo.training.devices.open_devices`.
        machines: addresses of several machines; see `open_devices`. Each one makes the same call.
        machine: index of this machine in `machines`.
        recipe_changes: changes to the recipe: `epochs=4, batch=64, optimizer={"momentum": 0.95}`.

    Raises:
        ReszooError: an invalid network, recipe or source; or the folder holds another run.
        NotFiniteError: the loss became NaN or infinite.
    """
    columns = None if weights is None else features_of(weights)
    settings_of_data: dict[str, Any] = {"size": size, "test": test, "target": target, "columns": columns}
    source = data if isinstance(data, Data) else open_data(data, seed=seed, **settings_of_data)
    source.check_trainable()
    if columns is not None:
        check_columns(source, columns)
    settings = load_recipe(recipe or default_recipe(source, weights), **recipe_changes)
    activation = "sigmoid" if settings.loss == "binary_cross_entropy" else "softmax"
    fitting = {"input_shape": source.shape, "classes": len(source.classes), "classifier_activation": activation}
    spec = zoo.spec(model).replace(**{**(changes or {}), **fitting})
    if weights is not None:
        source = scaled_for(weights, spec, source)
    from reszoo.training.devices import open_devices
    from reszoo.training.run import run

    group = open_devices(devices, machines=machines, machine=machine)
    return run(spec, source, settings, output, seed=seed, weights=weights, verbose=verbose, devices=group)


def default_recipe(data: Data, weights: str | Path | None) -> str:
    """Returns the name of the default recipe: for rows, pretrained weights, gray images or color images."""
    if len(data.shape) == 1:
        return "tabular"
    if weights is not None:
        return "fine_tune_small"
    return "fast_symbols" if data.shape[-1] == 1 else "fast"


def scaled_for(weights: str | Path, spec: NetSpec, data: Data) -> Data:
    """Returns the data with the scaling that pretrained weights expect.

    Raises:
        ReszooError: unknown weights, or weights for other images.
    """
    from reszoo.weights.sources import open_weights

    record = open_weights(weights, spec).record
    if record is None or len(data.shape) == 1:
        return data
    return replace(data, scaling=scaling_for(record, data))
