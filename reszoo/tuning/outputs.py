"""What a study hands out: a leaderboard, the files of a network, and a longer training of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna

from reszoo.data.sources import Data, DataSource
from reszoo.errors import ReszooError
from reszoo.training.run_folder import usable
from reszoo.training.trained import Trained
from reszoo.tuning.ensemble import Ensemble, average
from reszoo.tuning.leaderboard import Leaderboard, leaderboard
from reszoo.tuning.production import Part, export, open_again, refit
from reszoo.tuning.results import Trial, ranked

SOURCE = "source"
"""The study attribute that says how its data were opened."""


class Outputs(ABC):
    """The part of a study that hands out results."""

    engine: optuna.Study
    settings: dict[str, Any]

    @property
    @abstractmethod
    def trials(self) -> list[Trial]:
        """All trials, in the order of their proposals."""

    @abstractmethod
    def best(self, **limits: float) -> Trial:
        """Returns the trial with the best score within limits."""

    def leaderboard(self) -> Leaderboard:
        """Returns the finished trials, best first, with 95 % intervals of their scores."""
        return leaderboard(self.trials, self.settings)

    def ensemble(self, size: int = 3, /, *, data: Data | DataSource | None = None) -> Ensemble:
        """Returns the average of the best networks, and whether it is better than the best one on validation examples.

        `study.ensemble(3).save("ensemble.keras")` writes it as one ordinary Keras model.

        Args:
            size: number of networks; the weights of the three best are kept.
            data: by default those of the study.

        Raises:
            ReszooError: fewer than two networks, missing weights, data without classes, or a study with folds.
        """
        if self.settings.get("folds"):
            raise ReszooError("ensemble", got="a study with folds", expected="one validation part")
        return average(ranked(self.trials)[:size], self._data(data, {}))

    def write_logs(self, folder: str | Path, /) -> Path:
        """Returns a folder after writing a TensorBoard log of every trial, with its values as hyperparameters.

        Args:
            folder: a new or an empty one; show it by `tensorboard --logdir FOLDER`.

        Raises:
            ReszooError: the folder has files, or cannot be written.
        """
        return write_logs(self.trials, Path(folder).expanduser())

    def export(self, output: str | Path, /, *, trial: int | None = None, overwrite: bool = False) -> Path:
        """Returns the path of `model.keras` after writing a network, its recipe, its weights and a card into a folder.

        `reszoo.evaluate`, `reszoo.predict` and `reszoo.deploy` need that file alone.

        Args:
            output: the folder.
            trial: number of the trial; by default the best one.
            overwrite: whether files of an earlier call are replaced.

        Raises:
            ReszooError: no such trial, its weights are missing or damaged, or the folder cannot be used.
        """
        folder = Path(output).expanduser()
        return export(self._numbered(trial), folder, self.leaderboard(), self.settings, overwrite=overwrite)

    def refit(
        self,
        output: str | Path,
        /,
        *,
        trial: int | None = None,
        part: Part = "all",
        data: Data | DataSource | None = None,
        size: int | None = None,
        target: str | None = None,
        **options: Any,
    ) -> Trained:
        """Returns a run that trains a network of the study by its recipe from the start, in a run folder of its own.

        The folder also holds network, recipe and card. The same call resumes an interrupted run.

        Args:
            output: the run folder.
            trial: number of the trial; by default the best one.
            part: `all` trains on the training and the validation examples together; `train` holds the validation
                examples out, as the search did.
            data: by default those of the study, which are recorded for files, folders and named data sets.
            size: argument of `open_data`; by default as in the study.
            target: argument of `open_data`; by default as in the study.
            options: further arguments of `reszoo.train`: `epochs=40`, `verbose=0`, other fields of the recipe.

        Raises:
            ReszooError: no such trial, unknown or other data, or a folder that cannot be used.
        """
        chosen = self._numbered(trial)
        opened = self._data(data, {"size": size, "target": target})
        return refit(chosen, opened, Path(output).expanduser(), self.leaderboard(), part=part, **options)

    def _numbered(self, number: int | None) -> Trial:
        """A trial by its number; the best one by default."""
        if number is None:
            return self.best()
        trials = {trial.number: trial for trial in self.trials}
        if number not in trials:
            expected = f"0 to {max(trials)}" if trials else "a trial, but there is none"
            raise ReszooError("trial", got=number, expected=expected)
        if trials[number].score is None:
            raise ReszooError("trial", got=f"{number}, {trials[number].state}", expected="a trial with a score")
        return trials[number]

    def _data(self, data: Data | DataSource | None, options: dict[str, Any]) -> Data:
        """The data of the study, or others of the same shape and classes."""
        return open_again(self.engine.user_attrs.get(SOURCE, {}), self.settings, data, options)


def write_logs(trials: Sequence[Trial], folder: Path) -> Path:
    """Returns a folder after writing one log per trial: values of the axes, costs, the metrics of every epoch.

    They come from the database, so that no trial needs to keep logs of its own.

    Args:
        trials: of a study; those without an epoch are left out.
        folder: a new or an empty one, for `tensorboard --logdir`.

    Raises:
        ReszooError: the folder has files, which TensorBoard would show, too.
    """
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    with usable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ReszooError(str(folder), got="a folder with files", expected="a new or an empty folder")
        for trial in trials:
            if not trial.history:
                continue
            writer = EventFileWriter(str(folder / f"{trial.number:04d}"))
            settings = {**trial.point, "state": trial.state}
            writer.add_event(Event(summary=hparams_pb(settings, trial_id=f"{trial.number:04d}", start_time_secs=0)))
            costs = [Summary.Value(tag=f"cost/{name}", simple_value=cost) for name, cost in trial.costs.items()]
            writer.add_event(Event(summary=Summary(value=costs), step=0))
            for row in trial.history:
                values = [Summary.Value(tag=name, simple_value=value) for name, value in row.items() if name != "epoch"]
                writer.add_event(Event(summary=Summary(value=values), step=int(row["epoch"])))
            writer.close()
    return folder
