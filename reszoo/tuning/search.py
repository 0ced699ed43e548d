"""The search itself: trials in worker processes, kept where any number of machines can join, and gone on with."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock

from reszoo.arch.check import check
from reszoo.errors import ReszooError, UnknownNameError
from reszoo.training.recipes import Recipe, recipe as named
from reszoo.training.train import default_recipe
from reszoo.tuning.budget import COUNTED, Budget, Feasible
from reszoo.tuning.job import Source, fingerprint
from reszoo.tuning.latency import Latencies
from reszoo.tuning.proposals import SAMPLERS, Halving, Proposals
from reszoo.tuning.results import tidy
from reszoo.tuning.space import Space, space as opened
from reszoo.tuning.storage import GRACE, HEARTBEAT, begin, connect, quiet, url_of
from reszoo.tuning.study import Study
from reszoo.tuning.work import Work
from reszoo.tuning.workers import Worker


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
        objectives = [objective] if isinstance(objective, str) else [*objective]
        _check_words(objectives, sampler, pruning)
        self.source = Source(data, size, test, target, seed)
        examples = self.source.open()
        fitted = opened(space).fitted(input_shape=examples.shape, classes=len(examples.classes))
        self._recipe = named(recipe or default_recipe(examples, None), **recipe_changes)
        limits = budget.model_dump() if isinstance(budget, Budget) else dict(budget or {})
        self.objectives, self.seed, self.retries, self.callbacks = objectives, seed, retries, callbacks
        folder = Path(folder).expanduser()
        self.latency = Latencies(folder / "latency.json", self.worker())
        self.feasible = Feasible(fitted, check(Budget, limits, where="budget"), measure=self.latency)
        self.fraction = self.feasible.fraction()
        """Share of the space's draws that are networks within the counted limits."""
        plan = {
            "space": fitted.model_dump(mode="json", exclude={"ref"}),
            "recipe": self._recipe.model_dump(mode="json"),
            "budget": self.feasible.budget.model_dump(),
            "objective": objectives,
            "sampler": sampler,
            "pruning": pruning,
            "seed": seed,
            "data": fingerprint(examples),
        }
        folder.mkdir(parents=True, exist_ok=True)
        directions = ["maximize", *["minimize"] * (len(objectives) - 1)]
        # Processes that begin together make the tables one after another.
        with FileLock(folder / "begin.lock"):
            self.storage = connect(storage or url_of(folder), heartbeat=heartbeat, grace=grace)
            engine = begin(self.storage, name, directions, json.loads(json.dumps(plan)))
        self.proposals = Proposals(self.feasible, self._recipe, sampler=sampler, seed=seed)
        halves = pruning == "halving" and len(objectives) == 1
        self.pruner = Halving(epochs=self._recipe.epochs) if halves else optuna.pruners.NopPruner()
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
                raise ReszooError(where, given=number, allowed="at least 1")
        with quiet:
            Work(self, trials=trials, seconds=seconds, watch=watch).do(jobs=jobs)
        tidy(self.trials)
        return self


def _check_words(objectives: list[str], sampler: str, pruning: str) -> None:
    for where, given, known in (("sampler", sampler, [*SAMPLERS]), ("pruning", pruning, ["halving", "none"])):
        if given not in known:
            raise UnknownNameError(where, given=given, known=known)
    if sampler == "gp" and not _is_installed("torch"):
        raise ReszooError("sampler", given="gp", mend="pip install torch, which Optuna's Gaussian process needs")
    if objectives[0] != "accuracy":
        raise ReszooError("objective", given=objectives, allowed="accuracy, and after it costs to make small")
    for given in objectives[1:]:
        if given not in (*COUNTED, "latency"):
            raise UnknownNameError("objective", given=given, known=(*COUNTED, "latency"))
    if len(objectives) > 1 and sampler == "gp":
        raise ReszooError("sampler", given="gp with several objectives", allowed="nsga2, tpe, random, grid")


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ValueError:
        return False
