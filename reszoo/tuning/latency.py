"""Inference time of networks on this device; each is timed once, in a separate process."""

from __future__ import annotations

import hashlib
import json
import threading
from pathlib import Path

from reszoo.arch.spec import NetSpec
from reszoo.atomic import atomic_write
from reszoo.errors import ReszooError
from reszoo.strict_json import strict_json
from reszoo.tuning.job import Timing
from reszoo.tuning.worker_process import Worker


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
                with atomic_write(self._file) as temporary:
                    temporary.write_text(strict_json(seconds), encoding="utf-8")
            return seconds[key]

    def stop(self) -> None:
        """Ends the worker process."""
        self._worker.stop()
