"""Names of classes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from reszoo.config import configs, read_yaml
from reszoo.errors import ReszooError
from reszoo.types import KerasModel, Tensor
from reszoo.weights.origin import origin


class DecodedLabel(NamedTuple):
    """The name of a class and its probability."""

    label: str
    probability: float


def decode_predictions(
    predictions: Tensor, /, *, top: int = 5, labels: str | Sequence[str] | KerasModel = "imagenet"
) -> list[list[DecodedLabel]]:
    """Returns the most probable classes of every image, most probable first.

    Example:
        >>> import reszoo
        >>> reszoo.decode_predictions([[0.25, 0.75]], top=1, labels=["cat", "dog"])
        [[DecodedLabel(label='dog', probability=0.75)]]

    Args:
        predictions: probabilities or logits, `(images, classes)`.
        top: number of classes per image.
        labels: see `words`.

    Raises:
        ReszooError: the predictions have another shape, or the number of labels differs from the number of classes.
    """
    import numpy as np

    expected = "(images, classes), and a label for every class"
    try:
        scores = np.asarray(predictions, "float64")
    except (TypeError, ValueError) as error:
        got = f"predictions that are not numbers ({error})"
        raise ReszooError("decode_predictions", got=got, expected=expected) from None
    if scores.ndim != 2:
        raise ReszooError("decode_predictions", got=f"predictions of shape {scores.shape}", expected=expected)
    names = words(labels)
    if names is None or len(names) != scores.shape[1]:
        got = f"predictions of shape {scores.shape} and {'no' if names is None else len(names)} labels"
        raise ReszooError("decode_predictions", got=got, expected=expected)
    if (scores < 0).any() or not np.allclose(scores.sum(axis=1), 1, atol=1e-2):
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        scores /= scores.sum(axis=1, keepdims=True)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    return [[DecodedLabel(names[i], float(row[i])) for i in order] for row, order in zip(scores, best, strict=True)]


def words(labels: str | Sequence[str] | KerasModel | None, /) -> list[str] | None:
    """Returns the names of classes by class number, or None where they are unknown.

    Args:
        labels: `imagenet` (names as in `keras.applications`), `imagenet_wnids` (WordNet IDs such as n01440764),
            `cifar10`, `cifar100`, `fashion_mnist`, a list of names, or a model into which reszoo loaded weights.

    Raises:
        ReszooError: there are no such labels.
    """
    if hasattr(labels, "layers"):
        source = origin(labels)
        labels = source.labels if source else None
    if isinstance(labels, str):
        if labels not in _tables():
            raise ReszooError("labels", got=repr(labels), expected=f"{', '.join(_tables())}, a list, a model")
        return _tables()[labels]
    return None if labels is None else [str(name) for name in labels]


@cache
def _tables() -> dict[str, list[str]]:
    texts = read_yaml(configs() / "weights" / "labels.yaml")
    return {name: text.split() for name, text in texts.items()}
