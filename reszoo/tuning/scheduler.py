"""The scheduler of a search: threads that run one trial after another, each in a worker process."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.trial import TrialState

from reszoo.errors import ReszooError
from reszoo.training.run_folder import BEST
from reszoo.tuning.axes import Answers, Point
from reszoo.tuning.budget import COUNTED_COSTS
from reszoo.tuning.job import Job, Outcome, Progress
from reszoo.tuning.proposals import (
    OUTCOME,
    PLACE,
    RETRY,
    Exhausted,
    Proposals,
    derive_seed,
    is_proposal,
    proposal_number,
)
from reszoo.tuning.results import tidy
from reszoo.tuning.setup import Setup
from reszoo.tuning.space import Candidate
from reszoo.tuning.storage import add_successor, requeue_orphans
from reszoo.tuning.study import BYTES, COSTS, NOTE, ROWS, SCORE, Study
from reszoo.tuning.trial_end import Ending, TrialEnd, TrialFailed
from reszoo.tuning.worker_process import Answer, Worker

MAX_EQUAL_FAILURES = 3
"""The search stops after so many builds in a row that failed with the same error."""
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
        self._watch = watch or (lambda study: None)
        self._stop = threading.Event()
        self._lock = threading.RLock()
        self._reserved = 0
        """Trials that a thread of this process is about to begin."""
        self._equal_failures: list[str] = []
        self._errors: list[BaseException] = []

    def run(self, *, jobs: int) -> None:
        """Runs trials until there are enough.

        Raises:
            ReszooError: several builds in a row fail with the same error.
        """
        requeue_orphans(self._study.engine)
        self._requeue_failed()
        workers = [self._setup.worker() for _ in range(jobs)]
        threads = [threading.Thread(target=self._run_trials, args=(worker,), daemon=True) for worker in workers]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                # A join without a timeout would block Ctrl-C.
                while thread.is_alive():
                    thread.join(POLL_SECONDS)
        finally:
            self._stop.set()
            for worker in workers:
                worker.close()
            for thread in threads:
                thread.join()
            for worker in workers:
                worker.stop()
            self._setup.latency.stop()
        if self._errors:
            raise self._errors[0]

    def _requeue_failed(self) -> None:
        """Queues failed builds again: the search was restarted, so their cause may have been fixed."""
        latest = {trial.user_attrs.get(PLACE): trial for trial in self._study.engine.get_trials(deepcopy=False)}
        for trial in latest.values():
            if trial.state == TrialState.FAIL and trial.user_attrs.get(OUTCOME) == "failed":
                add_successor(self._study.engine, trial)

    def _run_trials(self, worker: Worker) -> None:
        """The loop of one thread: one trial after another, until the search ends."""
        study = optuna.load_study(
            study_name=self._study.engine.study_name,
            storage=self._storage,
            sampler=self._setup.proposals,
            pruner=self._setup.pruner,
        )
        while not self._stop.is_set():
            if not self._reserve_trial(study):
                if not self._others_are_running(study):
                    return
                self._stop.wait(POLL_SECONDS)
                continue
            try:
                if self._run_under_optuna(study, worker) in ("interrupted", "exhausted"):
                    return
            except BaseException as error:
                self._errors.append(error)
                self._stop.set()

    def _out_of_time(self) -> bool:
        return time.monotonic() > self._deadline

    def _reserve_trial(self, study: optuna.Study) -> bool:
        """Reserves the next trial for this thread; False where there are enough, or no time is left."""
        with self._lock:
            if self._out_of_time():
                return False
            trials = study.get_trials(deepcopy=False)
            waiting = any(trial.state == TrialState.WAITING for trial in trials)
            count = sum(map(is_proposal, trials)) + self._reserved
            if not waiting and count >= self._trials:
                return False
            self._reserved += 1
            return True

    def _others_are_running(self, study: optuna.Study) -> bool:
        """Whether another process may still die and leave its trial to this one."""
        if self._out_of_time():
            return False
        requeue_orphans(study)
        optuna.storages.fail_stale_trials(study)
        alive = (TrialState.RUNNING, TrialState.WAITING)
        return any(is_proposal(trial) or RETRY in trial.user_attrs for trial in study.get_trials(False, alive))

    def _run_under_optuna(self, study: optuna.Study, worker: Worker) -> Ending:
        """Runs one trial while Optuna sends its signs of life, and returns how it ended."""
        trial_id, end = -1, TrialEnd("failed")

        def objective(trial: optuna.Trial) -> tuple[float, ...]:
            nonlocal trial_id, end
            trial_id, end = trial._trial_id, self._run_trial(study, trial, worker)
            return end.for_optuna()

        study.optimize(objective, n_trials=1, catch=(TrialFailed,))
        if end.ending == "interrupted":
            add_successor(study, self._storage.get_trial(trial_id))
        return end.ending

    def _run_trial(self, study: optuna.Study, trial: optuna.Trial, worker: Worker) -> TrialEnd:
        with self._lock:
            self._reserved -= 1
        frozen = self._storage.get_trial(trial._trial_id)
        number = proposal_number(study, frozen)
        if number >= self._trials and RETRY not in frozen.user_attrs:
            trial.set_user_attr(OUTCOME, "surplus")
            return TrialEnd("surplus")
        try:
            point = self._suggested_point(trial)
        except Exhausted:
            trial.set_user_attr(OUTCOME, "surplus")
            return TrialEnd("exhausted")
        candidate = self._setup.proposals.candidate(point)
        trial.set_user_attr(COSTS, self._costs(candidate))
        job = self._job(candidate, number)
        start = time.monotonic()
        outcome = self._train(trial, job, worker, start)
        if outcome is None:
            return TrialEnd("interrupted")
        return self._record(trial, candidate, outcome, job.folder, time.monotonic() - start)

    def _suggested_point(self, trial: optuna.Trial) -> Point:
        """The point of a trial; Exhausted where the sampler has none."""
        proposals = self._setup.proposals
        return self._setup.space.ask(Answers(lambda name, _: _suggested_value(trial, name, proposals)))

    def _job(self, candidate: Candidate, number: int) -> Job:
        return Job(
            folder=(self._study.folder / "trials" / f"{number:04d}").absolute(),
            spec=candidate.spec,
            recipe=candidate.recipe,
            source=self._setup.source,
            seed=derive_seed(self._setup.seed, "trial", number),
            weights=candidate.weights,
            callbacks=self._setup.callbacks,
        )

    def _train(self, trial: optuna.Trial, job: Job, worker: Worker, start: float) -> Outcome | None:
        """The outcome of a job, tried again where its process dies; None where the search ended it."""
        for _ in range(self._setup.retries + 1):
            outcome = worker.do(job, ask=lambda progress: self._decide(trial, progress, start))
            if outcome.state in ("pruned", "crashed") and (self._stop.is_set() or self._out_of_time()):
                return None
            if outcome.state != "crashed":
                break
        return outcome

    def _decide(self, trial: optuna.Trial, progress: Progress, start: float) -> Answer:
        """Whether a run continues at the start of an epoch."""
        limit = self._setup.feasible.budget.seconds
        if self._stop.is_set() or self._out_of_time() or (limit and time.monotonic() - start > limit):
            return "stop"
        prune = False
        if len(self._setup.objectives) == 1:
            reported = self._storage.get_trial(trial._trial_id).intermediate_values
            last = len(progress.history)
            for epoch in range(1, last + 1):
                if epoch not in reported:
                    trial.report(_score(progress.history[:epoch]), epoch)
                # The last epoch is judged even if it was reported before: the process may have died before the answer.
                prune = prune or ((epoch not in reported or epoch == last) and trial.should_prune())
        self._watch(self._study)
        return "stop" if prune else "continue"

    def _record(
        self, trial: optuna.Trial, candidate: Candidate, outcome: Outcome, folder: Path, seconds: float
    ) -> TrialEnd:
        """Stores the outcome of a trial in its attributes, and returns how it ended."""
        costs = self._costs(candidate)
        if outcome.note:
            trial.set_user_attr(NOTE, outcome.note)
        trial.set_user_attr(COSTS, {**costs, "seconds": seconds})
        if outcome.state in ("complete", "pruned"):
            self._equal_failures.clear()
            score = _score(outcome.history)
            trial.set_user_attr(ROWS, outcome.history)
            trial.set_user_attr(SCORE, score)
            trial.set_user_attr(BYTES, (folder / BEST).stat().st_size)
            self._after_trial(trial)
            if outcome.state == "pruned":
                return TrialEnd("pruned")
            return TrialEnd("complete", (score, *(costs[cost] for cost in self._setup.objectives[1:])))
        return self._record_failure(trial, outcome)

    def _record_failure(self, trial: optuna.Trial, outcome: Outcome) -> TrialEnd:
        """Stores an outcome without a score: a sampler learns from `diverged` and `infeasible`, not from the rest."""
        trial.set_user_attr(OUTCOME, "failed" if outcome.state == "crashed" else outcome.state)
        self._after_trial(trial)
        if outcome.state in ("diverged", "infeasible"):
            self._equal_failures.clear()
            if len(self._setup.objectives) == 1:
                # Optuna's samplers and ours rank NaN below every number.
                reported = self._storage.get_trial(trial._trial_id).intermediate_values
                trial.report(math.nan, max(reported, default=0) + 1)
            return TrialEnd("pruned")
        if outcome.state == "failed":
            self._stop_after_equal_failures(outcome.note)
        return TrialEnd("failed")

    def _stop_after_equal_failures(self, note: str) -> None:
        """Raises a ReszooError where the last builds all failed with the same error."""
        with self._lock:
            message = note.splitlines()[-1] if note else ""
            self._equal_failures = [*(earlier for earlier in self._equal_failures if earlier == message), message]
            if len(self._equal_failures) >= MAX_EQUAL_FAILURES:
                got = f"{MAX_EQUAL_FAILURES} trials in a row with the same error:\n{note}\n"
                hint = "fix it and rerun: the study is intact, and failed trials are tried again"
                raise ReszooError(str(self._study.folder), got=got, hint=hint)

    def _after_trial(self, trial: optuna.Trial) -> None:
        with self._lock:
            tidy([other for other in self._study.trials if other.number != trial.user_attrs.get(PLACE)])
        self._watch(self._study)

    def _costs(self, candidate: Candidate) -> dict[str, float]:
        cost = self._setup.space.cost(candidate.point)
        costs: dict[str, float] = {name: getattr(cost, name) for name in COUNTED_COSTS}
        if self._setup.feasible.budget.latency is not None or "latency" in self._setup.objectives:
            costs["latency"] = self._setup.latency(candidate.spec)
        return costs


def _score(history: list[dict[str, float]]) -> float:
    return max(row["val_accuracy"] for row in history)


def _suggested_value(trial: optuna.Trial, name: str, proposals: Proposals) -> Any:
    """The value of one axis, taken through `suggest_*` so that Optuna's dashboard and importances see it."""
    axis: Any = proposals.infer_relative_search_space(trial.study, None)[name]  # type: ignore[arg-type]
    if isinstance(axis, CategoricalDistribution):
        return trial.suggest_categorical(name, axis.choices)
    suggest: Any = trial.suggest_int if isinstance(axis, IntDistribution) else trial.suggest_float
    return suggest(name, axis.low, axis.high, step=axis.step, log=axis.log)
