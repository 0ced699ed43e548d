"""A study as it stands: what was tried, what it reached, and what is best for a cost."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna

from reszoo.errors import ReszooError
from reszoo.report.page import Page
from reszoo.report.write import write
from reszoo.training.run_folder import HISTORY
from reszoo.tuning.page import study_page
from reszoo.tuning.proposals import OUTCOME, PLACE, POINT, RETRY, counts
from reszoo.tuning.results import Trial, best_of, front, fronts, kept, ranked
from reszoo.tuning.space import Space, space as opened
from reszoo.tuning.storage import DATABASE, SETTINGS, connect, url_of
from reszoo.weights.formats.archives import is_zip

NOTE, SCORE, COSTS, ROWS, BYTES = "note", "score", "costs", "history", "bytes"
"""Names of a trial's attributes: what went wrong, its score, its costs, its history, the size of its weights."""


class Study:
    """What a search has found; `reszoo.search` makes one, `reszoo.open_study` opens one."""

    def __init__(self, engine: optuna.Study, folder: Path):
        self.engine = engine
        """The Optuna study, for optuna's own tools."""
        self.folder = folder
        self.settings: dict[str, Any] = engine.user_attrs[SETTINGS]
        """What the study was begun with."""
        self._damaged: dict[int, str] = {}
        self.check()

    @cached_property
    def space(self) -> Space:
        """The space that is searched."""
        return opened(Space.model_validate_json(json.dumps(self.settings["space"])))

    @property
    def trials(self) -> list[Trial]:
        """Every network that was proposed, in order."""
        found: dict[int, Any] = {}
        for trial in self.engine.get_trials(deepcopy=False):
            if POINT in trial.user_attrs and (counts(trial) or RETRY in trial.user_attrs):
                # Of a trial and those that stand in for it, the last one tells how it stands.
                found[trial.user_attrs[PLACE]] = trial
        return [self._told(place, found[place]) for place in sorted(found)]

    def best(self, **limits: float) -> Trial:
        """Returns the trial of the greatest score, within limits: `best(max_params=3e5, max_macs=1e7)`.

        Raises:
            ReszooError: no finished trial is.
        """
        return best_of(self.trials, limits)

    def pareto(self, cost: str = "macs") -> list[Trial]:
        """Returns the trials that no other one beats in both score and a cost, the cheapest first.

        Finished runs and runs that were ended early count alike: the score is what the kept weights reach.

        Args:
            cost: params, macs, activations, depth, latency or seconds.

        Raises:
            ReszooError: no such cost, or it was not measured.
        """
        return front(self.trials, cost)

    def fronts(self) -> dict[str, list[Trial]]:
        """Returns the fronts of all costs that were measured: params, macs, activations, depth, latency."""
        return fronts(self.trials)

    def rows(self) -> list[dict[str, Any]]:
        """Returns all trials as plain data: number, state, values, costs, score, epochs, learning curve."""
        return [trial.row() for trial in self.trials]

    def check(self) -> dict[int, str]:
        """Returns kept weights that are missing or cut short, by trial: these trials are set aside, and no others."""
        self._damaged = {}
        trials = self.trials
        keep = kept(trials)
        for trial in ranked(trials):
            if trial.number in keep and not self._is_whole(trial):
                self._damaged[trial.number] = str(trial.weights)
        return self._damaged

    def page(self) -> Page:
        """Returns the study as a page: fronts, what depth and width do, curves, all trials, the best as YAML."""
        return study_page(self.trials, space=self.space.name, settings=self.settings)

    def write(self, folder: str | Path | None = None) -> Path:
        """Writes the page, `report.html`, with its pictures, and returns it; by default into the study's own folder."""
        return write(self.page(), folder or self.folder)

    # keras-tuner's names.

    def get_best_models(self, num_models: int = 1) -> list[Any]:
        """Returns the best networks with their weights; at most three are sure to be kept."""
        return [trial.model() for trial in ranked(self.trials)[:num_models]]

    def get_best_hyperparameters(self, num_trials: int = 1) -> list[dict[str, Any]]:
        """Returns the answers of the best trials."""
        return [trial.point for trial in ranked(self.trials)[:num_trials]]

    def results_summary(self, num_trials: int = 10) -> None:
        """Prints the best trials."""
        for trial in ranked(self.trials)[:num_trials]:
            said = ", ".join(f"{name} {answer}" for name, answer in trial.point.items())
            print(f"trial {trial.number}: {trial.score:.4f} ({trial.state}; {trial.costs['params']:,} params; {said})")

    def _told(self, place: int, trial: Any) -> Trial:
        told = trial.user_attrs
        state = told.get(OUTCOME) or {"FAIL": "failed"}.get(trial.state.name, trial.state.name.lower())
        folder = self.folder / "trials" / f"{place:04d}"
        note = told.get(NOTE, "")
        if place in self._damaged:
            state, note = "damaged", f"{self._damaged[place]} is missing or cut short: train it again, or put it back"
        spec = self.space.spec(told[POINT])
        if spec is None:
            raise ReszooError(f"trial {place}", got="a point of another space", hint="this study is another's")
        rows = told.get(ROWS) or _rows(folder / HISTORY)
        return Trial(place, state, told[POINT], spec, told.get(SCORE), told.get(COSTS, {}), tuple(rows), folder, note)

    def _is_whole(self, trial: Trial) -> bool:
        record = next(
            (
                other.user_attrs
                for other in self.engine.get_trials(deepcopy=False)
                if other.user_attrs.get(PLACE) == trial.number and BYTES in other.user_attrs
            ),
            {},
        )
        file = trial.weights
        return file.exists() and file.stat().st_size == record.get(BYTES) and is_zip(file)


def _rows(file: Path) -> list[dict[str, float]]:
    """The history of a run so far; its last line may be on its way."""
    try:
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError):
        return []


def open_study(folder: str | Path, *, storage: str | None = None, name: str = "reszoo") -> Study:
    """Returns the study of a folder, for reading.

    Args:
        folder: of the study.
        storage: address of its database, where that is not in the folder.
        name: of the study in the database.

    Raises:
        ReszooError: there is none.
    """
    folder = Path(folder).expanduser()
    if storage is None and not (folder / DATABASE).exists():
        raise ReszooError(str(folder), got=f"no {DATABASE}", expected="the folder of a study (reszoo search)")
    try:
        engine = optuna.load_study(storage=connect(storage or url_of(folder)), study_name=name)
    except KeyError:
        raise ReszooError("storage", got=f"no study {name!r}", hint="search first") from None
    return Study(engine, folder)
