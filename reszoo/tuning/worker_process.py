"""Worker processes seen from the study: warm, one job at a time each, and replaced when they die or grow."""

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

GROWTH = 0.5
"""A worker is replaced when it has grown by so much over what it was after its first job."""

Answer = Literal["on", "stop"]


class Worker:
    """A process that trains; it is started when it is first needed.

    Args:
        environment: variables of the process beside those of this one.
    """

    def __init__(self, environment: dict[str, str] | None = None):
        self._environment = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "1", **os.environ}
        self._environment |= {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._said: Any = None
        self._first = 0
        self._source: Source | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """Of the process, while there is one."""
        return self._process.pid if self._process else None

    def do(self, job: Job | Timing, *, ask: Callable[[Progress], Answer] = lambda progress: "on") -> Outcome:
        """Returns how a job ended; `ask` says at the start of every epoch whether it is to go on."""
        try:
            process = self._started()
            if isinstance(job, Job):
                job, self._source = replace(job, source=None if job.source is self._source else job.source), job.source
            self._send(job)
            assert process.stdout is not None
            while isinstance(told := pickle.load(process.stdout), Progress):
                self._send(ask(told))
        except (EOFError, OSError, pickle.UnpicklingError):
            return Outcome("crashed", note=self._died())
        assert isinstance(told, Outcome)
        self._first = self._first or told.memory
        if told.state in ("infeasible", "failed") or told.memory > self._first * (1 + GROWTH):
            self.stop()
        return told

    def stop(self) -> None:
        """Ends the process; the next job starts another."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    stream.close()
            self._said.close()
        self._process, self._source, self._first = None, None, 0

    def close(self) -> None:
        """Ends the process for good: a job under way ends as `crashed`."""
        self._closed = True
        if self._process is not None:
            self._process.kill()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._closed:
            raise EOFError
        if self._process is None:
            self._said = tempfile.TemporaryFile()  # noqa: SIM115 (it is closed with the process)
            command = [sys.executable, "-m", "reszoo.tuning.worker_main"]
            pipe = subprocess.PIPE
            # A process group of its own: Ctrl-C is the study's to handle.
            self._process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, stderr=self._said, env=self._environment, start_new_session=True
            )
            self._send([*sys.path])
        return self._process

    def _send(self, message: Any) -> None:
        assert self._process is not None and self._process.stdin is not None
        # Pickled whole before any of it is sent: what cannot be pickled must not reach the pipe in part. Twice, so that
        # what cannot be made again on the other side does not leave the pipe in the middle of a message.
        self._process.stdin.write(pickle.dumps(pickle.dumps(message)))
        self._process.stdin.flush()

    def _died(self) -> str:
        """What is known of a process that is no more: how it ended, and its last words."""
        if self._process is None:
            return "the worker was closed"
        code = self._process.wait()
        self._said.seek(0)
        last = self._said.read().decode(errors="replace").strip().splitlines()[-5:]
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        self.stop()
        return "\n".join([f"the worker process died: {how}", *last])
