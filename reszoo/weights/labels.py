"""Class numbers back to words."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from reszoo.config import configs, read_yaml
from reszoo.errors import ReszooError
from reszoo.weights.origin import origin


class DecodedLabel(NamedTuple):
    """One class and how likely it is."""

    label: str
    probability: float


def decode_predictions(predictions: Any, /, *, top: int = 5, labels: Any = "imagenet") -> list[list[DecodedLabel]]:
    """Returns the likeliest classes of every image, the likeliest first.

    Args:
        predictions: `(images, classes)`, probabilities or logits.
        top: classes per image.
        labels: see `words`.

    Raises:
        ReszooError: as many labels as classes are needed.
    """
    import numpy as np

    expected = "(images, classes), and a label for every class"
    try:
        scores = np.asarray(predictions, "float64")
    except (TypeError, ValueError) as error:
        got = f"predictions that are no numbers ({error})"
        raise ReszooError("decode_predictions", got=got, expected=expected) from None
    if scores.ndim != 2:
        raise ReszooError("decode_predictions", got=f"predictions of shape {scores.shape}", expected=expected)
    named = words(labels)
    if named is None or len(named) != scores.shape[1]:
        got = f"predictions of shape {scores.shape} and {'no' if named is None else len(named)} labels"
        raise ReszooError("decode_predictions", got=got, expected=expected)
    if (scores < 0).any() or not np.allclose(scores.sum(axis=1), 1, atol=1e-2):
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        scores /= scores.sum(axis=1, keepdims=True)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    return [[DecodedLabel(named[i], float(row[i])) for i in order] for row, order in zip(scores, best, strict=True)]


def words(labels: Any, /) -> list[str] | None:
    """Returns the words for class numbers, or nothing where none are known.

    Args:
        labels: `imagenet` (words as in `keras.applications`), `imagenet_wnids` (WordNet's numbers, such as n01440764),
            `cifar10`, `cifar100`, `fashion_mnist`, a list of words, or a model into which reszoo loaded weights.

    Raises:
        ReszooError: no such labels.
    """
    if hasattr(labels, "layers"):
        known = origin(labels)
        labels = known.labels if known else None
    if isinstance(labels, str):
        if labels not in _ours():
            raise ReszooError("labels", got=repr(labels), expected=f"{', '.join(_ours())}, a list, a model")
        return _ours()[labels]
    return None if labels is None else [str(word) for word in labels]


@cache
def _ours() -> dict[str, list[str]]:
    told = read_yaml(configs() / "weights" / "labels.yaml")
    return {name: text.split() for name, text in told.items()}
