"""The worker process: it reads jobs from standard input, trains, and exits when its parent process ends."""

from __future__ import annotations

import gc
import json
import os
import pickle
import queue
import sys
import threading
import time
import traceback
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, BinaryIO

import keras
import numpy as np
from filelock import FileLock, Timeout

from reszoo.arch.build import build
from reszoo.arch.spec import NetSpec
from reszoo.data.sources import Data
from reszoo.errors import NotFiniteError
from reszoo.training.run import run
from reszoo.training.run_folder import BEST, LOCK, STATE
from reszoo.training.train import scaled_for
from reszoo.tuning.job import Job, Outcome, Progress, State, Timing
from reszoo.weights.formats.keras_files import read_h5

OUT_OF_MEMORY = ("ResourceExhausted", "RESOURCE_EXHAUSTED", "OutOfMemory", "out of memory")
LOCK_SECONDS = 60
"""Until a run folder that another process holds is given up for now."""
WARMUP_CALLS, TIMED_CALLS = 3, 15
"""Calls of a network before its timing, and those that are timed."""


class RunStopped(Exception):
    """The study answered `stop`."""


class Connection:
    """Both directions of the pipe to the study."""

    def __init__(self, receives: BinaryIO, sends: BinaryIO):
        self._receives = receives
        self._sends = sends
        self._messages: queue.Queue[bytes] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def receive(self) -> Any:
        """Returns the next message; unpickling a user's object may raise any exception."""
        return pickle.loads(self._messages.get())

    def send(self, message: Any) -> None:
        """Sends a message."""
        pickle.dump(message, self._sends)
        self._sends.flush()

    def _listen(self) -> None:
        while True:
            try:
                # A pickle in a pickle: the inner one is unpickled by the receiver, after `sys.path` is set.
                self._messages.put(pickle.load(self._receives))
            except (EOFError, OSError, pickle.UnpicklingError):
                # The parent process is gone: another one may resume in the same folder at once.
                os._exit(1)


class _Reporter(keras.callbacks.Callback):
    """Sends the history to the study before every epoch but the first, and ends the run if it answers `stop`."""

    # The module is `__main__` in a worker: see `reszoo.training.optimizers.loops_pay`.
    reads_layers = False

    def __init__(self, connection: Connection, folder: Path):
        super().__init__()
        self._connection = connection
        self._folder = folder

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if epoch:
            self._connection.send(Progress(history_in(self._folder)))
            if self._connection.receive() == "stop":
                raise RunStopped


def history_in(folder: Path) -> list[dict[str, float]]:
    """Returns the history in the last complete state of a run; empty without one."""
    states = sorted(folder.glob(f"{STATE}-*"))
    return json.loads((states[-1] / "history.json").read_text(encoding="utf-8")) if states else []


def main() -> None:
    """Runs jobs until the parent process closes the pipe."""
    # Printed text must not mix with the messages.
    sends = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    connection = Connection(sys.stdin.buffer, sends)
    cache: list[Data] = []
    sys.path[:] = connection.receive()
    while True:
        connection.send(_run_next_job(connection, cache))


def _run_next_job(connection: Connection, cache: list[Data]) -> Outcome:
    """Receives a job and returns its outcome; `cache` holds the data of the last training."""
    try:
        job: Job | Timing = connection.receive()
        outcome = _time(job.spec) if isinstance(job, Timing) else _train(job, connection, cache)
    except Exception as error:
        outcome = Outcome(_state_of(error), note=_message_of(error))
    keras.backend.clear_session()
    gc.collect()
    return replace(outcome, memory=resident_memory())


def _state_of(error: Exception) -> State:
    if isinstance(error, NotFiniteError):
        return "diverged"
    message = f"{type(error).__name__}: {error}"
    if isinstance(error, MemoryError) or any(words in message for words in OUT_OF_MEMORY):
        return "infeasible"
    return "failed"


def _message_of(error: Exception) -> str:
    if isinstance(error, (NotFiniteError, MemoryError)):
        return f"{type(error).__name__}: {error}"
    return "".join(traceback.format_exception(error)).rstrip()


def _train(job: Job, connection: Connection, cache: list[Data]) -> Outcome:
    job.folder.parent.mkdir(parents=True, exist_ok=True)
    # An orphaned worker may hold the folder for a moment, until it notices that its parent is gone; that of a suspended
    # process holds it until the process goes on.
    lock = FileLock(f"{job.folder}.lock", timeout=LOCK_SECONDS)
    try:
        held = lock.acquire()
    except Timeout:
        return Outcome("crashed", note=f"{job.folder} is in use by another process, which may be suspended")
    with held:
        note = set_aside_if_damaged(job.folder)
        if job.source is not None:
            # No trial sees the test part.
            cache[:] = [replace(job.source.open(), test=None)]
        (data,) = cache
        if job.weights is not None:
            data = scaled_for(job.weights, job.spec, data)
        callbacks = (*job.callbacks, _Reporter(connection, job.folder))
        try:
            trained = run(
                job.spec,
                data,
                job.recipe,
                job.folder,
                seed=job.seed,
                weights=job.weights,
                callbacks=callbacks,
                verbose=0,
                record=start_record(job),
            )
        except RunStopped:
            return Outcome("pruned", history_in(job.folder), note)
    return Outcome("complete", trained.history, note)


def start_record(job: Job) -> dict[str, str]:
    """Returns how `run.json` names weights in the study's folder: by their place, so that a moved study resumes."""
    weights = Path(job.weights or "")
    inside = weights.is_absolute() and weights.parent.parent in job.folder.parents
    return {"weights": Path(os.path.relpath(weights, job.folder)).as_posix()} if inside else {}


def set_aside_if_damaged(folder: Path) -> str:
    """Returns a message after moving an unreadable run folder away; an empty one where all files can be read."""
    file = damaged_file(folder)
    if file is None:
        return ""
    names = (f"{folder.name}.damaged-{number}" for number in range(1, 1000))
    backup = next(path for path in map(folder.with_name, names) if not path.exists())
    folder.rename(backup)
    return f"{file} was damaged: the old files are in {backup.name}, and the trial was restarted"


def damaged_file(folder: Path) -> str | None:
    """Returns the name of a file of an unfinished run that cannot be read, or None."""
    if not folder.is_dir() or not any(path.name != LOCK for path in folder.iterdir()):
        return None
    try:
        json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return f"{folder.name}/run.json"
    for state in sorted(folder.glob(f"{STATE}-*"))[-1:]:
        try:
            json.loads((state / "history.json").read_text(encoding="utf-8"))
            # Not with h5py: a damaged file can crash libhdf5 or make it hang.
            read_h5(state / "model.weights.h5")
        except (OSError, ValueError):
            return f"{folder.name}/{state.name}"
        return None if (folder / BEST).exists() else f"{folder.name}/{BEST}"
    return None


def _time(spec: NetSpec) -> Outcome:
    """The median inference seconds for one example, after warm-up calls that trace the graph."""
    model = build(spec)
    x = np.random.default_rng(0).normal(size=(1, *model.input_shape[1:])).astype("float32")
    seconds = []
    for number in range(WARMUP_CALLS + TIMED_CALLS):
        start = time.perf_counter()
        model.predict_on_batch(x)
        if number >= WARMUP_CALLS:
            seconds.append(time.perf_counter() - start)
    return Outcome("complete", seconds=median(seconds))


def resident_memory() -> int:
    """Returns the resident memory of this process in bytes; 0 where the system does not provide it."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
