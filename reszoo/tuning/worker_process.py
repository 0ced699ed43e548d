"""Worker processes from the parent's side: warm, one job at a time, replaced if they die or grow."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

from reszoo.tuning.job import Job, Outcome, Progress, Source, Timing

MAX_GROWTH = 0.5
"""A worker is replaced when its memory has grown by this share since its first job."""

Answer = Literal["continue", "stop"]
"""Whether a run continues with its next epoch."""


class Worker:
    """A worker process; it starts with its first job.

    Args:
        environment: environment variables of the process, in addition to those of this one.
    """

    def __init__(self, environment: dict[str, str] | None = None):
        self._environment = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "1", **os.environ}
        self._environment |= {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr: Any = None
        self._first_memory = 0
        self._source: Source | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """Id of the process; None while there is none."""
        return self._process.pid if self._process else None

    def do(self, job: Job | Timing, *, ask: Callable[[Progress], Answer] = lambda progress: "continue") -> Outcome:
        """Returns the outcome of a job; `ask` decides before every epoch but the first whether it continues."""
        try:
            process = self._running_process()
            self._send(self._without_known_source(job) if isinstance(job, Job) else job)
            assert process.stdout is not None
            while isinstance(message := pickle.load(process.stdout), Progress):
                self._send(ask(message))
        except (EOFError, OSError, pickle.UnpicklingError):
            return Outcome("crashed", note=self._death_message())
        assert isinstance(message, Outcome)
        self._first_memory = self._first_memory or message.memory
        if message.state in ("infeasible", "failed") or message.memory > self._first_memory * (1 + MAX_GROWTH):
            self.stop()
        return message

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
            command = [sys.executable, "-m", "reszoo.tuning.worker_main"]
            pipe = subprocess.PIPE
            # A session of its own: only the parent process handles Ctrl-C.
            self._process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, stderr=self._stderr, env=self._environment, start_new_session=True
            )
            self._send([*sys.path])
        return self._process

    def _send(self, message: Any) -> None:
        assert self._process is not None and self._process.stdin is not None
        # Pickled before anything is sent: a pickling error leaves no partial message in the pipe. Pickled twice: an
        # unpickling error on the other side does not stop in the middle of a message.
        self._process.stdin.write(pickle.dumps(pickle.dumps(message)))
        self._process.stdin.flush()

    def _death_message(self) -> str:
        """How the process ended, with the last lines of its standard error; the next job starts another."""
        if self._process is None:
            return "the worker was closed"
        code = self._process.wait()
        self._stderr.seek(0)
        last = self._stderr.read().decode(errors="replace").strip().splitlines()[-5:]
        cause = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        self.stop()
        return "\n".join([f"the worker process died: {cause}", *last])
