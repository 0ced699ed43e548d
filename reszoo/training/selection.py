"""Decisions that follow from a run's history alone, so that a resumed run makes the same ones.

They are: the best epoch, early stopping, and the learning rate on a plateau.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from reszoo.training.recipes import Plateau

Row = dict[str, float]


class Metric(NamedTuple):
    """The metric by which epochs are compared."""

    name: str
    sign: int
    """1 where larger is better, -1 where smaller is."""

    def __repr__(self) -> str:
        return f"Metric({self.name!r}, {'larger' if self.sign > 0 else 'smaller'} is better)"


METRICS = (Metric("val_map", 1), Metric("val_rmse", -1), Metric("val_accuracy", 1), Metric("val_loss", -1))
"""Of several labels, of numbers, of classes; the first one that a history contains is used."""
SMALLER = ("loss", "rmse", "mae")
"""Metrics of which smaller values are better."""


def metric_of(row: Row, monitor: str = "auto") -> Metric:
    """Returns the metric by which the epochs of a run are compared.

    Example:
        >>> metric_of({"loss": 0.5, "val_accuracy": 0.9})
        Metric('val_accuracy', larger is better)
        >>> metric_of({"val_loss": 0.5, "val_accuracy": 0.9}, "loss")
        Metric('val_loss', smaller is better)

    Args:
        row: of a history.
        monitor: the recipe's field.
    """
    if monitor != "auto":
        return Metric(f"val_{monitor}", -1 if monitor in SMALLER else 1)
    return next(metric for metric in METRICS if metric.name in row)


def best_of(history: Sequence[Row], monitor: str = "auto") -> Row:
    """Returns the row of the best epoch, the first one of equals.

    Example:
        >>> best_of([{"epoch": 1, "val_rmse": 2.0}, {"epoch": 2, "val_rmse": 1.5}])["epoch"]
        2
    """
    name, sign = metric_of(history[0], monitor)
    return max(history, key=lambda row: sign * row[name])


def stale_epochs(history: Sequence[Row], *, start: int = 0, monitor: str = "auto") -> int:
    """Returns the number of epochs since the best one, counted from epoch `start` at the earliest."""
    if not history:
        return 0
    best = history.index(best_of(history, monitor)) + 1
    return len(history) - max(best, start)


def plateau_factor(history: Sequence[Row], plateau: Plateau, monitor: str = "auto") -> float:
    """Returns the factor of the learning rate after these epochs: smaller for every plateau they contain.

    Example:
        >>> rows = [{"val_accuracy": value} for value in (0.5, 0.6, 0.6, 0.6, 0.6)]
        >>> plateau_factor(rows, Plateau(patience=2, factor=0.1))
        0.1
    """
    factor, waited = 1.0, 0
    if not plateau.patience or not history:
        return factor
    name, sign = metric_of(history[0], monitor)
    best = sign * history[0][name]
    for row in history[1:]:
        better = sign * row[name] > best
        best, waited = max(best, sign * row[name]), 0 if better else waited + 1
        if waited == plateau.patience:
            factor, waited = factor * plateau.factor, 0
    return factor
