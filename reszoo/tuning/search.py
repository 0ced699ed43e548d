"""The search itself: trials in worker processes, kept where any number of machines can join, and gone on with."""

from __future__ import annotations

import hashlib
import json
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.trial import TrialState

from reszoo.arch.check import check
from reszoo.errors import ReszooError, UnknownNameError
from reszoo.training.data import Data
from reszoo.training.folder import BEST
from reszoo.training.recipes import Recipe, recipe as named
from reszoo.training.train import default_recipe
from reszoo.tuning.budget import COUNTED, Budget, Feasible
from reszoo.tuning.job import Job, Outcome, Progress, Source, Timing
from reszoo.tuning.proposals import (
    OUTCOME,
    PLACE,
    RETRY,
    SAMPLERS,
    Answers,
    Exhausted,
    Halving,
    Proposals,
    counts,
    derived,
    place_of,
)
from reszoo.tuning.results import tidy
from reszoo.tuning.space import Candidate, Space, space as opened
from reszoo.tuning.storage import GRACE, HEARTBEAT, begin, connect, stand_in, take_up, url_of
from reszoo.tuning.study import BYTES, COSTS, NOTE, ROWS, SCORE, Study
from reszoo.tuning.workers import Answer, Worker

ALIKE = 3
"""Builds that fail alike, one after another, until the search stops."""
LOOK = 1.0
"""Seconds between looks at what other processes do."""


class Lost(Exception):
    """A trial that came to nothing; the search goes on."""


class Interrupted(Exception):
    """A trial that is left where it is, to be gone on with."""

    def __init__(self, trial: int):
        super().__init__(trial)
        self.trial = trial


