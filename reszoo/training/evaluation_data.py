"""The examples of an evaluation: which part, their labels as in training, and the most wrong ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from reszoo.data.dataset import digest
from reszoo.data.examples import Concatenation
from reszoo.data.ranges import value_range
from reszoo.data.sources import Data, Examples
from reszoo.errors import ReszooError
from reszoo.training.metadata import Metadata
from reszoo.types import Array
from reszoo.weights.labels import words

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


def training_labels(source: Data, labels: Array, metadata: Metadata, /) -> Array:
    """Returns labels as class indices of the training, matched by name; those of a regression as they are.

    Integers without names are places only where no class of the network is named by a number.

    Raises:
        ReszooError: a class with examples that the network does not have.
    """
    import numpy as np

    if metadata.task == "regression":
        return np.asarray(labels, "float32").reshape(len(labels), -1)
    several = labels.ndim == 2
    present = np.flatnonzero(labels.any(axis=0)) if several else np.unique(labels)
    indices = class_indices(source.classes, [int(index) for index in present], metadata, where=source.name)
    if not several:
        return indices[labels]
    result = np.zeros((len(labels), len(metadata.classes)), "uint8")
    for index in present:
        result[:, indices[index]] |= labels[:, index].astype("uint8")
    return result


def class_indices(names: Sequence[str], present: Sequence[int], metadata: Metadata, /, *, where: str) -> Array:
    """Returns the class index in training of every class of a source; -1 for one without examples that is unknown."""
    import numpy as np

    known = {_normal(name): index for index, name in reversed([*enumerate(metadata.classes)])}
    missing = [names[index] for index in present if _normal(names[index]) not in known]
    if not missing:
        return np.array([known.get(_normal(name), -1) for name in names])
    if metadata.classes == tuple(words("imagenet") or ()):
        # Folders of ImageNet are named by WordNet IDs.
        wnids = {name: index for index, name in enumerate(words("imagenet_wnids") or ())}
        if all(names[index] in wnids for index in present):
            return np.array([wnids.get(name, -1) for name in names])
    numbered = tuple(names) == tuple(map(str, range(len(names))))
    named_by_numbers = any(_is_number(name) for name in metadata.classes)
    if numbered and not named_by_numbers and max(present) < len(metadata.classes):
        return np.arange(len(names))
    expected = ", ".join(metadata.classes[:10]) + (", ..." if len(metadata.classes) > 10 else "")
    raise ReszooError(f"evaluate: {where}", got=f"class {missing[0]!r}", expected=expected)


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True


def _normal(name: str) -> str:
    """A whole number in one spelling: 1, 1.0 and 01 are the same name."""
    if not _is_number(name):
        return name
    value = float(name)
    return str(int(value)) if value.is_integer() else repr(value)


EXAMPLES = 24
"""Most examples that an evaluation keeps."""
DARK = 16
"""Largest value of images that are shown brighter than they are."""


@dataclass(frozen=True)
class WrongExample:
    """An example that a network predicts wrongly."""

    example: str
    """Path of the file, or index in the part."""
    label: str
    """Its class or classes, or its number."""
    predicted: str
    error: float
    """1 minus the probability of its class; the largest such error of several classes; the difference of a number."""
    image: Array | None = field(default=None, repr=False)
    """For images: values from 0 to 255, `(height, width, channels)`."""


def most_wrong(
    selection: Selection, labels: Array, scores: Array, names: Sequence[str], task: str
) -> tuple[WrongExample, ...]:
    """Returns the wrongly predicted examples with the largest errors, the largest first.

    Args:
        selection: the examples.
        labels: of the examples, as in training.
        scores: probabilities, or the outputs of a regression.
        names: of the classes.
        task: classification, multilabel or regression.
    """
    import numpy as np

    if task == "regression":
        errors = abs(scores - labels).max(axis=1)
        labelled, predicted = ([_numbers(row) for row in rows] for rows in (labels, scores))
        wrong = errors > 0
    elif task == "multilabel":
        errors = abs(labels - scores).max(axis=1)
        labelled, predicted = ([_classes(row, names) for row in rows] for rows in (labels, scores))
        wrong = errors >= 0.5
    else:
        errors = 1 - scores[np.arange(len(labels)), labels]
        labelled = [names[index] for index in labels]
        predicted = [names[index] for index in scores.argmax(axis=1)]
        wrong = scores.argmax(axis=1) != labels
    order = [int(index) for index in np.argsort(-errors, kind="stable") if wrong[index]][:EXAMPLES]
    images = _images(selection, order)
    return tuple(
        WrongExample(
            example=str(index) if selection.names is None else selection.names[index],
            label=labelled[index],
            predicted=predicted[index],
            error=float(errors[index]),
            image=image,
        )
        for index, image in zip(order, images, strict=True)
    )


def _numbers(row: Array) -> str:
    return ", ".join(f"{value:.4g}" for value in row)


def _classes(row: Array, names: Sequence[str]) -> str:
    return ", ".join(name for name, value in zip(names, row, strict=True) if value >= 0.5) or "none"


def _images(selection: Selection, order: Sequence[int]) -> list[Array | None]:
    """The examples as images, where they are images of one or three channels."""
    taken = [selection.examples.take([index])[0] for index in order]
    if not taken or taken[0].ndim != 3 or taken[0].shape[-1] not in (1, 3):
        return [None] * len(order)
    low = min(float(image.min()) for image in taken)
    high = max(float(image.max()) for image in taken)
    white = max((value_range(image).white or 0.0) for image in taken)
    if low < 0 or not white or (white == 255 and high <= DARK):
        # Values that are no pixels, or from 0 to 16 as in scikit-learn's digits, are spread over the whole range.
        return [((image - low) / ((high - low) or 1) * 255).astype("uint8") for image in taken]
    return [(image.astype("float32") * (255 / white)).round().clip(0, 255).astype("uint8") for image in taken]
