"""A study: its trials, the best of them, and its Pareto fronts."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from socket import gethostname
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from reszoo.data.labels import Task
from reszoo.data.sources import Data, DataSource
from reszoo.errors import ReszooError
from reszoo.files import write_file
from reszoo.notebook import html_table
from reszoo.report.page import Page
from reszoo.report.write import write
from reszoo.training.recipes import Recipe
from reszoo.training.run_folder import HISTORY
from reszoo.tuning.axes import Point
from reszoo.tuning.job import Source
from reszoo.tuning.measures import metric, objectives_of
from reszoo.tuning.outputs import SOURCE, Outputs
from reszoo.tuning.page import study_page, trials_csv
from reszoo.tuning.proposals import OUTCOME, PLACE, POINT, PROCESS, RETRY, SCORE, START, derive_seed, is_proposal
from reszoo.tuning.results import Trial, best_of, front, fronts, numbers_to_keep, ranked
from reszoo.tuning.space import Candidate, Space, space as get_space
from reszoo.tuning.storage import DATABASE, SETTINGS, connect, foreign_study_error, space_in, use_of
from reszoo.tuning.trainer import retrain
from reszoo.tuning.worker_process import Worker
from reszoo.types import KerasModel
from reszoo.weights.formats.archives import is_zip

NOTE, COSTS, ROWS, ORIGIN = "note", "costs", "history", "origin"
"""Names of trial attributes in the database: error message, costs, history, host and folder of the weights."""
TABLE_ROWS = 10
"""Trials shown in a notebook."""


class Study(Outputs):
    """The trials of a search and their results; `reszoo.search` runs one, `reszoo.open_study` opens one."""

    def __init__(self, engine: optuna.Study, folder: Path):
        self.engine = engine
        """The Optuna study, for Optuna's own tools."""
        self.folder = folder
        self.settings: dict[str, Any] = engine.user_attrs[SETTINGS]
        """The settings it was created with, as plain data."""
        self._damaged: dict[int, str] = {}
        self._candidates: dict[str, Candidate | None] = {}
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
        return get_space(Space.model_validate_json(json.dumps(space_in(self.settings))))

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe, which the points of a space may change."""
        return Recipe.model_validate_json(json.dumps(self.settings["recipe"]))

    @property
    def task(self) -> Task:
        """What the labels are."""
        task: Task = self.settings["data"].get("task", "classification")
        return task

    @property
    def objectives(self) -> tuple[str, ...]:
        """A measure, which is the score, then further measures and costs."""
        return objectives_of(self.settings["objective"], self.task)

    @property
    def trials(self) -> list[Trial]:
        """All trials, in the order of their proposals."""
        latest: dict[int, FrozenTrial] = {}
        with use_of(self.folder):
            trials = self.engine.get_trials(deepcopy=False)
        for trial in trials:
            if POINT in trial.user_attrs and (is_proposal(trial) or RETRY in trial.user_attrs):
                # Of a trial and those that resume it, the last one has the current state.
                latest[trial.user_attrs[PLACE]] = trial
        return [self._trial(number, latest[number]) for number in sorted(latest)]

    def best(self, **limits: float) -> Trial:
        """Returns the trial with the best score within limits: `best(max_params=3e5, max_macs=1e7)`.

        Only trials that were trained to their end count. It is the same on every machine; where its weights are missing
        or on another one, `model()` says so, and `retrain()` trains them again.

        Raises:
            ReszooError: no such trial is within the limits.
        """
        return best_of(self.trials, limits)

    def pareto(self, cost: str = "macs") -> list[Trial]:
        """Returns the Pareto front of score and a cost, cheapest first: trials that were trained to their end.

        Args:
            cost: params, macs, activations, depth, latency or seconds.

        Raises:
            ReszooError: an unknown cost, or one that was not measured.
        """
        return front(self.trials, cost)

    def fronts(self) -> dict[str, list[Trial]]:
        """Returns cost -> Pareto front, for all measured costs: params, macs, activations, depth, latency."""
        return fronts(self.trials)

    def rows(self) -> list[dict[str, object]]:
        """Returns all trials as plain data: number, state, values, costs, score, epochs, learning curve."""
        return [trial.row() for trial in self.trials]

    def check(self) -> dict[int, str]:
        """Returns number -> file of trials whose weights on this machine are missing or truncated.

        Their state becomes `damaged`; their results stay, and `retrain` trains them again.
        """
        self._damaged = {}
        trials = self.trials
        keep = numbers_to_keep(trials)
        for trial in ranked(trials):
            file = trial.weights
            missing = not file.exists() and trial.host in ("", gethostname())
            if trial.number in keep and (missing or (file.exists() and not is_zip(file))):
                self._damaged[trial.number] = str(file)
        return self._damaged

    def retrain(self, trial: Trial | int, /, *, data: Data | DataSource | Source | None = None) -> Trial:
        """Returns a trial after it was trained again here, from its seed and recipe, because its weights were lost.

        On the same machine history and score are the same as before; on another one they may differ by rounding. The
        results in the database stay.

        Args:
            trial: a trial of this study, or its number.
            data: what `open_data` takes; by default those of the study, which are recorded for files, folders and named
                data sets.

        Raises:
            ReszooError: no such trial, other data, or a training that fails.
        """
        number = trial if isinstance(trial, int) else trial.number
        with use_of(self.folder):
            retrain(self._numbered(number), self.settings, self._source(data), worker=self._worker())
        self.check()
        return self._numbered(number)

    def _source(self, data: Data | DataSource | Source | None) -> Source:
        record = {"data": data} if data is not None else self.engine.user_attrs.get(SOURCE, {})
        if not record:
            hint = "pass them: study.retrain(number, data=...)"
            raise ReszooError("retrain", got="a study on data in memory", expected="the data of the study", hint=hint)
        return data if isinstance(data, Source) else Source(**record, seed=int(self.settings["seed"]))

    def _worker(self) -> Worker:
        return Worker()

    def page(self) -> Page:
        """Returns the study as a page: fronts, effects of every axis, learning curves, all trials, the best as YAML."""
        return study_page(self.trials, space=self.space, settings=self.settings, folder=self.folder)

    def write(self, folder: str | Path | None = None) -> Path:
        """Returns the path of `report.html`, written into `folder`, by default the study's.

        Its pictures and `trials.csv` are beside it.
        """
        page, folder = self.page(), Path(folder or self.folder)
        with use_of(folder):
            file = write(page, folder)
            write_file(file.with_name("trials.csv"), trials_csv(self.trials))
        return file

    # The methods of keras-tuner's tuners.

    def get_best_models(self, num_models: int = 1) -> list[KerasModel]:
        """Returns the best networks with their weights, those of the three best trials."""
        return [trial.model() for trial in ranked(self.trials)[:num_models]]

    def get_best_hyperparameters(self, num_trials: int = 1) -> list[Point]:
        """Returns the points of the best trials."""
        return [trial.point for trial in ranked(self.trials)[:num_trials]]

    def results_summary(self, num_trials: int = 10) -> None:
        """Prints the best trials."""
        for trial in ranked(self.trials)[:num_trials]:
            values = ", ".join(f"{name} {value}" for name, value in trial.point.items())
            text = f"{trial.state}; {trial.costs['params']:,} params; {values}"
            print(f"trial {trial.number}: {trial.score:.4f} ({text})")

    def _trial(self, number: int, trial: FrozenTrial) -> Trial:
        attributes = trial.user_attrs
        outcome = attributes.get(OUTCOME) or {"FAIL": "failed"}.get(trial.state.name, trial.state.name.lower())
        note = attributes.get(NOTE, "")
        if number in self._damaged:
            note = f"{self._damaged[number]} is missing or truncated: restore it, or study.retrain({number})"
        point = attributes[POINT]
        candidate = self._candidate(point)
        folder = self.folder / "trials" / f"{number:04d}"
        history = attributes.get(ROWS) or _read_history(folder / HISTORY)
        start = attributes.get(START)
        host, origin = attributes.get(ORIGIN) or ((attributes.get(PROCESS) or [""])[0], None)
        return Trial(
            number=number,
            state="damaged" if number in self._damaged else outcome,
            point=point,
            spec=candidate.spec,
            score=attributes.get(SCORE),
            costs=attributes.get(COSTS, {}),
            history=tuple(history),
            folder=folder,
            note=note,
            outcome=outcome,
            recipe=candidate.recipe,
            seed=derive_seed(self.settings["seed"], "trial", number),
            measure=metric(self.objectives[0]),
            task=self.task,
            steps=candidate.recipe.epochs * -(-int(self.settings["data"]["train"]) // candidate.recipe.batch),
            start=str((self.folder / start).absolute()) if start else candidate.weights,
            host=host,
            origin=None if origin is None else Path(origin),
        )

    def _candidate(self, point: Point) -> Candidate:
        """Network and recipe of a point, kept: every look at the trials asks for them."""
        key = json.dumps(point)
        if key not in self._candidates:
            self._candidates[key] = self.space.candidate(point, self.recipe)
        candidate = self._candidates[key]
        if candidate is None:
            hint = "the database belongs to another study"
            raise ReszooError(f"point {key}", got="a point outside the space of the study", hint=hint)
        return candidate


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
        with use_of(folder):
            engine = optuna.load_study(storage=connect(storage or folder / DATABASE), study_name=name)
    except KeyError:
        raise ReszooError("storage", got=f"no study {name!r}", hint="create it with reszoo.search") from None
    if SETTINGS not in engine.user_attrs:
        raise foreign_study_error(name)
    return Study(engine, folder)
