"""The scheduler of a search: threads that each see one trial after another through, in a worker process."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from reszoo.errors import ReszooError
from reszoo.training.run_folder import BEST
from reszoo.tuning.axes import Answers
from reszoo.tuning.budget import COUNTED
from reszoo.tuning.job import Job, Outcome, Progress
from reszoo.tuning.proposals import (
    OUTCOME,
    PLACE,
    RETRY,
    Exhausted,
    Proposals,
    counts,
    derived,
    place_of,
)
from reszoo.tuning.results import tidy
from reszoo.tuning.setup import Setup
from reszoo.tuning.space import Candidate
from reszoo.tuning.storage import stand_in, take_up
from reszoo.tuning.study import BYTES, COSTS, NOTE, ROWS, SCORE, Study
from reszoo.tuning.worker_process import Answer, Worker

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


class Scheduler:
    """One call of `Search.search`: sees trials through until there are enough."""

    def __init__(
        self,
        setup: Setup,
        study: Study,
        storage: optuna.storages.BaseStorage,
        *,
        trials: int,
        seconds: float | None,
        watch: Callable[[Study], None] | None,
    ):
        self._setup, self._study, self._storage, self._trials = setup, study, storage, trials
        self._ends = math.inf if seconds is None else time.monotonic() + seconds
        self._watch = watch or (lambda study: None)
        self._halt, self._lock, self._tickets = threading.Event(), threading.RLock(), 0
        self._alike: list[str] = []
        self._trouble: list[BaseException] = []

    def run(self, *, jobs: int) -> None:
        """Sees trials through until there are enough.

        Raises:
            ReszooError: builds fail alike.
        """
        take_up(self._study.engine)
        self._begin_failed_anew()
        workers = [self._setup.worker() for _ in range(jobs)]
        threads = [threading.Thread(target=self._take_trials, args=(worker,), daemon=True) for worker in workers]
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
            for worker in workers:
                worker.stop()
            self._setup.latency.stop()
        if self._trouble:
            raise self._trouble[0]

    def _begin_failed_anew(self) -> None:
        """What failed to build is tried again: the search was called again, so something may have been mended."""
        last = {trial.user_attrs.get(PLACE): trial for trial in self._study.engine.get_trials(deepcopy=False)}
        for trial in last.values():
            if trial.state == TrialState.FAIL and trial.user_attrs.get(OUTCOME) == "failed":
                stand_in(self._study.engine, trial)

    def _take_trials(self, worker: Worker) -> None:
        study = optuna.load_study(
            study_name=self._study.engine.study_name,
            storage=self._storage,
            sampler=self._setup.proposals,
            pruner=self._setup.pruner,
        )
        while not self._halt.is_set():
            if not self._may_begin(study):
                if not self._others_run(study):
                    return
                self._halt.wait(LOOK)
                continue
            try:
                study.optimize(lambda trial: self._run_trial(study, trial, worker), n_trials=1, catch=(Lost,))
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

    def _run_trial(self, study: optuna.Study, trial: optuna.Trial, worker: Worker) -> Any:
        with self._lock:
            self._tickets -= 1
        frozen = self._storage.get_trial(trial._trial_id)
        place = place_of(study, frozen)
        if place >= self._trials and RETRY not in frozen.user_attrs:
            trial.set_user_attr(OUTCOME, "surplus")
            raise Lost
        try:
            point = self._setup.space.ask(Answers(lambda name, _: _suggested(trial, name, self._setup.proposals)))
        except Exhausted:
            trial.set_user_attr(OUTCOME, "surplus")
            raise
        made = self._setup.proposals.candidate(point)
        trial.set_user_attr(COSTS, self._costs(made))
        job = Job(
            (self._study.folder / "trials" / f"{place:04d}").absolute(),
            made.spec,
            made.recipe,
            self._setup.source,
            derived(self._setup.seed, "trial", place),
            made.weights,
            self._setup.callbacks,
        )
        began = time.monotonic()
        for _ in range(self._setup.retries + 1):
            ended = worker.do(job, ask=lambda told: self._decide(trial, told, began))
            if ended.state in ("pruned", "crashed") and (self._halt.is_set() or time.monotonic() > self._ends):
                raise Interrupted(trial._trial_id)
            if ended.state != "crashed":
                break
        return self._value(trial, made, ended, job.folder, time.monotonic() - began)

    def _decide(self, trial: optuna.Trial, told: Progress, began: float) -> Answer:
        """What a run is told at the start of an epoch."""
        limit = self._setup.feasible.budget.seconds
        if self._halt.is_set() or time.monotonic() > self._ends or (limit and time.monotonic() - began > limit):
            return "stop"
        behind = False
        if len(self._setup.objectives) == 1:
            known = self._storage.get_trial(trial._trial_id).intermediate_values
            for epoch in range(1, len(told.history) + 1):
                if epoch not in known:
                    trial.report(_score(told.history[:epoch]), epoch)
                # Asked again of an epoch that was told already: the answer may not have outlived the process.
                behind = behind or ((epoch not in known or epoch == len(told.history)) and trial.should_prune())
        self._watch(self._study)
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
            return [score, *(self._costs(made)[cost] for cost in self._setup.objectives[1:])]
        trial.set_user_attr(OUTCOME, "failed" if ended.state == "crashed" else ended.state)
        self._finished(trial)
        if ended.state in ("diverged", "infeasible"):
            self._alike.clear()
            if len(self._setup.objectives) == 1:
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
                hint = "mend it and run the same again: the study is whole, and what failed is tried anew"
                raise ReszooError(
                    str(self._study.folder), got=f"{ALIKE} trials that failed alike:\n{note}\n", hint=hint
                )

    def _finished(self, trial: optuna.Trial) -> None:
        with self._lock:
            tidy([other for other in self._study.trials if other.number != trial.user_attrs.get(PLACE)])
        self._watch(self._study)

    def _costs(self, made: Candidate) -> dict[str, float]:
        cost = self._setup.space.cost(made.point)
        told: dict[str, float] = {name: getattr(cost, name) for name in COUNTED}
        if self._setup.feasible.budget.latency is not None or "latency" in self._setup.objectives:
            told["latency"] = self._setup.latency(made.spec)
        return told


def _score(history: list[dict[str, float]]) -> float:
    return max(row["val_accuracy"] for row in history)


def _suggested(trial: optuna.Trial, name: str, proposals: Proposals) -> Any:
    """A trial's own value, in Optuna's words: it notes it, so that its dashboard and importances show it."""
    told: Any = proposals.infer_relative_search_space(trial.study, None)[name]  # type: ignore[arg-type]
    if isinstance(told, optuna.distributions.CategoricalDistribution):
        return trial.suggest_categorical(name, told.choices)
    ask: Any = trial.suggest_int if isinstance(told, optuna.distributions.IntDistribution) else trial.suggest_float
    return ask(name, told.low, told.high, step=told.step, log=told.log)