def search(
    space: str | Space,
    data: Any,
    /,
    *,
    folder: str | Path,
    trials: int = 20,
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
        sampler: tpe, nsga2 (for several objectives), random, grid or gp.
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
        self._source = Source(data, size, test, target, seed)
        examples = self._source.open()
        fitted = opened(space).fitted(input_shape=examples.shape, classes=len(examples.classes))
        self._recipe = named(recipe or default_recipe(examples, None), **recipe_changes)
        limits = budget.model_dump() if isinstance(budget, Budget) else dict(budget or {})
        self._objectives, self._seed, self._retries, self._callbacks = objectives, seed, retries, callbacks
        self._timer = self.worker()
        self._feasible = Feasible(fitted, check(Budget, limits, where="budget"), measure=self._latency)
        self.fraction = self._feasible.fraction()
        """Share of the space's draws that are networks within the counted limits."""
        plan = {
            "space": fitted.model_dump(mode="json", exclude={"ref"}),
            "recipe": self._recipe.model_dump(mode="json"),
            "budget": self._feasible.budget.model_dump(),
            "objective": objectives,
            "sampler": sampler,
            "pruning": pruning,
            "seed": seed,
            "data": fingerprint(examples),
        }
        folder = Path(folder).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        directions = ["maximize", *["minimize"] * (len(objectives) - 1)]
        # Processes that begin together make the tables one after another.
        with FileLock(folder / "begin.lock"):
            self._storage = connect(storage or url_of(folder), heartbeat=heartbeat, grace=grace)
            engine = begin(self._storage, name, directions, json.loads(json.dumps(plan)))
        self._proposals = Proposals(self._feasible, self._recipe, sampler=sampler, seed=seed)
        self._pruner = Halving() if pruning == "halving" and len(objectives) == 1 else optuna.pruners.NopPruner()
        super().__init__(engine, folder)

    def search(
        self,
        *,
        trials: int = 20,
        jobs: int = 1,
        seconds: float | None = None,
        watch: Callable[[Study], None] | None = None,
    ) -> Search:
        """Returns this study after so many trials in all; the arguments are those of `reszoo.search`."""
        for where, number in (("trials", trials), ("jobs", jobs)):
            if number < 1:
                raise ReszooError(where, given=number, allowed="at least 1")
        self._trials, self._ends = trials, math.inf if seconds is None else time.monotonic() + seconds
        self._watch = watch or (lambda study: None)
        self._halt, self._lock, self._tickets = threading.Event(), threading.RLock(), 0
        self._alike: list[str] = []
        self._trouble: list[BaseException] = []
        take_up(self.engine)
        self._begin_failed_anew()
        workers = [self.worker() for _ in range(jobs)]
        threads = [threading.Thread(target=self._work, args=(worker,), daemon=True) for worker in workers]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                # A join without a limit would not let Ctrl-C through.
                while thread.is_alive():
                    thread.join(LOOK)
        finally:
            self._halt.set()
            for worker in workers:
                worker.close()
            for thread in threads:
                thread.join()
            for worker in [*workers, self._timer]:
                worker.stop()
        if self._trouble:
            raise self._trouble[0]
        tidy(self.trials)
        return self

    def _begin_failed_anew(self) -> None:
        """What failed to build is tried again: the search was called again, so something may have been mended."""
        last = {trial.user_attrs.get(PLACE): trial for trial in self.engine.get_trials(deepcopy=False)}
        for trial in last.values():
            if trial.state == TrialState.FAIL and trial.user_attrs.get(OUTCOME) == "failed":
                stand_in(self.engine, trial)

    def _work(self, worker: Worker) -> None:
        study = optuna.load_study(
            study_name=self.engine.study_name, storage=self._storage, sampler=self._proposals, pruner=self._pruner
        )
        while not self._halt.is_set():
            if not self._may_begin(study):
                if not self._others_run(study):
                    return
                self._halt.wait(LOOK)
                continue
            try:
                study.optimize(lambda trial: self._one(study, trial, worker), n_trials=1, catch=(Lost,))
            except Exhausted:
                return
            except Interrupted as left:
                stand_in(study, self._storage.get_trial(left.trial))
                return
            except BaseException as trouble:
                self._trouble.append(trouble)
                self._halt.set()

    def _may_begin(self, study: optuna.Study) -> bool:
        with self._lock:
            if time.monotonic() > self._ends:
                return False
            found = study.get_trials(deepcopy=False)
            waiting = any(trial.state == TrialState.WAITING for trial in found)
            begun = sum(map(counts, found)) + self._tickets
            self._tickets += waiting or begun < self._trials
            return waiting or begun < self._trials

    def _others_run(self, study: optuna.Study) -> bool:
        """Whether another process may yet die and leave its trial to this one."""
        if time.monotonic() > self._ends:
            return False
        take_up(study)
        optuna.storages.fail_stale_trials(study)
        alive = (TrialState.RUNNING, TrialState.WAITING)
        return any(counts(trial) or RETRY in trial.user_attrs for trial in study.get_trials(False, alive))

    def _one(self, study: optuna.Study, trial: optuna.Trial, worker: Worker) -> Any:
        with self._lock:
            self._tickets -= 1
        frozen = self._storage.get_trial(trial._trial_id)
        place = place_of(study, frozen)
        if place >= self._trials and RETRY not in frozen.user_attrs:
            trial.set_user_attr(OUTCOME, "surplus")
            raise Lost
        try:
            point = self.space.ask(Answers(lambda name: _suggested(trial, name, self._proposals)))
        except Exhausted:
            trial.set_user_attr(OUTCOME, "surplus")
            raise
        made = self._proposals.candidate(point)
        trial.set_user_attr(COSTS, self._costs(made))
        job = Job(
            (self.folder / "trials" / f"{place:04d}").absolute(),
            made.spec,
            made.recipe,
            self._source,
            derived(self._seed, "trial", place),
            made.weights,
            self._callbacks,
        )
        began = time.monotonic()
        for _ in range(self._retries + 1):
            ended = worker.do(job, ask=lambda told: self._asked(trial, told, began))
            if ended.state in ("pruned", "crashed") and (self._halt.is_set() or time.monotonic() > self._ends):
                raise Interrupted(trial._trial_id)
            if ended.state != "crashed":
                break
        return self._value(trial, made, ended, job.folder, time.monotonic() - began)

    def _asked(self, trial: optuna.Trial, told: Progress, began: float) -> Answer:
        """What a run is told at the start of an epoch."""
        limit = self._feasible.budget.seconds
        if self._halt.is_set() or time.monotonic() > self._ends or (limit and time.monotonic() - began > limit):
            return "stop"
        behind = False
        if len(self._objectives) == 1:
            known = self._storage.get_trial(trial._trial_id).intermediate_values
            for epoch in range(1, len(told.history) + 1):
                if epoch not in known:
                    trial.report(_score(told.history[:epoch]), epoch)
                # Asked again of an epoch that was told already: the answer may not have outlived the process.
                behind = behind or ((epoch not in known or epoch == len(told.history)) and trial.should_prune())
        self._watch(self)
        return "stop" if behind else "on"

    def _value(self, trial: optuna.Trial, made: Candidate, ended: Outcome, folder: Path, seconds: float) -> Any:
        """Notes how a trial ended, and returns its value for Optuna."""
        if ended.note:
            trial.set_user_attr(NOTE, ended.note)
        trial.set_user_attr(COSTS, {**self._costs(made), "seconds": seconds})
        if ended.state in ("complete", "pruned"):
            self._alike.clear()
            score = _score(ended.history)
            trial.set_user_attr(ROWS, ended.history)
            trial.set_user_attr(SCORE, score)
            trial.set_user_attr(BYTES, (folder / BEST).stat().st_size)
            self._finished(trial)
            if ended.state == "pruned":
                raise optuna.TrialPruned
            return [score, *(self._costs(made)[cost] for cost in self._objectives[1:])]
        trial.set_user_attr(OUTCOME, "failed" if ended.state == "crashed" else ended.state)
        self._finished(trial)
        if ended.state in ("diverged", "infeasible"):
            self._alike.clear()
            if len(self._objectives) == 1:
                # No number is the worst of all to Optuna's samplers and to ours.
                known = self._storage.get_trial(trial._trial_id).intermediate_values
                trial.report(math.nan, max(known, default=0) + 1)
            raise optuna.TrialPruned
        if ended.state == "failed":
            self._stop_if_alike(ended.note)
        raise Lost

    def _stop_if_alike(self, note: str) -> None:
        with self._lock:
            last = note.splitlines()[-1] if note else ""
            self._alike = [*(told for told in self._alike if told == last), last]
            if len(self._alike) >= ALIKE:
                mend = "mend it and run the same again: the study is whole, and what failed is tried anew"
                raise ReszooError(str(self.folder), given=f"{ALIKE} trials that failed alike:\n{note}\n", mend=mend)

    def _finished(self, trial: optuna.Trial) -> None:
        with self._lock:
            tidy([other for other in self.trials if other.number != trial.user_attrs.get(PLACE)])
        self._watch(self)

    def _costs(self, made: Candidate) -> dict[str, float]:
        cost = self.space.cost(made.point)
        told: dict[str, float] = {name: getattr(cost, name) for name in COUNTED}
        if self._feasible.budget.latency is not None or "latency" in self._objectives:
            told["latency"] = self._latency(made.spec)
        return told

    def _latency(self, spec: Any) -> float:
        """Seconds for one example on this device; measured once for every network, and remembered in the folder."""
        from reszoo.weights.write import renamed_when_whole

        file = self.folder / "latency.json"
        bare = spec.model_dump_json(exclude={"name"})
        key = hashlib.sha256(bare.encode()).hexdigest()[:16]
        with self._lock:
            known: dict[str, float] = json.loads(file.read_text()) if file.exists() else {}
            if key not in known:
                ended = self._timer.do(Timing(spec))
                if ended.state != "complete":
                    raise ReszooError(f"latency of {spec.name}", given=ended.note)
                known[key] = ended.seconds
                with renamed_when_whole(file) as temporary:
                    temporary.write_text(json.dumps(known))
            return known[key]


def fingerprint(data: Data) -> dict[str, Any]:
    """Returns what identifies data: counts, shape, and a digest of labels and of some examples."""
    import numpy as np

    digest = hashlib.sha256()
    for part in (data.train, data.validation):
        digest.update(np.ascontiguousarray(part.labels).tobytes())
        shown = np.unique(np.linspace(0, len(part) - 1, 32).astype(int))
        digest.update(np.ascontiguousarray(part.take(shown)).tobytes())
    counted = {"train": len(data.train), "validation": len(data.validation)}
    told = {"name": data.name, "shape": data.shape, "classes": data.classes, **counted}
    return {**told, "scaling": asdict(data.scaling), "digest": digest.hexdigest()[:16]}


def _check_words(objectives: list[str], sampler: str, pruning: str) -> None:
    for where, given, known in (("sampler", sampler, [*SAMPLERS]), ("pruning", pruning, ["halving", "none"])):
        if given not in known:
            raise UnknownNameError(where, given=given, known=known)
    if objectives[0] != "accuracy":
        raise ReszooError("objective", given=objectives, allowed="accuracy, and after it costs to make small")
    for given in objectives[1:]:
        if given not in (*COUNTED, "latency"):
            raise UnknownNameError("objective", given=given, known=(*COUNTED, "latency"))
    if len(objectives) > 1 and sampler == "gp":
        raise ReszooError("sampler", given="gp with several objectives", allowed="nsga2, tpe, random, grid")


def _score(history: list[dict[str, float]]) -> float:
    return max(row["val_accuracy"] for row in history)


def _suggested(trial: optuna.Trial, name: str, proposals: Proposals) -> Any:
    """A trial's own value, in Optuna's words: it notes it, so that its dashboard and importances show it."""
    told: Any = proposals.infer_relative_search_space(trial.study, None)[name]  # type: ignore[arg-type]
    if isinstance(told, optuna.distributions.CategoricalDistribution):
        return trial.suggest_categorical(name, told.choices)
    ask: Any = trial.suggest_int if isinstance(told, optuna.distributions.IntDistribution) else trial.suggest_float
    return ask(name, told.low, told.high, step=told.step, log=told.log)
