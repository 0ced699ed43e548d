"""What passes between a study and its worker processes: plain data, pickled."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from reszoo.arch.spec import NetSpec
from reszoo.data.sources import Data, open_data
from reszoo.training.recipes import Recipe


@dataclass(frozen=True)
class Source:
    """Where examples come from: what `open_data` takes, or data that are open already."""

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


def fingerprint(data: Data) -> dict[str, Any]:
    """Returns what identifies data: counts, shape, and a digest of labels and of some examples."""
    import numpy as np

    digest = hashlib.sha256()
    for part in (data.train, data.validation):
        digest.update(np.ascontiguousarray(part.labels).tobytes())
        shown = np.unique(np.linspace(0, len(part) - 1, 32).astype(int))
        digest.update(np.ascontiguousarray(part.take(shown)).tobytes())
    counted = {"train": len(data.train), "validation": len(data.validation)}
    told = {"name": data.name, "shape": data.shape, "classes": data.classes, **counted}
    return {**told, "scaling": asdict(data.scaling), "digest": digest.hexdigest()[:16]}


@dataclass(frozen=True)
class Job:
    """One network to train in a folder of its own, or to go on with."""

    folder: Path
    spec: NetSpec
    recipe: Recipe
    source: Source | None
    """None where the worker has it already: arrays need not be sent for every trial."""
    seed: int
    weights: str | None = None
    callbacks: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Timing:
    """One network whose inference is to be timed."""

    spec: NetSpec


@dataclass(frozen=True)
class Progress:
    """What is known of a run at the start of an epoch; the worker waits for `on` or `stop`."""

    history: list[dict[str, float]]


Ending = Literal["complete", "pruned", "diverged", "infeasible", "failed", "crashed"]
"""`infeasible`: out of memory; `crashed`: the process died; `failed`: an exception."""


@dataclass(frozen=True)
class Outcome:
    """How a job ended."""

    state: Ending
    history: list[dict[str, float]] = field(default_factory=list)
    note: str = ""
    """What went wrong, in the worker's own words."""
    memory: int = 0
    """Of the worker now, in bytes."""
    seconds: float = 0.0
    """Of a timing: for one example."""
