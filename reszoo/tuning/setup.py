"""The settings of a search, checked before anything is trained; shared by the study and its scheduler."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna

from reszoo.config import check
from reszoo.errors import ReszooError, UnknownNameError
from reszoo.training.defaults import default_recipe
from reszoo.training.recipes import Recipe, recipe as get_recipe
from reszoo.tuning.budget import COUNTED_COSTS, Budget, Feasible
from reszoo.tuning.job import Source, fingerprint
from reszoo.tuning.latency import Latencies
from reszoo.tuning.proposals import SAMPLERS, Halving, Proposals
from reszoo.tuning.space import Space, space as get_space
from reszoo.tuning.worker_process import Worker

PRUNINGS = ("halving", "none")


@dataclass(frozen=True)
class Setup:
    """Everything that the result of a search depends on."""

    feasible: Feasible
    """The space, adapted to the data, and the budget."""
    recipe: Recipe
    source: Source
    data: Mapping[str, Any]
    """The fingerprint of the data."""
    objectives: tuple[str, ...]
    """`accuracy`, then the costs to minimize."""
    sampler: str
    pruning: str
    seed: int
    retries: int
    """Attempts after the first, where the worker process dies."""
    callbacks: tuple[Any, ...]
    worker: Callable[[], Worker]
    """Creates the workers that train."""
    latency: Latencies

    @property
    def space(self) -> Space:
        """The space, adapted to the data."""
        return self.feasible.space

    @property
    def settings(self) -> dict[str, Any]:
        """The settings stored with the study, as plain data: a call that resumes it must have the same."""
        settings = {
            "space": self.space.model_dump(mode="json", exclude={"ref"}),
            "recipe": self.recipe.model_dump(mode="json"),
            "budget": self.feasible.budget.model_dump(),
            "objective": self.objectives,
            "sampler": self.sampler,
            "pruning": self.pruning,
            "seed": self.seed,
            "data": self.data,
        }
        return dict(json.loads(json.dumps(settings)))

    @property
    def directions(self) -> list[str]:
        """Optuna's direction of every objective."""
        return ["maximize", *["minimize"] * (len(self.objectives) - 1)]

    @cached_property
    def proposals(self) -> Proposals:
        """The sampler."""
        return Proposals(self.feasible, self.recipe, sampler=self.sampler, seed=self.seed, objectives=self.objectives)

    @cached_property
    def pruner(self) -> optuna.pruners.BasePruner:
        """The pruner, which ends runs that fall behind."""
        halves = self.pruning == "halving" and len(self.objectives) == 1
        return Halving(epochs=self.recipe.epochs) if halves else optuna.pruners.NopPruner()


def prepare(
    space: str | Space,
    source: Source,
    /,
    *,
    folder: Path,
    recipe: str | Recipe | None,
    recipe_changes: Mapping[str, Any],
    budget: Budget | Mapping[str, float] | None,
    objective: str | Sequence[str],
    sampler: str,
    pruning: str,
    callbacks: tuple[Any, ...],
    retries: int,
    worker: Callable[[], Worker],
) -> Setup:
    """Returns the setup of a search; the arguments are those of `Search`.

    Raises:
        ReszooError: invalid settings, or no network within budget.
    """
    objectives = (objective,) if isinstance(objective, str) else tuple(objective)
    _check_options(objectives, sampler, pruning)
    examples = source.open()
    examples.check_trainable()
    adapted = get_space(space).fitted(input_shape=examples.shape, classes=len(examples.classes))
    training = get_recipe(recipe or default_recipe(examples, None), **recipe_changes)
    limits = budget.model_dump() if isinstance(budget, Budget) else dict(budget or {})
    latency = Latencies(folder / "latency.json", worker())
    return Setup(
        feasible=Feasible(adapted, check(Budget, limits, where="budget"), measure=latency),
        recipe=training,
        source=source,
        data=fingerprint(examples),
        objectives=objectives,
        sampler=sampler,
        pruning=pruning,
        seed=source.seed,
        retries=retries,
        callbacks=callbacks,
        worker=worker,
        latency=latency,
    )


def _check_options(objectives: tuple[str, ...], sampler: str, pruning: str) -> None:
    for where, got, known in (("sampler", sampler, [*SAMPLERS]), ("pruning", pruning, [*PRUNINGS])):
        if got not in known:
            raise UnknownNameError(where, got=got, known=known)
    if objectives[0] != "accuracy":
        raise ReszooError("objective", got=[*objectives], expected="accuracy, then costs to minimize")
    for got in objectives[1:]:
        if got not in (*COUNTED_COSTS, "latency"):
            raise UnknownNameError("objective", got=got, known=(*COUNTED_COSTS, "latency"))
