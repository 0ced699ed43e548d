"""The process that trains: it takes jobs from its standard input, and ends with whoever started it."""

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
from pathlib import Path
from statistics import median
from typing import Any, BinaryIO

import keras
import numpy as np
from filelock import FileLock

from reszoo.arch.build import build
from reszoo.arch.spec import NetSpec
from reszoo.data.sources import Data
from reszoo.training.run import NotFiniteError, run
from reszoo.training.run_folder import BEST, STATE
from reszoo.training.train import scaled_for
from reszoo.tuning.job import Job, Outcome, Progress, Timing
from reszoo.weights.formats.keras_files import read_h5

MEMORY_WORDS = ("ResourceExhausted", "RESOURCE_EXHAUSTED", "OutOfMemory", "out of memory")
WARM, TIMED = 3, 15
"""Calls before timing, and timed."""


class Stopped(Exception):
    """The study asks a run to end."""


class Line:
    """Both directions of the pipe to the study."""

    def __init__(self, receives: BinaryIO, sends: BinaryIO):
        self._receives, self._sends = receives, sends
        self._told: queue.Queue[bytes] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def receive(self) -> Any:
        """Returns what comes next; it may raise whatever a user's own object raises when it is made again."""
        return pickle.loads(self._told.get())

    def send(self, message: Any) -> None:
        """Sends a message."""
        pickle.dump(message, self._sends)
        self._sends.flush()

    def _listen(self) -> None:
        while True:
            try:
                # Bytes in bytes: what they hold is made by who asks for it, after `sys.path` is what it has to be.
                self._told.put(pickle.load(self._receives))
            except (EOFError, OSError, pickle.UnpicklingError):
                # Whoever started this process is gone: another may go on with the same folder at once.
                os._exit(1)


class _Reporter(keras.callbacks.Callback):
    """Tells the study what every epoch brought, and asks whether to go on."""

    def __init__(self, line: Line, folder: Path):
        super().__init__()
        self._line, self._folder = line, folder

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if epoch:
            self._line.send(Progress(history_in(self._folder)))
            if self._line.receive() == "stop":
                raise Stopped


def history_in(folder: Path) -> list[dict[str, float]]:
    """Returns the history of the last whole state of a run."""
    states = sorted(folder.glob(f"{STATE}-*"))
    return json.loads((states[-1] / "history.json").read_text(encoding="utf-8")) if states else []


def main() -> None:
    """Works until the study closes the pipe."""
    # What is printed must not get between the messages.
    sends = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    line = Line(sys.stdin.buffer, sends)
    opened: list[Data] = []
    sys.path[:] = line.receive()
    while True:
        line.send(_ended(line, opened))


def _ended(line: Line, opened: list[Data]) -> Outcome:
    """Does the next job."""
    try:
        job: Job | Timing = line.receive()
        made = _timed(job.spec) if isinstance(job, Timing) else _trained(job, line, opened)
        state, history, note, seconds = made.state, made.history, made.note, made.seconds
    except Exception as error:
        state, history, note, seconds = _state_of(error), [], _told(error), 0.0
    keras.backend.clear_session()
    gc.collect()
    return Outcome(state, history, note, memory_of_this(), seconds)


def _state_of(error: Exception) -> Any:
    if isinstance(error, NotFiniteError):
        return "diverged"
    told = f"{type(error).__name__}: {error}"
    return "infeasible" if isinstance(error, MemoryError) or any(word in told for word in MEMORY_WORDS) else "failed"


def _told(error: Exception) -> str:
    if isinstance(error, (NotFiniteError, MemoryError)):
        return f"{type(error).__name__}: {error}"
    return "".join(traceback.format_exception(error)).rstrip()


def _trained(job: Job, line: Line, opened: list[Data]) -> Outcome:
    job.folder.parent.mkdir(parents=True, exist_ok=True)
    # Another process may still hold the folder for the moment that it takes to notice that it is alone.
    with FileLock(f"{job.folder}.lock"):
        note = set_aside_if_damaged(job.folder)
        if job.source is not None:
            opened[:] = [job.source.open()]
        (data,) = opened
        if job.weights is not None:
            data = scaled_for(job.weights, job.spec, data)
        watch = (*job.callbacks, _Reporter(line, job.folder))
        try:
            done = run(
                job.spec,
                data,
                job.recipe,
                job.folder,
                seed=job.seed,
                weights=job.weights,
                callbacks=watch,
                verbose=0,
            )
        except Stopped:
            return Outcome("pruned", history_in(job.folder), note)
    return Outcome("complete", done.history, note)


def set_aside_if_damaged(folder: Path) -> str:
    """Moves a run folder away whose files cannot be read, and returns which it was; nothing where all is well."""
    file = damaged(folder)
    if file is None:
        return ""
    aside = next(
        path for number in range(1, 1000) if not (path := folder.with_name(f"{folder.name}.damaged-{number}")).exists()
    )
    folder.rename(aside)
    return f"{file} was damaged: what there was is in {aside.name}, and the trial began anew"


def damaged(folder: Path) -> str | None:
    """Returns the file of an unfinished run that cannot be read, or None."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return None
    try:
        json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return f"{folder.name}/run.json"
    for state in sorted(folder.glob(f"{STATE}-*"))[-1:]:
        try:
            json.loads((state / "history.json").read_text(encoding="utf-8"))
            # Not with h5py: a damaged file can crash libhdf5 or keep it for ever.
            read_h5(state / "model.weights.h5")
        except (OSError, ValueError):
            return f"{folder.name}/{state.name}"
        return None if (folder / BEST).exists() else f"{folder.name}/{BEST}"
    return None


def _timed(spec: NetSpec) -> Outcome:
    """Median seconds of one inference of one example, its function traced before."""
    model = build(spec)
    x = np.random.default_rng(0).normal(size=(1, *model.input_shape[1:])).astype("float32")
    seconds = []
    for number in range(WARM + TIMED):
        start = time.perf_counter()
        model.predict_on_batch(x)
        if number >= WARM:
            seconds.append(time.perf_counter() - start)
    return Outcome("complete", seconds=median(seconds))


def memory_of_this() -> int:
    """Returns the resident memory of this process in bytes; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
