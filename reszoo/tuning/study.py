"""A study: its trials, the best of them, and its Pareto fronts."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from reszoo.errors import ReszooError
from reszoo.notebook import html_table
from reszoo.report.page import Page
from reszoo.report.write import write
from reszoo.training.run_folder import HISTORY
from reszoo.tuning.axes import Point
from reszoo.tuning.page import study_page
from reszoo.tuning.proposals import OUTCOME, PLACE, POINT, RETRY, SCORE as SCORE, is_proposal
from reszoo.tuning.results import Trial, best_of, front, fronts, numbers_to_keep, ranked
from reszoo.tuning.space import Space, space as get_space
from reszoo.tuning.storage import DATABASE, SETTINGS, connect, url_of
from reszoo.types import KerasModel
from reszoo.weights.formats.archives import is_zip

NOTE, COSTS, ROWS, BYTES = "note", "costs", "history", "bytes"
"""Names of trial attributes in the database: error message, costs, history, file size of the best weights."""

TABLE_ROWS = 10
"""Trials shown in a notebook."""


class Study:
    """The trials of a search and their results; `reszoo.search` runs one, `reszoo.open_study` opens one."""

    def __init__(self, engine: optuna.Study, folder: Path):
        self.engine = engine
        """The Optuna study, for Optuna's own tools."""
        self.folder = folder
        self.settings: dict[str, Any] = engine.user_attrs[SETTINGS]
        """The settings it was created with, as plain data."""
        self._damaged: dict[int, str] = {}
        self.check()

    def __repr__(self) -> str:
        trials = self.trials
        finished = ranked(trials)
        best = f", best score={finished[0].score:.4f} (trial {finished[0].number})" if finished else ""
        return f"{type(self).__name__}({str(self.folder)!r}, space={self.space.name!r}, {len(trials)} trials{best})"

    def _repr_html_(self) -> str:
        trials = self.trials
        finished = ranked(trials)
        columns = ["trial", "state", "score", "params", "MACs", "epochs", "values"]
        title = f"{self.space.name}: {len(trials)} trials, {len(finished)} of them finished"
        return html_table(columns, map(_table_row, finished[:TABLE_ROWS]), title=title, note=str(self.folder))

    @cached_property
    def space(self) -> Space:
        """The search space."""
        return get_space(Space.model_validate_json(json.dumps(self.settings["space"])))

    @property
    def trials(self) -> list[Trial]:
        """All trials, in the order of their proposals."""
        latest: dict[int, FrozenTrial] = {}
        for trial in self.engine.get_trials(deepcopy=False):
            if POINT in trial.user_attrs and (is_proposal(trial) or RETRY in trial.user_attrs):
                # Of a trial and those that resume it, the last one has the current state.
                latest[trial.user_attrs[PLACE]] = trial
        return [self._trial(number, latest[number]) for number in sorted(latest)]

    def best(self, **limits: float) -> Trial:
        """Returns the trial with the best score within limits: `best(max_params=3e5, max_macs=1e7)`.

        Raises:
            ReszooError: no finished trial is within the limits.
        """
        return best_of(self.trials, limits)

    def pareto(self, cost: str = "macs") -> list[Trial]:
        """Returns the Pareto front of score and a cost, cheapest first.

        Complete and pruned trials count alike: the score is that of the stored weights.

        Args:
            cost: params, macs, activations, depth, latency or seconds.

        Raises:
            ReszooError: an unknown cost, or one that was not measured.
        """
        return front(self.trials, cost)

    def fronts(self) -> dict[str, list[Trial]]:
        """Returns cost -> Pareto front, for all measured costs: params, macs, activations, depth, latency."""
        return fronts(self.trials)

    def rows(self) -> list[dict[str, Any]]:
        """Returns all trials as plain data: number, state, values, costs, score, epochs, learning curve."""
        return [trial.row() for trial in self.trials]

    def check(self) -> dict[int, str]:
        """Returns number -> file of trials whose weights are missing or truncated; their state becomes `damaged`."""
        self._damaged = {}
        trials = self.trials
        keep = numbers_to_keep(trials)
        for trial in ranked(trials):
            if trial.number in keep and not self._is_intact(trial):
                self._damaged[trial.number] = str(trial.weights)
        return self._damaged

    def page(self) -> Page:
        """Returns the study as a page: fronts, effects of every axis, learning curves, all trials, the best as YAML."""
        return study_page(self.trials, space=self.space.name, settings=self.settings)

    def write(self, folder: str | Path | None = None) -> Path:
        """Returns the path of `report.html`, written with its pictures into `folder`, by default the study's."""
        return write(self.page(), folder or self.folder)

    # The methods of keras-tuner's tuners.

    def get_best_models(self, num_models: int = 1) -> list[KerasModel]:
        """Returns the best networks with their weights; those of the three best trials are always kept."""
        return [trial.model() for trial in ranked(self.trials)[:num_models]]

    def get_best_hyperparameters(self, num_trials: int = 1) -> list[Point]:
        """Returns the points of the best trials."""
        return [trial.point for trial in ranked(self.trials)[:num_trials]]

    def results_summary(self, num_trials: int = 10) -> None:
        """Prints the best trials."""
        for trial in ranked(self.trials)[:num_trials]:
            values = ", ".join(f"{name} {value}" for name, value in trial.point.items())
            print(
                f"trial {trial.number}: {trial.score:.4f} ({trial.state}; {trial.costs['params']:,} params; {values})"
            )

    def _trial(self, number: int, trial: FrozenTrial) -> Trial:
        attributes = trial.user_attrs
        state = attributes.get(OUTCOME) or {"FAIL": "failed"}.get(trial.state.name, trial.state.name.lower())
        note = attributes.get(NOTE, "")
        if number in self._damaged:
            state = "damaged"
            note = f"{self._damaged[number]} is missing or truncated: train the trial again, or restore the file"
        point = attributes[POINT]
        spec = self.space.spec(point)
        if spec is None:
            hint = "the database belongs to another study"
            raise ReszooError(f"trial {number}", got="a point outside the space of the study", hint=hint)
        folder = self.folder / "trials" / f"{number:04d}"
        history = attributes.get(ROWS) or _read_history(folder / HISTORY)
        return Trial(
            number=number,
            state=state,
            point=point,
            spec=spec,
            score=attributes.get(SCORE),
            costs=attributes.get(COSTS, {}),
            history=tuple(history),
            folder=folder,
            note=note,
        )

    def _is_intact(self, trial: Trial) -> bool:
        sizes = [
            other.user_attrs[BYTES]
            for other in self.engine.get_trials(deepcopy=False)
            if other.user_attrs.get(PLACE) == trial.number and BYTES in other.user_attrs
        ]
        file = trial.weights
        return file.exists() and bool(sizes) and file.stat().st_size == sizes[0] and is_zip(file)


