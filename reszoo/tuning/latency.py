"""How long networks take on this device: each is timed once, in a process of its own."""

from __future__ import annotations

import hashlib
import json
import threading
from pathlib import Path

from reszoo.arch.spec import NetSpec
from reszoo.atomic import renamed_when_whole
from reszoo.errors import ReszooError
from reszoo.tuning.job import Timing
from reszoo.tuning.worker_process import Worker


class Latencies:
    """Seconds for one example, in inference, remembered in a file."""

    def __init__(self, file: Path, worker: Worker):
        self._file, self._worker, self._lock = file, worker, threading.Lock()

    def __call__(self, spec: NetSpec) -> float:
        """Returns the median seconds of a network.

        Raises:
            ReszooError: it cannot be run on this device.
        """
        key = hashlib.sha256(spec.model_dump_json(exclude={"name"}).encode()).hexdigest()[:16]
        with self._lock:
            known: dict[str, float] = json.loads(self._file.read_text()) if self._file.exists() else {}
            if key not in known:
                ended = self._worker.do(Timing(spec))
                if ended.state != "complete":
                    raise ReszooError(f"latency of {spec.name}", got=ended.note)
                known[key] = ended.seconds
                with renamed_when_whole(self._file) as temporary:
                    temporary.write_text(json.dumps(known))
            return known[key]

    def stop(self) -> None:
        """Ends the process that times."""
        self._worker.stop()
