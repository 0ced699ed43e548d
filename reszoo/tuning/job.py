"""Messages between a study and its worker processes: plain data, pickled."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from reszoo.arch.spec import NetSpec
from reszoo.data.sources import Data, open_data
from reszoo.training.recipes import Recipe
from reszoo.training.train import source_record


@dataclass(frozen=True)
class Source:
    """Where examples come from: the arguments of `open_data`, or data that are already open."""

    data: Any
    size: int | None = None
    test: Any = None
    target: str | None = None
    seed: int = 0

    def open(self) -> Data:
        """Returns the data.

        Raises:
            ReszooError: there is no such source.
        """
        if isinstance(self.data, Data):
            return self.data
        return open_data(self.data, size=self.size, test=self.test, target=self.target, seed=self.seed)

    def record(self) -> dict[str, Any]:
        """Returns the arguments that open the same data again, where names alone say it; otherwise nothing."""
        options = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in ("data", "seed")}
        return dict(source_record(self.data, options).get("source", {}))


def fingerprint(data: Data) -> dict[str, Any]:
    """Returns what identifies a data set: counts, shape, and a digest of its labels and of some examples."""
    import numpy as np

    digest = hashlib.sha256()
    for part in (data.train, data.validation):
        digest.update(np.ascontiguousarray(part.labels).tobytes())
        indices = np.unique(np.linspace(0, len(part) - 1, 32).astype(int))
        digest.update(np.ascontiguousarray(part.take(indices)).tobytes())
    counts = {"train": len(data.train), "validation": len(data.validation)}
    description = {"name": data.name, "shape": data.shape, "classes": data.classes, **counts}
    return {**description, "scaling": asdict(data.scaling), "digest": digest.hexdigest()[:16]}


@dataclass(frozen=True)
class Job:
    """One network to train in its own run folder, or to resume."""

    folder: Path
    spec: NetSpec
    recipe: Recipe
    source: Source | None
    """None where the worker already has it: arrays are not sent again for every trial."""
    seed: int
    weights: str | None = None
    callbacks: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Timing:
    """One network whose inference time is measured."""

    spec: NetSpec


@dataclass(frozen=True)
class Progress:
    """The history of a run at the start of an epoch; the worker waits for `continue` or `stop`."""

    history: list[dict[str, float]]


State = Literal["complete", "pruned", "diverged", "infeasible", "failed", "crashed"]
"""`diverged`: the loss became NaN or infinite; `infeasible`: out of memory; `failed`: another exception; `crashed`: the
worker process died."""


@dataclass(frozen=True)
class Outcome:
    """How a job ended."""

    state: State
    history: list[dict[str, float]] = field(default_factory=list)
    note: str = ""
    """The error message of the worker."""
    memory: int = 0
    """Resident memory of the worker now, in bytes."""
    seconds: float = 0.0
    """Of a `Timing`: inference seconds for one example."""