def _table_row(trial: Trial) -> tuple[object, ...]:
    values = ", ".join(f"{name} {value}" for name, value in trial.point.items())
    costs = (int(trial.costs["params"]), int(trial.costs["macs"]))
    return (trial.number, trial.state, f"{trial.score:.4f}", *costs, trial.epochs, values)


def _read_history(file: Path) -> list[dict[str, float]]:
    """The history of a run so far; empty while a line is being written."""
    try:
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError):
        return []


def open_study(folder: str | Path, *, storage: str | None = None, name: str = "reszoo") -> Study:
    """Returns the study in a folder, for reading.

    Example:
        >>> import reszoo
        >>> reszoo.open_study("nowhere")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        reszoo.errors.ReszooError: nowhere: got no study.db; expected ...

    Args:
        folder: of the study.
        storage: URL of its database, where that is not in the folder.
        name: of the study in the database.

    Raises:
        ReszooError: there is no study.
    """
    folder = Path(folder).expanduser()
    if storage is None and not (folder / DATABASE).exists():
        raise ReszooError(str(folder), got=f"no {DATABASE}", expected="the folder of a study (reszoo search)")
    try:
        engine = optuna.load_study(storage=connect(storage or url_of(folder)), study_name=name)
    except KeyError:
        raise ReszooError("storage", got=f"no study {name!r}", hint="create it with reszoo.search") from None
    return Study(engine, folder)
