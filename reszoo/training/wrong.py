"""The most wrong examples of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from reszoo.data.ranges import value_range
from reszoo.training.parts import Selection
from reszoo.types import Array

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
