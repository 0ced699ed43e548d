"""The search: trials in worker processes, stored where other processes and machines can join and resume it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from numbers import Integral
from pathlib import Path
from typing import Any

from filelock import FileLock

from reszoo.data.labels import Task
from reszoo.data.pictures import Channels
from reszoo.data.sources import Data, DataSource
from reszoo.errors import ReszooError
from reszoo.training.evaluate import Evaluation, evaluate
from reszoo.training.recipes import Recipe
from reszoo.training.run_folder import usable
from reszoo.tuning.axes import Point
from reszoo.tuning.budget import Budget
from reszoo.tuning.extension import extendable, take_over
from reszoo.tuning.job import Source
from reszoo.tuning.measures import directions
from reszoo.tuning.outputs import SOURCE
from reszoo.tuning.queue import enqueue
from reszoo.tuning.results import Trial, tidy
from reszoo.tuning.scheduler import Scheduler
from reszoo.tuning.setup import prepare
from reszoo.tuning.space import Space
from reszoo.tuning.storage import (
    DATABASE,
    GRACE,
    HEARTBEAT,
    connect,
    create_or_load,
    has_trials,
    quiet,
    recorded_settings,
    use_of,
)
from reszoo.tuning.study import Study
from reszoo.tuning.worker_process import Worker


def search(
    space: str | Space,
    data: Data | DataSource,
    /,
    *,
    folder: str | Path,
    trials: int = 40,
    jobs: int = 1,
    seconds: float | None = None,
    watch: Callable[[Study], None] | None = None,
    **settings: Any,
) -> Search:
    """Returns a search after its trials: networks of a space, trained on data, within a budget.

    It is safe to kill at any moment: call it again with the same settings to resume. Several processes, on one machine
    or many, share the work when they are started on the same folder or database; without a common disk, each machine
    keeps the weights of the trials that it trained.

    Example:
        >>> import reszoo
        >>> study = reszoo.search(
        ...     "digits_small", "digits", folder="runs/s", budget={"macs": 2e6}, trials=12
        ... )  # doctest: +SKIP
        >>> study.best().model()  # doctest: +SKIP

    Args:
        space: a space or its name (`reszoo.list_spaces()`); it is adapted to the data's shape and classes.
        data: what `open_data` takes, or a `Data`.
        folder: of the study.
        trials: total number, including earlier calls.
        jobs: parallel trials of this process, each in its own worker process.
        seconds: time limit; no new epoch starts after it, and unfinished trials can be resumed.
        watch: called with the study after every epoch and every trial; an error in it is a warning.
        settings: keyword arguments of `Search`.

    Raises:
        ReszooError: invalid settings; no network within budget; a study with other settings; builds that fail.
    """
    return Search(space, data, folder=folder, **settings).search(trials=trials, jobs=jobs, seconds=seconds, watch=watch)


def _check_numbers(least: int, **numbers: int) -> None:
    """Refuses arguments that are no whole numbers, or too small ones."""
    for where, number in numbers.items():
        if not isinstance(number, Integral) or isinstance(number, bool) or number < least:
            raise ReszooError(where, got=repr(number), expected=f"a whole number, at least {least}")


def _locked(folder: Path) -> FileLock:
    """The lock of a study's folder, acquired; the folder exists then.

    Raises:
        ReszooError: the folder cannot be written.
    """
    with usable(folder, hint="reszoo.open_study reads a study in such a folder"):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / "begin.lock")
        lock.acquire()
    return lock


class Search(Study):
    """A study that can be run and resumed.

    Args:
        space: as in `search`.
        data: as in `search`.
        folder: as in `search`.
        recipe: a recipe or its name; by default one for the kind of data and the number of examples, as in
            `reszoo.train`.
        changes: fixed changes to the network, as in `reszoo.train`; not of what the space searches.
        budget: `Budget`, or its limits: `{"macs": 2e6}`.
        objective: a measure of the validation examples after the best epoch, or a list of it, further measures and
            costs to minimize (params, macs, activations, depth, latency). Of classes: accuracy, balanced_accuracy, f1,
            auc, top5, loss; of several labels: map, f1, auc, accuracy, loss; of numbers: rmse, mae, r2, loss. The first
            of a task is its default.
        sampler: gp (a Gaussian process: the network that promises most improvement for its MACs), tpe, nsga2 (for
            several objectives), random or grid; by default that of the study, and gp in a new one.
        pruning: `halving` ends runs that fall behind (asynchronous successive halving), the default for one objective;
            `none`, for several.
        seed: random seed (proposals, split of the data, initial weights, shuffling, augmentation).
        storage: an SQLAlchemy URL, such as `postgresql+psycopg://user@host/base`; by default a file in the folder.
        name: of the study in the database.
        size, validation, test, target, task, channels: arguments of `open_data`. No trial sees the test part; see
            `test_best`.
        folds: number of folds; the score is the median over the runs of all folds, whose validation parts are the
            folds. Runs are compared by the first fold.
        extends: folder of another study on the same data whose finished trials are taken over, those whose points are
            in this space and within this budget; with more epochs, its best three continue from their weights instead.
        callbacks: additional Keras callbacks; those of a script or a notebook are pickled by value.
        retries: attempts after the first, where a worker process dies.
        stall: seconds without a message, at least, after which a worker counts as hanging; an epoch may also last ten
            times as long as the longest one before. A worker that hangs is ended, and its trial tried once more.
        heartbeat, grace: seconds between signs of life, and until a trial without one is resumed by another process.
        recipe_changes: changed fields of the recipe: `epochs=9, batch=64`; `class_weight` as in Keras.
    """

    worker: Callable[[], Worker] = Worker
    """Creates what trains; called once for every parallel job."""

    def __init__(
        self,
        space: str | Space,
        data: Data | DataSource,
        /,
        *,
        folder: str | Path,
        recipe: str | Recipe | None = None,
        changes: Mapping[str, object] | None = None,
        budget: Budget | Mapping[str, float] | None = None,
        objective: str | Sequence[str] | None = None,
        sampler: str | None = None,
        pruning: str | None = None,
        seed: int = 0,
        storage: str | None = None,
        name: str = "reszoo",
        size: int | None = None,
        validation: DataSource | None = None,
        test: DataSource | None = None,
        target: str | Sequence[str] | None = None,
        task: Task | None = None,
        channels: Channels | None = None,
        folds: int | None = None,
        extends: str | Path | None = None,
        callbacks: tuple[object, ...] = (),
        retries: int = 1,
        stall: float = 300.0,
        heartbeat: int = HEARTBEAT,
        grace: int = GRACE,
        **recipe_changes: object,
    ):
        folder = Path(folder).expanduser()
        _check_numbers(0, retries=retries)
        if not (isinstance(stall, int | float) and stall > 0):
            raise ReszooError("stall", got=repr(stall), expected="a number of seconds, above 0")
        _check_numbers(1, heartbeat=heartbeat)
        # A process that gives fewer signs of life would lose its trials.
        _check_numbers(heartbeat + 1, grace=grace)
        self.setup = prepare(
            space,
            Source(data, size, validation, test, target, task, channels, seed, folds),
            folder=folder,
            recipe=recipe,
            recipe_changes=recipe_changes,
            changes=changes or {},
            budget=budget,
            objective=objective,
            sampler=sampler or "gp",
            pruning=pruning,
            callbacks=callbacks,
            retries=retries,
            stall=stall,
            worker=self.worker,
        )
        self.setup.feasible.check_any()
        # A study that has begun has what it took over: the other one may be gone.
        begun = extends is None or has_trials(storage or folder / DATABASE, name)
        other = None if begun or extends is None else extendable(extends, self.setup)
        # Processes that start together must create the tables one after another.
        with _locked(folder), use_of(folder):
            self.storage = connect(storage or folder / DATABASE, heartbeat=heartbeat, grace=grace)
            before = recorded_settings(self.storage, name)
            if before:
                self.setup = self.setup.resumed(before, sampler=sampler)
            engine = create_or_load(
                self.storage, name, directions(self.setup.objectives), self.setup.settings, folder=folder
            )
            record = self.setup.source.record()
            if record and SOURCE not in engine.user_attrs:
                engine.set_user_attr(SOURCE, record)
            if other is not None and not engine.get_trials(deepcopy=False):
                left_out = take_over(engine, other, self.setup, folder=folder)
                if left_out:
                    warnings.warn(left_out, stacklevel=2)
        super().__init__(engine, folder)
        for preset in self.space.presets:
            if self.setup.feasible.has(preset):
                self.enqueue(preset)

    @cached_property
    def fraction(self) -> float:
        """Share of random points of the space whose networks are within the counted limits."""
        return self.setup.feasible.fraction()

    def enqueue(self, point: Point) -> Search:
        """Returns this study, in which a known point is tried next; one that is tried already is left out.

        Args:
            point: a value for every axis that applies, as in `trial.point`.

        Raises:
            ReszooError: a point outside the space or over budget.
        """
        with quiet, use_of(self.folder):
            enqueue(self.engine, point, self.setup.feasible, self.setup.proposals)
        return self

    def test_best(self, trial: Trial | None = None) -> Evaluation:
        """Returns the measures of the best trial on the test part, which no trial has seen.

        Args:
            trial: another trial; the more are tested, the more optimistic the best of them.

        Raises:
            ReszooError: the data have no test part, or the weights are not here.
        """
        data = self.setup.source.open()
        if data.test is None:
            raise ReszooError("test_best", got="data without a test part", expected="a source", hint="test=...")
        chosen = trial or self.best()
        chosen.check_weights()
        return evaluate(chosen.weights, data, part="test")

    def _source(self, data: Data | DataSource | Source | None) -> Source:
        return self.setup.source if data is None else super()._source(data)

    def _worker(self) -> Worker:
        return self.worker()

    def _data(self, data: Data | DataSource | None, options: dict[str, Any]) -> Data:
        return self.setup.source.open() if data is None else super()._data(data, options)

    def search(
        self,
        *,
        trials: int = 40,
        jobs: int = 1,
        seconds: float | None = None,
        watch: Callable[[Study], None] | None = None,
    ) -> Search:
        """Returns this study after `trials` trials in total; the arguments are those of `reszoo.search`."""
        _check_numbers(1, trials=trials, jobs=jobs)
        if seconds is not None and not (isinstance(seconds, int | float) and seconds >= 0):
            raise ReszooError("seconds", got=repr(seconds), expected="a number, at least 0, or None")
        if watch is not None and not callable(watch):
            raise ReszooError("watch", got=repr(watch), expected="a function of the study")
        with quiet:
            Scheduler(self.setup, self, self.storage, trials=trials, seconds=seconds, watch=watch).run(jobs=jobs)
        tidy(self.trials)
        self.check()
        return self
