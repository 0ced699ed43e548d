"""Measures of predictions for classification, several classes at once, and regression, with a control beside each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from reszoo.types import Array

BINS = 15
"""Bins of the calibration error (Guo et al. 2017, 2)."""
NAN = float("nan")


class ClassMetrics(NamedTuple):
    """Recall, precision and further measures of one class."""

    name: str
    examples: int
    recall: float
    """Fraction of the class' examples that were predicted as it; NaN without examples."""
    precision: float
    """Fraction of the predictions of this class that were right; NaN without predictions."""
    f1: float = NAN
    """Harmonic mean of recall and precision; NaN without examples."""
    auc: float = NAN
    """Area under the ROC curve of this class against the others: 0.5 for a guess; NaN where one of both is absent."""
    average_precision: float = NAN
    """Area under the curve of precision and recall, for several classes at once; a guess has the class' share."""

    def __repr__(self) -> str:
        metrics = f"recall {self.recall:.4f}, precision {self.precision:.4f}"
        return f"ClassMetrics({self.name[:40]!r}: {self.examples:,} examples, {metrics})"


class Bin(NamedTuple):
    """The predictions within an interval of confidence."""

    examples: int
    confidence: float
    """Mean probability of the predicted classes."""
    accuracy: float


def class_metrics(names: Sequence[str], labels: Array, predicted: Array, scores: Array) -> tuple[ClassMetrics, ...]:
    """Returns the measures of every class.

    Args:
        names: of the classes.
        labels: 1 where an example is of a class, `(examples, classes)`.
        predicted: 1 where a class was predicted, of the same shape.
        scores: probabilities, of the same shape.
    """
    rows = []
    for index, name in enumerate(names):
        truth, guess = labels[:, index] > 0, predicted[:, index] > 0
        both, examples, predictions = int((truth & guess).sum()), int(truth.sum()), int(guess.sum())
        rows.append(
            ClassMetrics(
                name=name,
                examples=examples,
                recall=both / examples if examples else NAN,
                precision=both / predictions if predictions else NAN,
                f1=2 * both / (examples + predictions) if examples else NAN,
                auc=area_under_curve(truth, scores[:, index]),
                average_precision=average_precision(truth, scores[:, index]),
            )
        )
    return tuple(rows)


def area_under_curve(truth: Array, scores: Array) -> float:
    """Returns the area under the ROC curve: how often a positive example scores above a negative one.

    Example:
        >>> import numpy
        >>> area_under_curve(numpy.array([False, True, True]), numpy.array([0.2, 0.2, 0.9]))
        0.75
    """
    import numpy as np

    positive = int(truth.sum())
    negative = len(truth) - positive
    if not positive or not negative:
        return NAN
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    # Equal scores share the mean of their ranks (Mann and Whitney 1947).
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((ranks[truth].sum() - positive * (positive + 1) / 2) / (positive * negative))


def average_precision(truth: Array, scores: Array) -> float:
    """Returns the sum of precision times the gain in recall, from the highest score on.

    Example:
        >>> import numpy
        >>> average_precision(numpy.array([True, False, True]), numpy.array([0.9, 0.8, 0.1]))
        0.8333333333333333
    """
    import numpy as np

    if not truth.any():
        return NAN
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(truth[order])
    # Equal scores are one threshold: only the last of them counts.
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    precision, recall = hits[last] / (last + 1), hits[last] / truth.sum()
    return float((precision * np.diff(recall, prepend=0)).sum())


def reliability(scores: Array, correct: Array) -> tuple[Bin, ...]:
    """Returns confidence and accuracy of the predictions in fifteen bins of confidence; empty bins are left out."""
    import numpy as np

    confidence = scores.max(axis=1)
    bins = np.clip((confidence * BINS).astype(int), 0, BINS - 1)
    members = [bins == index for index in np.unique(bins)]
    return tuple(Bin(int(m.sum()), float(confidence[m].mean()), float(correct[m].mean())) for m in members)


def calibration_error(bins: Sequence[Bin]) -> float:
    """Returns the mean of |confidence - accuracy| over the bins, weighted by their examples."""
    total = sum(each.examples for each in bins)
    return sum(abs(each.confidence - each.accuracy) * each.examples for each in bins) / total


def macro(values: Sequence[float]) -> float:
    """Returns the mean of the defined values."""
    defined = [value for value in values if value == value]
    return sum(defined) / len(defined) if defined else NAN


def classification(names: Sequence[str], labels: Array, scores: Array) -> tuple[dict[str, float], Array]:
    """Returns the measures of a classification by name, and the confusion matrix.

    Args:
        names: of the classes.
        labels: class indices.
        scores: probabilities, `(examples, classes)`.
    """
    import numpy as np

    count, predicted = len(names), scores.argmax(axis=1)
    confusion = np.zeros((count, count), "int64")
    np.add.at(confusion, (labels, predicted), 1)
    metrics = {
        "accuracy": float((predicted == labels).mean()),
        "largest_class_share": float(confusion.sum(axis=1).max() / len(labels)),
    }
    if count > 5:
        of_label = scores[np.arange(len(labels)), labels][:, None]
        metrics["top5_accuracy"] = float(((scores > of_label).sum(axis=1) < 5).mean())
    return metrics, confusion


def multilabel(rows: Sequence[ClassMetrics], labels: Array, predicted: Array) -> dict[str, float]:
    """Returns the measures of several classes at once, beside the mean average precision of a guess."""
    both, total = int((labels * predicted).sum()), int(labels.sum() + predicted.sum())
    return {
        "f1_micro": 2 * both / total if total else NAN,
        "f1_macro": macro([row.f1 for row in rows]),
        "mean_average_precision": macro([row.average_precision for row in rows]),
        "mean_average_precision_of_a_guess": macro([row.examples / len(labels) for row in rows if row.examples]),
        "auc": macro([row.auc for row in rows]),
        "exact_match": float((labels == predicted).all(axis=1).mean()),
    }


def regression(labels: Array, outputs: Array) -> dict[str, float]:
    """Returns the errors of a regression, beside those of the best constant: the median, and the mean, of the examples.

    R2 is 1 minus the squared error over that of the mean; the mean of several outputs.
    """
    import numpy as np

    error = outputs.astype("float64") - labels
    spread = labels - labels.mean(axis=0, dtype="float64")
    squares = (spread**2).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        r2 = np.where(squares > 0, 1 - (error**2).sum(axis=0) / squares, np.nan)
    return {
        "mae": float(abs(error).mean()),
        "mae_of_the_median": float(abs(labels - np.median(labels, axis=0)).mean()),
        "rmse": float(np.sqrt((error**2).mean())),
        "rmse_of_the_mean": float(np.sqrt((spread**2).mean())),
        "r2": macro([float(value) for value in np.atleast_1d(r2)]),
    }
