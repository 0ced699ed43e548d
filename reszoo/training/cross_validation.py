"""Cross-validation: a run for every fold of the data, each in a folder of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from reszoo.arch.spec import NetSpec
from reszoo.data.sources import DataSource, open_data
from reszoo.errors import ReszooError
from reszoo.notebook import html_table
from reszoo.training.defaults import arguments_of
from reszoo.training.recipes import metric_of
from reszoo.training.train import train
from reszoo.training.trained import Trained

OPENING = ("size", "target", "task", "channels", "groups", "sample_weight", "seed")
"""Arguments of `open_data`; the others belong to `train`."""


@dataclass(frozen=True)
class CrossValidation:
    """The runs of all folds."""

    runs: tuple[Trained, ...]

    @property
    def metric(self) -> str:
        """Name of the metric by which epochs are compared."""
        return metric_of(self.runs[0].best, self.runs[0].monitor).name

    @property
    def values(self) -> tuple[float, ...]:
        """The metric after the last epoch of every fold: unlike the best epoch's, it is not selected by itself."""
        return tuple(run.history[-1][self.metric] for run in self.runs)

    @property
    def mean(self) -> float:
        """Mean over the folds."""
        return mean(self.values)

    @property
    def spread(self) -> float:
        """Standard deviation over the folds."""
        return stdev(self.values)

    def __repr__(self) -> str:
        return f"CrossValidation({len(self.runs)} folds: {self.metric} {self.mean:.4f}, deviation {self.spread:.4f})"

    def _repr_html_(self) -> str:
        """The metric of every fold."""
        rows = [(number, round(value, 4)) for number, value in enumerate(self.values, 1)]
        return html_table(("fold", self.metric), rows, title=repr(self))


def cross_validate(
    model: str | NetSpec, source: DataSource, /, *, output: str | Path, folds: int = 5, **settings: Any
) -> CrossValidation:
    """Returns the runs of all folds; each is trained on the other folds, in the folder `fold1`, `fold2`, ...

    Safe to interrupt: the same call resumes. Results are those after the last epoch of every fold.

    Args:
        model: see `train`.
        source: a source (see `open_data`).
        output: folder of the runs' folders.
        folds: number of folds, at least 2.
        settings: as in `train` and `open_data`.

    Raises:
        ReszooError: fewer than two folds, or as for `train`.
    """
    if folds < 2:
        raise ReszooError("folds", got=folds, expected="at least 2")
    opening: dict[str, Any] = {name: settings[name] for name in OPENING if name in settings}
    training = {name: value for name, value in settings.items() if name not in OPENING or name == "seed"}
    opening |= arguments_of(model, source, opening, output=output, weights=settings.get("weights"))
    openings = [opening | {"folds": folds, "fold": fold} for fold in range(folds)]
    parts = [open_data(source, **each) for each in openings]
    folder = Path(output).expanduser()
    runs = [train(model, data, output=folder / f"fold{number}", **training) for number, data in enumerate(parts, 1)]
    return CrossValidation(tuple(runs))
