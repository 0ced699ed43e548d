"""Messages between a study and its worker processes: plain data, pickled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from reszoo.arch.spec import NetSpec
from reszoo.data.labels import Task
from reszoo.data.pictures import Channels
from reszoo.data.sources import Data, open_data
from reszoo.errors import ReszooError
from reszoo.training.recipes import Recipe
from reszoo.training.train import source_record


@dataclass(frozen=True)
class Source:
    """Where examples come from: the arguments of `open_data`, or data that are already open."""

    data: Any
    size: int | None = None
    validation: Any = None
    test: Any = None
    target: str | Sequence[str] | None = None
    task: Task | None = None
    channels: Channels | None = None
    seed: int = 0
    folds: int | None = None
    fold: int | None = None

    def open(self) -> Data:
        """Returns the data.

        Raises:
            ReszooError: there is no such source.
        """
        arguments = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "data"}
        if not isinstance(self.data, Data):
            return open_data(self.data, **arguments)
        for name, value in arguments.items():
            if value is not None and name != "seed":
                hint = f"open_data(..., {name}=)"
                raise ReszooError(f"search.{name}", got="an opened Data", expected="a source", hint=hint)
        return self.data

    @property
    def is_named(self) -> bool:
        """Whether paths and names alone describe it, so that another process can open it again."""
        sources = (self.data, self.validation, self.test)
        return all(each is None or isinstance(each, (str, Path)) for each in sources)

    def record(self) -> dict[str, Any]:
        """Returns the arguments that open the same data again, where names alone say it; otherwise nothing."""
        options = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in ("data", "seed")}
        return dict(source_record(self.data, options).get("source", {}))


def runs_of(source: Source, folds: int | None) -> tuple[Source, ...]:
    """Returns what is trained on for one trial: the source, or each fold of it.

    What another process cannot open again, such as a stream, is opened here.
    """
    parts = (source,) if folds is None else tuple(replace(source, folds=folds, fold=fold) for fold in range(folds))
    return tuple(each if each.is_named or isinstance(each.data, Data) else Source(each.open()) for each in parts)


def description(data: Data) -> dict[str, Any]:
    """Returns what is recorded of data beside its digest: name, task, shape, classes, and number of examples."""
    counts = {"train": len(data.train), "validation": len(data.validation)}
    return {"name": data.name, "task": data.task, "shape": data.shape, "classes": data.classes, **counts}


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
    stall: float = math.inf
    """Seconds without a message after which the worker counts as hanging; ten times its longest epoch are granted."""
    seconds: float = math.inf
    """Seconds that are left of the budget; a worker that hangs is ended some epochs after them."""


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
