"""What a `.keras` file says of its data: class names and scaling, in a member of the archive that Keras passes over."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reszoo.data.sources import Data, Scaling
from reszoo.errors import ReszooError
from reszoo.weights.catalogue import Record
from reszoo.weights.formats.archives import append_member, checked_zip, read_member

MEMBER = "reszoo.json"


@dataclass(frozen=True)
class Facts:
    """What a trained network must know of its data."""

    classes: tuple[str, ...]
    scaling: Scaling
    data: str
    seed: int
    """Of the split."""


def write_facts(path: Path, data: Data) -> None:
    """Adds the facts to a `.keras` file."""
    told = {"classes": list(data.classes), "scaling": asdict(data.scaling), "data": data.name, "seed": data.seed}
    append_member(path, MEMBER, json.dumps(told))


def read_facts(path: str | Path) -> Facts:
    """Returns the facts in a `.keras` file.

    Raises:
        ReszooError: there are none: the file does not come from a run.
    """
    try:
        with checked_zip(Path(path)) as archive:
            told: dict[str, Any] = json.loads(read_member(Path(path), archive, MEMBER))
        scaling = told["scaling"]
        made = Scaling(float(scaling["scale"]), tuple(scaling["mean"]), tuple(scaling["std"]))
        return Facts(tuple(map(str, told["classes"])), made, str(told["data"]), int(told["seed"]))
    except (OSError, KeyError, ValueError, TypeError) as error:
        expected = "a .keras file of a run (reszoo train)"
        raise ReszooError(str(path), got=f"no facts about its data ({error})", expected=expected) from None


def scaling_for(record: Record, data: Data) -> Scaling:
    """Returns how images of these data are scaled for published weights.

    Raises:
        ReszooError: the weights take images of other channels.
    """
    told = record.preprocessing
    if told.channels == "bgr" or data.shape[-1] != len(told.mean):
        got = f"weights that take {told.channels} images, and images with {data.shape[-1]} channels"
        expected = "weights that take rgb, and images of 3 channels; or gray, and 1"
        raise ReszooError(record.name, got=got, expected=expected)
    return Scaling(data.scaling.scale * told.scale / 255, told.mean, told.std)
