"""The search itself: trials in worker processes, kept where any number of machines can join, and gone on with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
from reszoo.tuning.storage import GRACE, HEARTBEAT, begin, connect, quiet, url_of
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
    """Returns a finished search: networks of a space trained on data, the best within a budget.

    `search("digits_small", "digits", folder="runs/s", budget={"macs": 2e6}, trials=12).best().model()`. Killed at any
    moment and called again with the same settings, it goes on where it was; started several times on one folder or
    database, on one machine or many, the processes share the work.

    Args:
        space: a space or its name (`reszoo.list_spaces()`); it takes the data's shape and classes.
        data: see `open_data`, or a `Data`.
        folder: of the study.
        trials: in all, those of earlier calls included.
        jobs: trials at the same time in this process, each in a worker process of its own.
        seconds: after which no epoch is begun; what runs can be gone on with.
        watch: is called with the study after every epoch and trial.
        settings: of `Search`.

    Raises:
        ReszooError: impossible settings; no network within budget; a study that was begun otherwise; builds that fail.
    """
    return Search(space, data, folder=folder, **settings).search(trials=trials, jobs=jobs, seconds=seconds, watch=watch)


class Search(Study):
    """A study that can be gone on with.

    Args:
        space: as in `search`.
        data: as in `search`.
        folder: as in `search`.
        recipe: a recipe or its name; by default one for the kind of data.
        budget: `Budget`, or its limits: `{"macs": 2e6}`.
        objective: `accuracy` (of validation, its greatest after an epoch), or a list of it and costs to make small.
        sampler: tpe, nsga2 (for several objectives), random, grid or gp. tpe and gp are asked for several networks at a
            time (eight until ten were tried, then two), of which the one of the fewest MACs is tried.
        pruning: `halving` ends runs that fall behind (asynchronous successive halving); `none`.
        seed: of proposals, initial weights, order and augmentation; the split of the data follows it too.
        storage: an SQLAlchemy address, such as `postgresql+psycopg://user@host/base`; by default a file in the folder.
        name: of the study in the database.
        size, test, target: of the data, see `open_data`.
        callbacks: Keras callbacks of your own; they are pickled.
        retries: attempts after the first one whose process died.
        heartbeat, grace: seconds between signs of life, and until a trial without one is given to another process.
        recipe_changes: of the recipe: `epochs=9, batch=64`.
    """

    worker: Callable[[], Worker] = Worker
    """What trains: one is made for every job at a time."""

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
        sampler: str = "tpe",
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
            sampler=sampler,
            pruning=pruning,
            callbacks=callbacks,
            retries=retries,
            worker=self.worker,
        )
        self.fraction = self.setup.feasible.fraction()
        """Share of the space's draws that are networks within the counted limits."""
        folder.mkdir(parents=True, exist_ok=True)
        # Processes that begin together make the tables one after another.
        with FileLock(folder / "begin.lock"):
            self.storage = connect(storage or url_of(folder), heartbeat=heartbeat, grace=grace)
            engine = begin(self.storage, name, self.setup.directions, self.setup.settings)
        super().__init__(engine, folder)

    def search(
        self,
        *,
        trials: int = 40,
        jobs: int = 1,
        seconds: float | None = None,
        watch: Callable[[Study], None] | None = None,
    ) -> Search:
        """Returns this study after so many trials in all; the arguments are those of `reszoo.search`."""
        for where, number in (("trials", trials), ("jobs", jobs)):
            if number < 1:
                raise ReszooError(where, got=number, expected="at least 1")
        with quiet:
            Scheduler(self.setup, self, self.storage, trials=trials, seconds=seconds, watch=watch).run(jobs=jobs)
        tidy(self.trials)
        return self
