"""Labels of data as class indices of a network: labels have names, and a number is a name."""

from __future__ import annotations

from collections.abc import Sequence

from reszoo.data.sources import Data
from reszoo.errors import ReszooError
from reszoo.training.metadata import Metadata
from reszoo.types import Array
from reszoo.weights.labels import words


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
