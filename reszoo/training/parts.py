"""The part of a source that is evaluated, and whether the network has seen it in training."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple

from reszoo.data.concatenation import Concatenation
from reszoo.data.digest import digest
from reszoo.data.sources import Data, Examples
from reszoo.errors import ReszooError
from reszoo.training.metadata import Metadata

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
        examples: Examples | None = Concatenation([source.train, source.validation])
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
