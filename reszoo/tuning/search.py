"""The search: trials in worker processes, stored where other processes and machines can join and resume it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from reszoo.errors import ReszooError
from reszoo.training.recipes import Recipe
from reszoo.tuning.budget import Budget
from reszoo.tuning.job import Source
from reszoo.tuning.results import tidy
from reszoo.tuning.scheduler import Scheduler
from reszoo.tuning.setup import prepare
from reszoo.tuning.space import Space
from reszoo.tuning.storage import GRACE, HEARTBEAT, connect, create_or_load, quiet, recorded_settings, url_of
from reszoo.tuning.study import Study
from reszoo.tuning.worker_process import Worker


def search(
    space: str | Space,
    data: Any,
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
    or many, share the work when they are started on the same folder or database.

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
        watch: called with the study after every epoch and every trial.
        settings: keyword arguments of `Search`.

    Raises:
        ReszooError: invalid settings; no network within budget; a study with other settings; builds that fail.
    """
    return Search(space, data, folder=folder, **settings).search(trials=trials, jobs=jobs, seconds=seconds, watch=watch)


class Search(Study):
    """A study that can be run and resumed.

    Args:
        space: as in `search`.
        data: as in `search`.
        folder: as in `search`.
        recipe: a recipe or its name; by default one for the kind of data.
        budget: `Budget`, or its limits: `{"macs": 2e6}`.
        objective: `accuracy` (best validation accuracy after any epoch), or a list of it and costs to minimize.
        sampler: gp (a Gaussian process: the network that promises most improvement for its MACs), tpe, nsga2 (for
            several objectives), random or grid; by default that of the study, and gp in a new one.
        pruning: `halving` ends runs that fall behind (asynchronous successive halving); `none`.
        seed: random seed (proposals, split of the data, initial weights, shuffling, augmentation).
        storage: an SQLAlchemy URL, such as `postgresql+psycopg://user@host/base`; by default a file in the folder.
        name: of the study in the database.
        size, test, target: arguments of `open_data`.
        callbacks: additional Keras callbacks; they must be picklable.
        retries: attempts after the first, where a worker process dies.
        heartbeat, grace: seconds between signs of life, and until a trial without one is resumed by another process.
        recipe_changes: changed fields of the recipe: `epochs=9, batch=64`.
    """

    worker: Callable[[], Worker] = Worker
    """Creates what trains; called once for every parallel job."""

    def __init__(
        self,
        space: str | Space,
        data: Any,
        /,
        *,
        folder: str | Path,
        recipe: str | Recipe | None = None,
        budget: Budget | Mapping[str, float] | None = None,
        objective: str | Sequence[str] = "accuracy",
        sampler: str | None = None,
        pruning: str = "halving",
        seed: int = 0,
        storage: str | None = None,
        name: str = "reszoo",
        size: int | None = None,
        test: Any = None,
        target: str | None = None,
        callbacks: tuple[Any, ...] = (),
        retries: int = 1,
        heartbeat: int = HEARTBEAT,
        grace: int = GRACE,
        **recipe_changes: Any,
    ):
        folder = Path(folder).expanduser()
        self.setup = prepare(
            space,
            Source(data, size, test, target, seed),
            folder=folder,
            recipe=recipe,
            recipe_changes=recipe_changes,
            budget=budget,
            objective=objective,
            sampler=sampler or "gp",
            pruning=pruning,
            callbacks=callbacks,
            retries=retries,
            worker=self.worker,
        )
        self.fraction = self.setup.feasible.fraction()
        """Share of random points of the space whose networks are within the counted limits."""
        folder.mkdir(parents=True, exist_ok=True)
        # Processes that start together must create the tables one after another.
        with FileLock(folder / "begin.lock"):
            self.storage = connect(storage or url_of(folder), heartbeat=heartbeat, grace=grace)
            if sampler is None:
                before = recorded_settings(self.storage, name).get("sampler", self.setup.sampler)
                self.setup = replace(self.setup, sampler=before)
            engine = create_or_load(self.storage, name, self.setup.directions, self.setup.settings)
        super().__init__(engine, folder)

    def search(
        self,
        *,
        trials: int = 40,
        jobs: int = 1,
        seconds: float | None = None,
        watch: Callable[[Study], None] | None = None,
    ) -> Search:
        """Returns this study after `trials` trials in total; the arguments are those of `reszoo.search`."""
        for where, number in (("trials", trials), ("jobs", jobs)):
            if number < 1:
                raise ReszooError(where, got=number, expected="at least 1")
        with quiet:
            Scheduler(self.setup, self, self.storage, trials=trials, seconds=seconds, watch=watch).run(jobs=jobs)
        tidy(self.trials)
        return self
