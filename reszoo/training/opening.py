"""How the data of a run are opened: as its network and its weights expect them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reszoo.arch import zoo
from reszoo.arch.spec import NetSpec
from reszoo.data.pictures import Channels
from reszoo.errors import ReszooError
from reszoo.training.identity import read_settings
from reszoo.training.metadata import features_of, read_file
from reszoo.weights.catalogue import find
from reszoo.weights.origin import preprocessing_in
from reszoo.weights.sources import published_record


def arguments_of(
    model: str | NetSpec, data: Any, options: Mapping[str, Any], /, *, output: str | Path, weights: str | Path | None
) -> dict[str, Any]:
    """Returns the arguments of `open_data` for a run, completed by what its network and weights expect.

    A folder of images is read at the network's own size, where its entry names one, and with the channels of the
    weights; a table by the columns of the weights.

    Args:
        model: of the run.
        data: its source.
        options: arguments of `open_data` that are named already.
        output: the run folder; a run that is there keeps its size.
        weights: that the run starts from.
    """
    arguments = {name: value for name, value in options.items() if value is not None}
    columns = None if weights is None else features_of(weights)
    arguments |= {} if columns is None else {"columns": columns}
    spec = zoo.spec(model)
    if spec.dense or not isinstance(data, (str, Path)) or not Path(data).expanduser().is_dir():
        return arguments
    recorded = read_settings(Path(output).expanduser()).get("spec", {}).get("input_shape")
    side = (recorded or spec.input_shape)[0]
    if side is not None:
        arguments.setdefault("size", side)
    if weights is not None and _channels(weights, spec) == "gray":
        arguments.setdefault("channels", "gray")
    return arguments


def _channels(weights: str | Path, spec: NetSpec) -> Channels | None:
    """The channels of the images that weights take, where they are known before the weights are opened."""
    path = Path(weights).expanduser()
    if path.suffix == ".keras" and path.is_file():
        settings = preprocessing_in(read_file(path)[0])
    else:
        try:
            record = published_record(path) if path.exists() else find(str(weights), spec)
        except ReszooError:
            # Unknown names are refused where the weights are opened.
            return None
        settings = record.preprocessing if record else None
    return "gray" if settings is not None and settings.channels == "gray" else None
