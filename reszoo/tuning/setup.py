"""The settings of a search, checked before anything is trained; shared by the study and its scheduler."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Integral
from pathlib import Path
from typing import Any

import optuna

from reszoo.config import check
from reszoo.data.dataset import digests
from reszoo.data.sources import Data
from reszoo.errors import ReszooError, UnknownNameError
from reszoo.training.defaults import MIN_UPDATES, check_recipe, default_recipe, fitted
from reszoo.training.recipes import Recipe, recipe as get_recipe
from reszoo.training.train import check_kind, check_seed, fields_for
from reszoo.tuning.axes import Axis
from reszoo.tuning.budget import Budget, Feasible, limits_of
from reszoo.tuning.candidates import dotted
from reszoo.tuning.halving import Halving
from reszoo.tuning.job import Source, description, runs_of
from reszoo.tuning.measures import FURTHER, monitor_of, objectives_of
from reszoo.tuning.proposals import SAMPLERS, Proposals
from reszoo.tuning.space import Space, space as get_space
from reszoo.tuning.worker_process import Latencies, Worker, check_callbacks

PRUNINGS = ("halving", "none")
OTHER_NAMES = {
    **dict.fromkeys(("max_trials", "n_trials", "num_trials"), "trials"),
    **dict.fromkeys(("kfold", "k_folds", "cv", "n_splits"), "folds"),
    **dict.fromkeys(("max_epochs", "num_epochs"), "epochs"),
    **dict.fromkeys(("validation_data", "val_data"), "validation"),
    **dict.fromkeys(("directory", "output", "project_name"), "folder"),
    **dict.fromkeys(("n_jobs", "workers"), "jobs"),
    **dict.fromkeys(("timeout", "max_seconds"), "seconds"),
    **dict.fromkeys(("batch_size",), "batch"),
    "pruner": "pruning",
    "tuner": "sampler",
    "asha": "halving",
    "hyperband": "pruning='halving', which ends runs; samplers propose them",
    "bayesian": "tpe",
    "flops": "macs",
    "parameters": "params",
}
"""Names of other libraries for arguments and words -> ours."""


@dataclass(frozen=True)
class Setup:
    """Everything that the result of a search depends on."""

    feasible: Feasible
    """The space, adapted to the data, and the budget."""
    recipe: Recipe
    source: Source
    data: Mapping[str, Any]
    """The description of the data."""
    digest: Mapping[str, str]
    """The digests of the data."""
    objectives: tuple[str, ...]
    """A measure, then further ones and costs."""
    sampler: str
    pruning: str
    seed: int
    retries: int
    """Attempts after the first, where the worker process dies."""
    callbacks: tuple[Any, ...]
    worker: Callable[[], Worker]
    """Creates the workers that train."""
    latency: Latencies
    folds: int | None = None
    """The score is the median over this many folds."""
    stall: float = 300.0
    """Seconds without a message, at least, after which a worker counts as hanging."""
    note: str = ""
    """What a recipe that the call does not name was fitted to, in one line."""
    unfitted: Recipe | None = None
    """That recipe as it is for any number of examples."""

    @cached_property
    def sources(self) -> tuple[Source, ...]:
        """What is trained on for one trial: the source, or each fold of it."""
        return runs_of(self.source, self.folds)

    @property
    def space(self) -> Space:
        """The space, adapted to the data."""
        return self.feasible.space

    def resumed(self, before: Mapping[str, Any], *, sampler: str | None) -> Setup:
        """Returns this setup with what the settings of its study say and the call does not.

        Args:
            before: settings of the study.
            sampler: that the call names.
        """
        setup = self if sampler else replace(self, sampler=before.get("sampler", self.sampler))
        if "grain" not in before["space"]:
            # Earlier versions did not round widths, ...
            space = get_space(self.space, grain=1)
            setup = replace(setup, feasible=Feasible(space, self.feasible.budget, measure=self.latency))
        recorded = before["recipe"]
        if self.unfitted and all(recorded.get(name) == getattr(self.unfitted, name) for name in ("batch", "epochs")):
            # ... and took no notice of the number of examples.
            setup = replace(setup, recipe=self.unfitted, note="")
        return setup

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
            "folds": self.folds,
            "data": self.data,
            "digest": self.digest,
        }
        return dict(json.loads(json.dumps(settings)))

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
    changes: Mapping[str, Any],
    budget: Budget | Mapping[str, float] | None,
    objective: str | Sequence[str] | None,
    sampler: str,
    pruning: str | None,
    callbacks: tuple[Any, ...],
    retries: int,
    stall: float,
    worker: Callable[[], Worker],
) -> Setup:
    """Returns the setup of a search; the arguments are those of `Search`.

    Raises:
        ReszooError: invalid settings, or no network within budget.
    """
    limits = limits_of(budget)
    _check_names(recipe_changes, limits)
    if not isinstance(source.seed, Integral):
        raise ReszooError("seed", got=repr(source.seed), expected="a whole number")
    check_seed(source.seed)
    check_callbacks(callbacks)
    # Plain numbers, as they are stored.
    folds = int(source.folds) if isinstance(source.folds, Integral) else source.folds
    source = dataclasses.replace(source, seed=int(source.seed), folds=None)
    examples = _examples(source, folds)
    objectives = objectives_of(objective, examples.task)
    pruning = _pruning(pruning, objectives)
    _check_options(sampler, pruning)
    adapted = get_space(space)
    check_kind(adapted.root, examples)
    _check_fixed(adapted, changes, recipe_changes)
    adapted = adapted.fitted(**{**changes, **fields_for(examples, loss="cross_entropy")})
    recipe_changes = _checked_changes(recipe_changes, objectives, examples)
    name, note, unfitted = recipe or default_recipe(examples, None), "", None
    training = get_recipe(name, **recipe_changes)
    if recipe is None:
        updates = 0 if adapted.start else MIN_UPDATES
        unfitted = _measured(training, objectives)
        training, note = fitted(str(name), len(examples.train), recipe_changes, updates=updates)
    training = _measured(training, objectives)
    check_recipe(training, examples)
    latency = Latencies(folder / "latency.json", worker())
    return Setup(
        feasible=Feasible(adapted, check(Budget, limits, where="budget"), measure=latency),
        recipe=training,
        # What cannot be opened again, such as a stream, is sent as it was read.
        source=source if source.is_named or folds else Source(examples, seed=source.seed),
        data=description(examples),
        digest=digests(examples),
        objectives=objectives,
        sampler=sampler,
        pruning=pruning,
        seed=source.seed,
        retries=retries,
        callbacks=callbacks,
        worker=worker,
        latency=latency,
        folds=folds,
        stall=stall,
        note=note,
        unfitted=unfitted,
    )


def _check_names(recipe_changes: Mapping[str, Any], limits: Mapping[str, Any]) -> None:
    """Refuses the names that other libraries have for our arguments."""
    for where, names in (("search", recipe_changes), ("budget", limits)):
        for name in names:
            if name in OTHER_NAMES:
                raise ReszooError(f"{where}: unknown argument", got=repr(name), hint=_named(name))


def _check_fixed(space: Space, changes: Mapping[str, Any], recipe_changes: Mapping[str, Any]) -> None:
    """Refuses fixed values of what the space searches: they would have no effect."""
    for where, values, axes in (
        ("changes", changes, {**space.net, **space.size}),
        ("recipe", recipe_changes, space.recipe),
    ):
        for name in dotted(values):
            if name in axes and (where == "recipe" or isinstance(axes[name], Axis)):
                hint = f"space(..., {'recipe' if where == 'recipe' else 'net'}=...) changes the axis"
                raise ReszooError(f"{where}.{name}", got="a value for what the space searches", hint=hint)


def _named(name: str) -> str:
    """A hint with our name for something."""
    ours = OTHER_NAMES[name]
    hint = f"did you mean {ours!r}?" if ours.isidentifier() else f"did you mean {ours}?"
    return f"{hint} (a multiply-accumulate is two operations)" if name == "flops" else hint


def _examples(source: Source, folds: int | None) -> Data:
    """The data, or those of the first fold."""
    if folds is not None and (not isinstance(folds, Integral) or folds < 2):
        raise ReszooError("folds", got=repr(folds), expected="a whole number, at least 2")
    examples = (source if folds is None else dataclasses.replace(source, folds=folds, fold=0)).open()
    examples.check_trainable()
    return examples


def _pruning(pruning: str | None, objectives: Sequence[str]) -> str:
    """The pruning, by default halving; it compares by one objective only."""
    if len(objectives) == 1 or pruning not in (None, "halving"):
        return "halving" if pruning is None else pruning
    if pruning == "halving":
        expected = "none where there are several objectives: runs are compared by one"
        raise ReszooError("pruning", got="halving", expected=expected)
    warnings.warn("several objectives: pruning is off, every trial is trained to its end", stacklevel=4)
    return "none"


def _checked_changes(changes: Mapping[str, Any], objectives: Sequence[str], data: Data) -> dict[str, Any]:
    """Changes to the recipe, whose epochs are compared by the first objective; `class_weight` as in Keras is taken."""
    changes = dict(changes)
    if "class_weight" in changes:
        weights = changes.pop("class_weight")
        if isinstance(weights, Mapping):
            names = dict(enumerate(data.classes))
            weights = {names.get(key, str(key)): float(weight) for key, weight in weights.items()}
        changes["class_weights"] = weights
    monitor = monitor_of(objectives, data.task)
    changed = changes.setdefault("monitor", monitor)
    if changed != monitor:
        raise ReszooError("monitor", got=repr(changed), expected=f"{monitor!r}, as the objective says")
    return changes


def _measured(recipe: Recipe, objectives: Sequence[str]) -> Recipe:
    """The recipe with the measures of all objectives."""
    further = sorted({*objectives[1:]} & {*FURTHER})
    return get_recipe(recipe, metrics=tuple(dict.fromkeys((*recipe.metrics, *further)))) if further else recipe


def _check_options(sampler: str, pruning: str) -> None:
    for where, got, known in (("sampler", sampler, [*SAMPLERS]), ("pruning", pruning, [*PRUNINGS])):
        if got in OTHER_NAMES:
            raise ReszooError(where, got=repr(got), expected=", ".join(known), hint=_named(got))
        if got not in known:
            raise UnknownNameError(where, got=got, known=known)
