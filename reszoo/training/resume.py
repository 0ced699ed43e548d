"""Continuing a run from its folder, with the settings that it recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from reszoo.arch.spec import NetSpec
from reszoo.data.sources import Data, DataSource
from reszoo.errors import ReszooError
from reszoo.training.recipes import Recipe, recipe
from reszoo.training.run_folder import SETTINGS, read_settings
from reszoo.training.train import train
from reszoo.training.trained import Trained


def resume(
    folder: str | Path, /, *, epochs: int | None = None, data: Data | DataSource | None = None, **settings: Any
) -> Trained:
    """Returns a run after continuing it to a number of epochs, with network, recipe, seed and data as recorded.

    Example:
        >>> import reszoo, tempfile
        >>> rows = [[float(number), 1.0] for number in range(20)], [0, 1] * 10
        >>> folder = tempfile.mkdtemp()
        >>> settings = {"changes": {"depths": 1}, "verbose": 0}
        >>> run = reszoo.train("residual_mlp18", rows, output=folder, epochs=1, **settings)
        >>> len(reszoo.resume(folder, epochs=2, data=rows, verbose=0).history)
        2

    Args:
        folder: of the run.
        epochs: of the whole run; by default the recorded number.
        data: the same data again; by default they are opened again from where they were, which is recorded for files,
            folders and named data sets.
        settings: `callbacks`, `verbose` and `devices`, as in `train`.

    Raises:
        ReszooError: the folder holds no run, or not where its data are; or as for `train`.
    """
    folder = Path(folder).expanduser()
    record = read_settings(folder)
    try:
        spec = NetSpec.model_validate_json(json.dumps(record["spec"]))
        plan = Recipe.model_validate_json(json.dumps(record["recipe"]))
    except (KeyError, ValueError):
        expected = f"the folder of a run, with {SETTINGS}"
        raise ReszooError(str(folder), got="no run in it", expected=expected) from None
    if epochs is not None:
        plan = recipe(plan, epochs=epochs)
    source = dict(record.get("source", {}))
    recorded = source.pop("data", None)
    if data is None and recorded is None:
        expected, hint = "data that can be opened again", "pass them: data=, --data"
        raise ReszooError(str(folder), got="a run on data in memory", expected=expected, hint=hint)
    options = source if not isinstance(data, Data) else {}
    settings = {"seed": record["seed"], "weights": record["weights"], **options, **settings}
    return train(spec, recorded if data is None else data, output=folder, recipe=plan, **settings)
