"""From a name and a data source to a trained network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from reszoo.arch import zoo
from reszoo.arch.spec import NetSpec
from reszoo.data.sources import Data, open_data
from reszoo.training.metadata import scaling_for
from reszoo.training.recipes import Recipe, recipe as named


def train(
    model: str | NetSpec,
    data: Any,
    /,
    *,
    output: str | Path,
    recipe: str | Recipe | None = None,
    changes: Mapping[str, Any] | None = None,
    weights: str | Path | None = None,
    size: int | None = None,
    test: Any = None,
    target: str | None = None,
    seed: int = 0,
    verbose: str | int = "auto",
    devices: Literal["one", "all"] = "one",
    machines: Sequence[str] = (),
    machine: int | None = None,
    **recipe_changes: Any,
) -> Any:
    """Returns a finished run (`reszoo.training.run.Trained`): the network, its history, and the folder it lies in.

    `train("resnet20_cifar", "digits", output="runs/a", epochs=4, seed=3)`. Killed and called again it goes on after the
    last finished epoch.

    Args:
        model: a name, `file.yaml:name`, or a spec; it takes the data's shape and classes.
        data: see `open_data`, or a `Data`.
        output: folder of the run.
        recipe: a name of `reszoo.list_recipes()`, or one of your own; by default one for the kind of data.
        changes: of the network, as in `NetSpec.replace`.
        weights: pretrained ones to begin with; images are then scaled as these weights want them.
        size: see `open_data`.
        test: see `open_data`.
        target: see `open_data`.
        seed: of the split, initial weights, order and augmentation.
        verbose: as in `fit()`.
        devices: `all` shares every batch among the machine's devices; see `reszoo.training.devices.open_devices`.
        machines: addresses of several machines; see `open_devices`. Each makes the same call.
        machine: this one's place among them.
        recipe_changes: of the recipe: `epochs=4, batch=64, optimizer={"momentum": 0.95}`.

    Raises:
        ReszooError: an impossible network, recipe or source; or the folder holds another run.
    """
    opened = data if isinstance(data, Data) else open_data(data, size=size, test=test, target=target, seed=seed)
    how = named(recipe or default_recipe(opened, weights), **recipe_changes)
    activation = "sigmoid" if how.loss == "binary_cross_entropy" else "softmax"
    own = {"input_shape": opened.shape, "classes": len(opened.classes), "classifier_activation": activation}
    spec = zoo.spec(model).replace(**{**(changes or {}), **own})
    if weights is not None:
        opened = scaled_for(weights, spec, opened)
    from reszoo.training.devices import open_devices
    from reszoo.training.run import run

    over = open_devices(devices, machines=machines, machine=machine)
    return run(spec, opened, how, output, seed=seed, weights=weights, verbose=verbose, devices=over)


def default_recipe(data: Data, weights: Any) -> str:
    """Returns the name of a recipe for a kind of data: rows, pretrained, small pictures of symbols, or pictures."""
    if len(data.shape) == 1:
        return "tabular"
    if weights is not None:
        return "fine_tune_small"
    return "fast_symbols" if data.shape[-1] == 1 else "fast"


def scaled_for(weights: str | Path, spec: NetSpec, data: Data) -> Data:
    """Returns data scaled as pretrained weights want them.

    Raises:
        ReszooError: there are no such weights, or they take other images.
    """
    from reszoo.weights.sources import open_weights

    record = open_weights(weights, spec).record
    if record is None or len(data.shape) == 1:
        return data
    return replace(data, scaling=scaling_for(record, data))
