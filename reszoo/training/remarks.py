"""What the results of a run are worth, in sentences for the card and the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from reszoo.data.sources import Data
from reszoo.training.recipes import best_of
from reszoo.types import Array

FEW_PHOTOS = 2000
"""Training images below which pretrained weights are the first thing to try."""
SMALL_VALIDATION = 50
"""Validation examples below which an accuracy is known only to about 14 percentage points, two standard errors."""
NAMES = 5
"""Classes that a sentence names."""


def largest_class(data: Data) -> tuple[str, float]:
    """Returns the largest class of the validation part, and its share."""
    counts = np.bincount(data.validation.labels, minlength=len(data.classes))
    index = int(counts.argmax())
    return data.classes[index], float(counts[index] / counts.sum())


def remarks(data: Data, history: Sequence[dict[str, float]], outputs: Array | None, *, pretrained: bool) -> list[str]:
    """Returns remarks on a finished run, the most important one first.

    Args:
        data: of the run.
        history: of the run.
        outputs: of the final network for the validation part; None if they were not computed.
        pretrained: whether the run began with pretrained weights.
    """
    count = len(data.validation)
    if data.task == "regression":
        lines = _of_numbers(data, history)
    elif data.task == "multilabel":
        lines = _of_several_labels(data, outputs)
    else:
        lines = _of_classes(data, history, outputs)
    if count < SMALL_VALIDATION:
        lines.append(f"only {count} validation examples: small differences between results mean nothing")
    lines += [note for note in data.notes if "validation" in note]
    if len(data.shape) == 3 and not pretrained and len(data.train) < FEW_PHOTOS:
        lines.append(
            f"{len(data.train):,} training images: pretrained weights are the first thing to try "
            "(reszoo train --weights imagenet, or a tag of reszoo list --weights)"
        )
    return lines


def _of_classes(data: Data, history: Sequence[dict[str, float]], outputs: Array | None) -> list[str]:
    name, share = largest_class(data)
    best, count = best_of(history), len(data.validation)
    lines = [f"always predicting {name}, the largest class, is right for {share:.2%} of the validation examples"]
    lines += no_better(best["val_accuracy"], share, count)
    if outputs is None:
        return lines
    chance, loss = math.log(len(data.classes)), _cross_entropy(outputs, np.asarray(data.validation.labels))
    if loss > chance:
        lines.append(f"validation cross-entropy {loss:.3f} after the last epoch, above chance ({chance:.3f})")
    present = set(map(int, np.unique(data.validation.labels)))
    never = [data.classes[i] for i in sorted(present - set(map(int, outputs.argmax(axis=1))))]
    if never:
        lines.append(f"never predicted for a validation example: {_listed(never)}")
    return lines


def no_better(accuracy: float, share: float, count: int) -> list[str]:
    """Returns a remark if an accuracy is not clearly above the share of the largest class.

    Args:
        accuracy: of `count` examples.
        share: of the largest class among them.
        count: number of examples.
    """
    margin = 2 * math.sqrt(max(share * (1 - share), 0.25 / count) / count)
    if accuracy > share + margin:
        return []
    return [
        f"no better than always naming the largest class: {accuracy:.2%} beside {share:.2%}, and two standard errors "
        f"of {count:,} examples are {margin:.2%}"
    ]


def _cross_entropy(outputs: Array, labels: Array) -> float:
    total = np.asarray(outputs, "float64")
    chosen = total[np.arange(len(labels)), labels] / np.maximum(total.sum(axis=1), 1e-12)
    return float(-np.log(np.maximum(chosen, 1e-12)).mean())


def _of_several_labels(data: Data, outputs: Array | None) -> list[str]:
    truth = np.asarray(data.validation.labels, bool)
    share = truth.mean(axis=0)
    lines = [f"mean average precision of random scores: {float(share.mean()):.4f}"]
    predicted = truth.any(axis=0) if outputs is None else (outputs > 0.5).any(axis=0)
    never = [data.classes[index] for index in np.flatnonzero(truth.any(axis=0) & ~predicted)]
    if never:
        lines.append(f"never predicted for a validation example: {_listed(never)}")
    return lines


def _of_numbers(data: Data, history: Sequence[dict[str, float]]) -> list[str]:
    train, validation = (np.asarray(part.labels, "float64") for part in (data.train, data.validation))
    absolute = float(np.abs(validation - np.median(train, axis=0)).mean())
    root = float(np.sqrt(np.square(validation - train.mean(axis=0)).mean()))
    lines = [f"always the median: MAE {absolute:.4g}; always the mean: RMSE {root:.4g}"]
    if best_of(history)["val_rmse"] >= root:
        lines.append("no better than always predicting the mean")
    return lines


def _listed(names: Sequence[Any]) -> str:
    rest = f" and {len(names) - NAMES} more" if len(names) > NAMES else ""
    return ", ".join(map(str, names[:NAMES])) + rest
