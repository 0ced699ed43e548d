"""A finished run."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from reszoo.notebook import html_table
from reszoo.report.page import Page
from reszoo.report.write import Presentable
from reszoo.training.run_folder import FINAL
from reszoo.training.run_page import run_page
from reszoo.training.selection import best_of, metric_of
from reszoo.types import KerasModel


@dataclass(frozen=True)
class Trained(Presentable):
    """A finished run."""

    folder: Path
    network: KerasModel | None
    """The network where this process trained it; use `model`."""
    history: list[dict[str, float]]
    """Metrics of every epoch. Losses do not include the L2 penalty, which is listed beside them."""
    test_accuracy: float | None
    """Of the final weights, where the data has a test part and classes."""
    remarks: tuple[str, ...] = ()
    """What the results are worth: the share of the largest class, classes never predicted, and the like."""
    monitor: str = "auto"
    """The metric by which epochs are compared, as in the recipe."""

    @cached_property
    def model(self) -> KerasModel:
        """The trained network; read from `model.keras` if the run had finished before."""
        if self.network is not None:
            return self.network
        import keras

        return keras.models.load_model(self.folder / FINAL)

    @property
    def best(self) -> dict[str, float]:
        """Metrics of the epoch whose network is `best.keras`: the first one with the best validation result."""
        return best_of(self.history, self.monitor)

    @property
    def summary(self) -> str:
        """The result in a sentence: `best validation accuracy 95.80% after epoch 3 of 3; test accuracy ... 89.97%`."""
        best, metric = self.best, metric_of(self.best, self.monitor).name
        value = f"{best[metric]:.2%}" if metric == "val_accuracy" else f"{best[metric]:.4g}"
        words = f"best validation {metric.removeprefix('val_')} {value} after epoch {best['epoch']:.0f}"
        test = self.test_accuracy
        test_text = "" if test is None else f"; test accuracy of the last weights {test:.2%}"
        return f"{words} of {len(self.history)}{test_text}"

    def page(self) -> Page:
        """Returns the run as a page: curves, what the result is worth, data, recipe, and how to continue."""
        lead = f"{self.summary[0].upper()}{self.summary[1:]}. The best epoch is chosen by this value: it is optimistic."
        return run_page(self.folder, lead=lead, history=self.history, test=self.test_accuracy, remarks=self.remarks)

    def __repr__(self) -> str:
        test = "" if self.test_accuracy is None else f", test accuracy {self.test_accuracy:.4f}"
        best = "no epochs"
        if self.history:
            name = metric_of(self.best, self.monitor).name
            best = f"best {name} {self.best[name]:.4f}"
        name = self.folder.name if self.network is None else self.network.name
        return f"Trained({name[:40]!r}: {len(self.history)} epochs, {best}{test}, in {str(self.folder)[-60:]!r})"

    def _repr_html_(self) -> str:
        """Metrics of every epoch."""
        columns = [*self.history[0]] if self.history else []
        rows = [[_short(row.get(name)) for name in columns] for row in self.history]
        return html_table(columns, rows, title=repr(self), note="; ".join(self.remarks))


def _short(value: float | None) -> object:
    return round(value, 4) if isinstance(value, float) else value
