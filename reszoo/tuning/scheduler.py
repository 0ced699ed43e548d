"""The scheduler of a search: threads that run one trial after another, each in a worker process."""

from __future__ import annotations

import math
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from reszoo.tuning.accelerators import accelerators, environments
from reszoo.tuning.axes import Answers, Point
from reszoo.tuning.proposals import (
    KEY,
    OUTCOME,
    PLACE,
    POINT,
    QUEUED,
    RETRY,
    Exhausted,
    Proposals,
    is_proposal,
    keys,
    proposal_number,
)
from reszoo.tuning.queue import adopt, requeue
from reszoo.tuning.records import Ending, Records, TrialEnd, TrialFailed
from reszoo.tuning.setup import Setup
from reszoo.tuning.storage import add_successor, database_errors, requeue_orphans, use_of
from reszoo.tuning.study import Study
from reszoo.tuning.trial_run import TrialRuns
from reszoo.tuning.worker_process import Worker

POLL_SECONDS = 1.0
"""Between looks at the trials of other processes."""


class Scheduler:
    """One call of `Search.search`: runs trials until there are enough."""

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
        self._setup = setup
        self._study = study
        self._storage = storage
        self._trials = trials
        self._deadline = math.inf if seconds is None else time.monotonic() + seconds
        self._stop = threading.Event()
        self._lock = threading.RLock()
        self._reserved = 0
        """Trials that a thread of this process is about to begin."""
        self._errors: list[BaseException] = []
        self._records = Records(setup, study, watch)
        self._runs = TrialRuns(setup, self._records, storage, study.folder, is_over=self._is_over)

    def run(self, *, jobs: int) -> None:
        """Runs trials until there are enough.

        Raises:
            ReszooError: several builds in a row fail with the same error, or the database cannot be written.
        """
        requeue_orphans(self._study.engine)
        self._requeue_failed()
        devices = accelerators()
        if devices and jobs > len(devices):
            warnings.warn(f"{jobs} jobs share {len(devices)} GPUs, and their memory", stacklevel=3)
        workers = []
        for environment in environments(jobs):
            worker = self._setup.worker()
            worker.environment = {**getattr(worker, "environment", {}), **environment}
            workers.append(worker)
        # Not joins of the threads: after Ctrl-C during a join, Python 3.11 takes a thread that runs for one that ended.
        ends: list[threading.Event] = []
        try:
            for worker in workers:
                end = threading.Event()
                threading.Thread(target=self._run_trials, args=(worker, end), daemon=True).start()
                ends.append(end)
            for end in ends:
                # Without a timeout, Ctrl-C would have to wait.
                while not end.wait(POLL_SECONDS):
                    pass
        finally:
            self._stop.set()
            for worker in workers:
                worker.close()
            for end in ends:
                end.wait()
            for worker in workers:
                worker.stop()
            self._setup.latency.stop()
        if self._errors:
            with use_of(self._study.folder):
                raise self._errors[0]

    def _requeue_failed(self) -> None:
        """Queues failed trials again: the search was restarted, so their cause may have been fixed."""
        latest = {trial.user_attrs.get(PLACE): trial for trial in self._study.engine.get_trials(deepcopy=False)}
        for trial in latest.values():
            if trial.state == TrialState.FAIL and trial.user_attrs.get(OUTCOME) in ("failed", None):
                add_successor(self._study.engine, trial)

    def _run_trials(self, worker: Worker, end: threading.Event) -> None:
        """The loop of one thread: one trial after another, until the search ends; sets `end` then."""
        try:
            study = optuna.load_study(
                study_name=self._study.engine.study_name,
                storage=self._storage,
                sampler=self._setup.proposals,
                pruner=self._setup.pruner,
            )
            while not self._stop.is_set():
                if self._reserve_trial(study):
                    if self._run_under_optuna(study, worker) in ("interrupted", "exhausted"):
                        return
                elif self._others_are_running(study):
                    self._stop.wait(POLL_SECONDS)
                else:
                    return
        except BaseException as error:
            self._errors.append(error)
            self._stop.set()
        finally:
            end.set()

    def _is_over(self) -> bool:
        return self._stop.is_set() or time.monotonic() > self._deadline

    def _reserve_trial(self, study: optuna.Study) -> bool:
        """Reserves the next trial for this thread; False where there are enough, or no time is left."""
        with self._lock:
            if self._is_over():
                return False
            trials = study.get_trials(deepcopy=False)
            waiting = [trial for trial in trials if trial.state == TrialState.WAITING]
            adopt(study, waiting, self._setup.feasible, self._setup.proposals)
            begins = any(RETRY in each.user_attrs or proposal_number(study, each) < self._trials for each in waiting)
            count = sum(map(is_proposal, trials)) + self._reserved
            if not begins and count >= self._trials:
                return False
            self._reserved += 1
            return True

    def _others_are_running(self, study: optuna.Study) -> bool:
        """Whether another process may still die and leave its trial to this one."""
        if self._is_over():
            return False
        requeue_orphans(study)
        optuna.storages.fail_stale_trials(study)
        running = study.get_trials(False, (TrialState.RUNNING,))
        resumed = [trial for trial in study.get_trials(False, (TrialState.WAITING,)) if RETRY in trial.user_attrs]
        return bool(resumed) or any(is_proposal(trial) or RETRY in trial.user_attrs for trial in running)

    def _run_under_optuna(self, study: optuna.Study, worker: Worker) -> Ending:
        """Runs one trial while Optuna sends its signs of life, and returns how it ended."""
        trial_id, end, failed = -1, TrialEnd("interrupted"), False

        def objective(trial: optuna.Trial) -> tuple[float, ...]:
            nonlocal trial_id, end, failed
            trial_id, failed = trial._trial_id, True
            end = self._run_trial(study, trial, worker)
            failed = False
            return end.for_optuna()

        try:
            study.optimize(objective, n_trials=1, catch=(TrialFailed,))
        except Exception as error:
            # It may wait for an answer about this trial.
            worker.stop()
            if self._is_taken(trial_id, error, failed=failed):
                warnings.warn("a trial was taken by another process while this one was suspended", stacklevel=2)
                return "taken"
            if failed:
                self._leave(study, trial_id)
            raise
        if end.ending == "interrupted":
            add_successor(study, self._storage.get_trial(trial_id))
        return end.ending

    def _is_taken(self, trial_id: int, error: Exception, *, failed: bool) -> bool:
        """Whether another process has declared the process of a trial dead: Optuna then takes no result of it."""
        refused = isinstance(error, optuna.exceptions.UpdateFinishedTrialError) or str(error).startswith("Cannot tell")
        if trial_id < 0 or not (refused or not failed) or isinstance(error, database_errors()):
            return False
        return self._storage.get_trial(trial_id).state == TrialState.FAIL

    def _leave(self, study: optuna.Study, trial_id: int) -> None:
        """Queues a trial that resumes one which an error that is not its own has ended."""
        try:
            trial = self._storage.get_trial(trial_id)
            if OUTCOME not in trial.user_attrs and trial.state == TrialState.FAIL:
                add_successor(study, trial)
        except database_errors():
            # The next call finds it: its process is dead.
            pass

    def _run_trial(self, study: optuna.Study, trial: optuna.Trial, worker: Worker) -> TrialEnd:
        with self._lock:
            self._reserved -= 1
        frozen = self._storage.get_trial(trial._trial_id)
        number = proposal_number(study, frozen)
        if number >= self._trials and RETRY not in frozen.user_attrs:
            trial.set_user_attr(OUTCOME, "surplus")
            if QUEUED in frozen.user_attrs:
                requeue(study, frozen)
            return TrialEnd("surplus")
        try:
            point = self._suggested_point(study, trial, frozen)
        except Exhausted:
            trial.set_user_attr(OUTCOME, "surplus")
            return TrialEnd("exhausted")
        attributes = self._storage.get_trial(trial._trial_id).user_attrs
        if RETRY not in attributes and attributes[KEY] in keys(study, below=frozen.number):
            # Queued twice, by two processes.
            trial.set_user_attr(OUTCOME, "surplus")
            return TrialEnd("surplus")
        candidate = self._setup.proposals.candidate(point)
        trial.set_user_attr("costs", self._records.costs(candidate))
        return self._runs.train(trial, candidate, number, worker)

    def _suggested_point(self, study: optuna.Study, trial: optuna.Trial, frozen: FrozenTrial) -> Point:
        """The point of a trial; Exhausted where the sampler has none."""
        proposals = self._setup.proposals
        # Not left to `suggest_*`: a space of one network has no axis to ask for.
        proposals.sample_relative(study, frozen, proposals.infer_relative_search_space(study, frozen))
        if POINT not in self._storage.get_trial(trial._trial_id).user_attrs:
            raise Exhausted
        return self._setup.space.ask(Answers(lambda name, _: _suggested_value(trial, name, proposals)))


def _suggested_value(trial: optuna.Trial, name: str, proposals: Proposals) -> Any:
    """The value of one axis, taken through `suggest_*` so that Optuna's dashboard and importances see it."""
    axis: Any = proposals.infer_relative_search_space(trial.study, None)[name]  # type: ignore[arg-type]
    if isinstance(axis, CategoricalDistribution):
        return trial.suggest_categorical(name, axis.choices)
    suggest: Any = trial.suggest_int if isinstance(axis, IntDistribution) else trial.suggest_float
    return suggest(name, axis.low, axis.high, step=axis.step, log=axis.log)
