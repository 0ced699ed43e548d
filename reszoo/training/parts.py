"""The part of a source that is evaluated, and whether the network has seen it in training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from reszoo.data.digest import digest
from reszoo.data.sources import Data, Examples
from reszoo.errors import ReszooError
from reszoo.training.metadata import Metadata
from reszoo.types import Array

Split = Literal["test", "validation", "train", "all"]

SEEN = {
    "test": "the network has not seen them in training",
    "validation": "held out in training, but the best epoch was chosen by them",
    "train": "the network was trained on them",
    "all": "the network was trained on most of them",
}
"""Part of the training data -> whether the network has seen it."""


def check_data(data: Any, /) -> None:
    """Checks that a path exists, before anything is loaded; other sources and names are for `open_data` to judge.

    Raises:
        ReszooError: there is no such file or folder.
    """
    if not isinstance(data, (str, Path)) or "://" in str(data):
        return
    path = Path(data).expanduser()
    if (isinstance(data, Path) or path.suffix or len(path.parts) > 1) and not path.exists():
        expected = "a folder of class folders, a .npz, a .csv, or the name of a data set"
        raise ReszooError(str(data), got="no such file or folder", expected=expected)


class Selection(NamedTuple):
    """The examples of a part."""

    examples: Examples
    protocol: str
    """Which examples, how many, and whether the network has seen them."""
    names: tuple[str, ...] | None
    """Paths of image files; None for other examples, which are numbered."""


def select(source: Data, part: Split | None, metadata: Metadata, /) -> Selection:
    """Returns the examples of a part: by default test, else validation where it was held out, else everything.

    Raises:
        ReszooError: the source has no such part.
    """
    parts: dict[str, Examples | None] = {"test": source.test, "validation": source.validation, "train": source.train}
    same = bool(metadata.digest) and digest(source) == metadata.digest
    if part is None and source.test is not None:
        part = "test"
    elif part is None:
        part = "validation" if source.own_validation or (same and len(source.validation)) else "all"
    if part == "all":
        examples: Examples | None = _Concatenation([source.train, source.validation])
    else:
        examples = parts.get(part)
    if examples is None or not len(examples):
        expected = ", ".join([*(name for name, each in parts.items() if each is not None and len(each)), "all"])
        raise ReszooError("evaluate.part", got=repr(part), expected=expected)
    seen = SEEN[part] if same else _unknown(metadata)
    words = "all" if part == "all" else f"the {part} part"
    protocol = f"{words} of {source.name}: {len(examples):,} examples, each once, no augmentation; {seen}"
    paths = getattr(examples, "paths", None)
    return Selection(examples, protocol, None if paths is None else tuple(map(str, paths)))


def _unknown(metadata: Metadata) -> str:
    if metadata.digest:
        return f"other data than in training ({metadata.data}) as a whole; single examples may be the same"
    return "whether the network has seen them in training is unknown"


class _Concatenation:
    """Several sets of examples as one."""

    def __init__(self, parts: Sequence[Examples]):
        import numpy as np

        self._parts = [part for part in parts if len(part)]
        self.labels: Array = np.concatenate([part.labels for part in self._parts])
        weights: list[Any] = [getattr(part, "weights", None) for part in self._parts]
        self.weights = None if any(each is None for each in weights) else np.concatenate(weights)
        if all(hasattr(part, "paths") for part in self._parts):
            self.paths = tuple(path for part in self._parts for path in part.paths)  # type: ignore[attr-defined]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Any, boxes: Any = None) -> Array:
        """Returns the examples at these indices."""
        import numpy as np

        taken, start = [], 0
        for part in self._parts:
            rows = [int(index) - start for index in indices if start <= index < start + len(part)]
            taken += [part.take(rows)] if rows else []
            start += len(part)
        return np.concatenate(taken)
