"""Worker processes from the parent's side: warm, one job at a time, replaced if they die or grow; they time too."""

from __future__ import annotations

import hashlib
import json
import math
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import cloudpickle

from reszoo.arch.spec import NetSpec
from reszoo.errors import ReszooError
from reszoo.files import strict_json, write_file
from reszoo.tuning.accelerators import GROWTH
from reszoo.tuning.job import Job, Outcome, Progress, Source, Timing

MAX_GROWTH = 0.5
"""A worker is replaced when its memory has grown by this share since its first job."""

EPOCHS_GRANTED = 10
"""A worker counts as hanging when an epoch lasts so many times as long as its longest one, or twice as long after its
budget of seconds."""

Answer = Literal["continue", "stop"]
"""Whether a run continues with its next epoch."""


class Worker:
    """A worker process; it starts with its first job.

    Args:
        environment: environment variables of the process, in addition to those of this one.
    """

    program: ClassVar[tuple[str, ...]] = (sys.executable, "-m", "reszoo.tuning.worker_main")
    """The command of the process."""

    def __init__(self, environment: dict[str, str] | None = None):
        self.environment = environment or {}
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr: Any = None
        self._first_memory = 0
        self._source: Source | None = None
        self._closed = False
        self._longest = 0.0
        """Seconds of the longest epoch so far."""
        self._hang = ""
        """Why the process was ended, if it hung."""

    @property
    def pid(self) -> int | None:
        """Id of the process; None while there is none."""
        return self._process.pid if self._process else None

    def do(self, job: Job | Timing, *, ask: Callable[[Progress], Answer] = lambda progress: "continue") -> Outcome:
        """Returns the outcome of a job; `ask` decides before every epoch but the first whether it continues."""
        start, epochs = time.monotonic(), 0
        try:
            self._running_process()
            self._send(self._without_known_source(job) if isinstance(job, Job) else job)
            while isinstance(message := self._receive(job, start, epochs), Progress):
                epochs += 1
                self._send(ask(message))
        except (EOFError, OSError, pickle.UnpicklingError):
            return Outcome("crashed", note=self._death_message())
        assert isinstance(message, Outcome)
        self._first_memory = self._first_memory or message.memory
        if message.state in ("infeasible", "failed") or message.memory > self._first_memory * (1 + MAX_GROWTH):
            self.stop()
        return message

    def _receive(self, job: Job | Timing, start: float, epochs: int) -> Any:
        """The next message; a process that hangs is ended."""
        process, begin = self._process, time.monotonic()
        assert process is not None and process.stdout is not None
        limit = _limit(job, longest=self._longest, passed=begin - start, epochs=epochs)
        timer = None
        if limit is not None:
            timer = threading.Timer(limit, self._end_hanging, (process, limit))
            timer.daemon = True
            timer.start()
        try:
            message = pickle.load(process.stdout)
        finally:
            if timer is not None:
                timer.cancel()
        if isinstance(message, Progress):
            self._longest = max(self._longest, time.monotonic() - begin)
        return message

    def _end_hanging(self, process: subprocess.Popen[bytes], limit: float) -> None:
        self._hang = f"no message for {limit:.0f} s, and an epoch took at most {self._longest:.1f} s so far"
        hang = self._hang
        process.kill()
        warnings.warn(f"a worker that hangs is ended: {hang}", stacklevel=2)

    def _without_known_source(self, job: Job) -> Job:
        """The job, without its source if the process already has it."""
        known = job.source is self._source
        self._source = job.source
        return replace(job, source=None) if known else job

    def stop(self) -> None:
        """Ends the process; the next job starts another."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    stream.close()
            self._stderr.close()
        self._process = None
        self._source = None
        self._first_memory = 0

    def close(self) -> None:
        """Ends the process for good: a running job ends as `crashed`."""
        self._closed = True
        if self._process is not None:
            self._process.kill()

    def _running_process(self) -> subprocess.Popen[bytes]:
        if self._closed:
            raise EOFError
        if self._process is None:
            self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 (it is closed with the process)
            pipe = subprocess.PIPE
            # A session of its own: only the parent process handles Ctrl-C.
            self._process = subprocess.Popen(
                self.program,
                stdin=pipe,
                stdout=pipe,
                stderr=self._stderr,
                env=self._variables(),
                start_new_session=True,
            )
            self._send([*sys.path])
        return self._process

    def _variables(self) -> dict[str, str]:
        """The environment of the process; what the user has set stays, but for the device."""
        path = os.pathsep.join(filter(None, sys.path))
        defaults = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "1", **GROWTH}
        return {**defaults, **os.environ, "PYTHONPATH": path, **self.environment}

    def _send(self, message: Any) -> None:
        assert self._process is not None and self._process.stdin is not None
        # Pickled before anything is sent: a pickling error leaves no partial message in the pipe. Pickled twice: an
        # unpickling error on the other side does not stop in the middle of a message.
        self._process.stdin.write(pickle.dumps(dumps(message)))
        self._process.stdin.flush()

    def _death_message(self) -> str:
        """How the process ended, with the last lines of its standard error; the next job starts another."""
        if self._process is None:
            return "the worker was closed"
        code = self._process.wait()
        self._stderr.seek(0)
        last = self._stderr.read().decode(errors="replace").strip().splitlines()[-5:]
        cause = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        cause, self._hang = self._hang or cause, ""
        self.stop()
        return "\n".join([f"the worker process died: {cause}", *last])


def _limit(job: Job | Timing, *, longest: float, passed: float, epochs: int) -> float | None:
    """Seconds within which the next message comes, unless the process hangs; None where that cannot be known.

    Args:
        job: what is done.
        longest: seconds of the longest epoch of this worker, 0 before there was one.
        passed: seconds since the job began.
        epochs: of the job that have ended.
    """
    if isinstance(job, Timing):
        return None
    limit = max(job.stall, EPOCHS_GRANTED * longest) if longest else math.inf
    if epochs:
        limit = min(limit, max(job.seconds - passed, 0.0) + 2 * longest + 1.0)
    elif job.seconds < math.inf:
        # The first epoch includes the start of the process.
        limit = min(limit, job.stall + job.seconds)
    return limit if limit < math.inf else None


OWN_RATE = ("ReduceLROnPlateau", "LearningRateScheduler")
"""Callbacks of Keras that set the learning rate, which belongs to the recipe."""


def dumps(message: Any) -> bytes:
    """Returns an object as bytes that `pickle.loads` reads in another process."""
    data: bytes = cloudpickle.dumps(message)
    return data


def check_callbacks(callbacks: tuple[Any, ...]) -> None:
    """Checks that callbacks can be sent to a worker and leave the learning rate to the recipe.

    Raises:
        ReszooError: one cannot, or does not.
    """
    if not isinstance(callbacks, Iterable):
        raise ReszooError("callbacks", got=repr(callbacks), expected="a list of callbacks")
    for callback in callbacks:
        name = type(callback).__name__
        if not hasattr(callback, "set_model"):
            raise ReszooError("callbacks", got=repr(callback), expected="a Keras callback")
        if any(kind.__name__ in OWN_RATE and kind.__module__.startswith("keras.") for kind in type(callback).__mro__):
            hint = "recipe: plateau={'patience': 2}, learning_rate={'kind': 'constant', 'warmup': 0.0}"
            raise ReszooError("callbacks", got=name, expected="callbacks that leave the learning rate alone", hint=hint)
        module = sys.modules.get(type(callback).__module__)
        top = type(callback).__module__.partition(".")[0]
        if module is not None and top != "__main__" and not any(each.find_spec(top, None) for each in sys.meta_path):
            # A worker could not import it.
            cloudpickle.register_pickle_by_value(module)
        try:
            dumps(callback)
        except Exception as error:
            hint = "create what it holds in on_train_begin, which runs in the worker"
            got = f"{name}, which cannot be sent to a worker process ({type(error).__name__}: {error})"
            raise ReszooError("callbacks", got=got, expected="callbacks that can be pickled", hint=hint) from None


class Latencies:
    """Inference seconds for one example, cached in a file."""

    def __init__(self, file: Path, worker: Worker):
        self._file = file
        self._worker = worker
        self._lock = threading.Lock()

    def __call__(self, spec: NetSpec) -> float:
        """Returns the median inference seconds of a network for one example.

        Raises:
            ReszooError: the network cannot run on this device.
        """
        key = hashlib.sha256(spec.model_dump_json(exclude={"name"}).encode()).hexdigest()[:16]
        with self._lock:
            seconds: dict[str, float] = (
                json.loads(self._file.read_text(encoding="utf-8")) if self._file.exists() else {}
            )
            if key not in seconds:
                outcome = self._worker.do(Timing(spec))
                if outcome.state != "complete":
                    raise ReszooError(f"latency of {spec.name}", got=outcome.note)
                seconds[key] = outcome.seconds
                write_file(self._file, strict_json(seconds))
            return seconds[key]

    def stop(self) -> None:
        """Ends the worker process."""
        self._worker.stop()
