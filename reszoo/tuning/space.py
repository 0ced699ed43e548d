"""A search space as data: a base network and what may vary in its size, its parts and its recipe. No Keras."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path
from random import Random
from typing import Any

from pydantic import Field, model_validator

from reszoo.arch import zoo
from reszoo.arch.cost import Cost, Tally
from reszoo.arch.plan import lower
from reszoo.arch.spec import NetSpec, replace
from reszoo.config import FrozenModel, check, configs, inherit, merge, read_yaml
from reszoo.errors import ReszooError, UnknownNameError
from reszoo.training.recipes import Recipe, recipe as named
from reszoo.tuning.axes import Asked, Axis, Point, all_points, count_points, dice
from reszoo.tuning.sizes import KINDS, Size, sized

COSTLESS = ("drop_path", "dropout", "residual_dropout")
"""Rates cost nothing: counting a network leaves them out, so that networks that differ in them alone share pieces."""
Parts = tuple[tuple[str, Any], ...]
"""Answers about the parts of a network: axis and value, in order."""
START = ("weights", "frozen", "layer_decay")


@dataclass(frozen=True)
class Candidate:
    """One network of a space, and how it would be trained."""

    point: Point
    spec: NetSpec
    recipe: Recipe
    weights: str | None = None
    """Pretrained ones to begin with."""

    @cached_property
    def key(self) -> str:
        """The same for the same network under the same recipe, whatever the answers that led there."""
        spec = self.spec.model_dump(mode="json", exclude={"name"})
        how = self.recipe.model_dump(mode="json", exclude={"name", "ref"})
        told = json.dumps([spec, how, self.weights], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()[:16]


class Space(FrozenModel):
    """A network, and axes along which it varies."""

    name: str
    network: str
    """Name of the network that varies; `file.yaml:name` too."""
    kind: str = "stages"
    """How `size` spans depth and width: compound, regnet, stages, tabular."""
    size: dict[str, Axis | int | float] = Field(default={})
    """Axes of the kind, or fixed numbers: see `reszoo.tuning.sizes`."""
    net: dict[str, Axis] = Field(default={})
    """Further changes of the network, as in `NetSpec.replace`: shortcut, stem, block, drop_path, block.dropout, ..."""
    recipe: dict[str, Axis] = Field(default={})
    """Changes of the recipe: learning_rate.peak, augmentation, ..."""
    start: dict[str, Axis] = Field(default={})
    """Fine-tuning: `weights` (words: a tag or file, or null for none), `frozen` (parts), `layer_decay`."""
    changes: dict[str, Any] = Field(default={})
    """What is changed of the network for good, as in `NetSpec.replace`."""
    ref: str = ""
    """Where the ranges come from."""

    @model_validator(mode="after")
    def _known(self) -> Space:
        if self.kind not in KINDS:
            raise UnknownNameError("kind", got=self.kind, known=KINDS)
        kind = KINDS[self.kind]
        _check_names("size", self.size, kind.axes)
        _check_names("start", self.start, START)
        absent = [name for name in kind.needs if name not in self.size]
        if absent:
            raise ReszooError("size", got=f"no {absent[0]}", expected=", ".join(kind.axes))
        earlier: dict[str, Axis] = {}
        for name, axis in self.axes.items():
            for parent, answers in axis.when.items():
                _check_names(f"{name}.when", [parent], earlier)
                _check_names(f"{name}.when.{parent}", answers, earlier[parent].answers or answers)
            earlier[name] = axis
        return self

    @cached_property
    def root(self) -> NetSpec:
        """The network that varies, with the changes made for good."""
        found = zoo.spec(self.network)
        return replace(found, self.changes, where=f"{self.name}.changes") if self.changes else found

    @cached_property
    def axes(self) -> dict[str, Axis]:
        """Every axis under the name it is asked by, in the order of asking: the network's parts, its size, the rest."""
        stages = range(1, len(self.root.stages) + 1)
        found = dict(self.net)
        for name, axis in self.size.items():
            if isinstance(axis, Axis):
                each = name in ("depths", "widths")
                names = [f"stage{number}.{name[:-1]}" for number in stages] if each else [name]
                found |= dict.fromkeys(names, axis)
        return {**found, **self.recipe, **self.start}

    def fitted(self, **changes: Any) -> Space:
        """Returns this space with further changes of its network, such as the data's input_shape and classes."""
        return check(Space, {**self.model_dump(), "changes": {**self.changes, **changes}}, where=self.name)

    def ask(self, hp: Asked) -> Point:
        """Returns the answers of `hp`: of a dice, of keras-tuner, of an Optuna trial."""
        point: Point = {}
        for name, axis in self.axes.items():
            if not axis.when:
                point[name] = axis.ask(hp, name)
                continue
            ((parent, answers),) = axis.when.items()
            # Asked even where it does not count: keras-tuner learns of a conditional axis only so.
            with hp.conditional_scope(parent, [*answers]):
                said = axis.ask(hp, name)
            if point.get(parent) in answers:
                point[name] = said
        return point

    def spec(self, point: Point) -> NetSpec | None:
        """Returns the network of a point, or None where there is none: its parts contradict each other."""
        size = self._size(point)
        if size is None:
            return None
        return self._costs.spec(tuple((name, point[name]) for name in self.net if name in point), size)

    def cost(self, point: Point) -> Cost | None:
        """Returns what the network of a point costs, or None where there is no such network."""
        size = self._size(point)
        if size is None:
            return None
        return self._costs.cost(tuple((name, point[name]) for name in self._costly if name in point), size)

    def candidate(self, point: Point, recipe: str | Recipe = "fast") -> Candidate | None:
        """Returns network and recipe of a point, or None where there is no such network.

        Raises:
            ReszooError: the recipe has no such field.
        """
        spec = self.spec(point)
        if spec is None:
            return None
        changes: dict[str, Any] = {}
        for name, answer in point.items():
            if name in self.recipe:
                merge(changes, _nested(name, self.recipe[name].meaning(answer)))
        said = {name: self.start[name].meaning(point[name]) for name in self.start if name in point}
        weights = said.pop("weights", None)
        how = named(recipe, **changes, **(said if weights else {}))
        return Candidate(point, spec, how, weights)

    def sample(self, *, seed: int = 0) -> Iterator[Point]:
        """Yields points without end, each answer as likely as another; some may be no network."""
        answers = dice(Random(seed))
        while True:
            yield self.ask(answers)

    def count(self) -> int | None:
        """Returns the number of points, or None where an axis has no end of answers."""
        return count_points([*self.axes.items()], {})

    def points(self) -> Iterator[Point]:
        """Yields every point, in order.

        Raises:
            ReszooError: an axis has no end of answers.
        """
        endless = [name for name, axis in self.axes.items() if axis.answers is None]
        if endless:
            raise ReszooError(f"{self.name}.{endless[0]}", got="no end of answers", expected="a step, or values")
        return all_points([*self.axes.items()], {})

    def _size(self, point: Point) -> Size | None:
        """What the answers about the size come to."""
        asked = {name: point[name] for name in self._size_axes if name in point}
        return KINDS[self.kind].size(self.root, {**self._fixed_size, **asked})

    @cached_property
    def _size_axes(self) -> tuple[str, ...]:
        return tuple(name for name in self.axes if name not in {*self.net, *self.recipe, *self.start})

    @cached_property
    def _fixed_size(self) -> dict[str, int | float]:
        return {name: value for name, value in self.size.items() if not isinstance(value, Axis)}

    @cached_property
    def _costly(self) -> tuple[str, ...]:
        """Axes of the parts that decide the cost."""
        return tuple(name for name in self.net if name.rpartition(".")[2] not in COSTLESS)

    @cached_property
    def _costs(self) -> _CostTable:
        return _CostTable(self)


class _CostTable:
    """The networks of a space by their parts and size, and what they cost: draws that differ in their recipe share it.

    A space has few networks that differ in parts, so all are remembered; of sizes it has many.
    """

    def __init__(self, space: Space):
        self._root, self._net, self._where = space.root, space.net, space.name
        self.variant = cache(self._variant)
        self.cost = lru_cache(maxsize=1 << 16)(self._cost)
        self._tally = lru_cache(maxsize=256)(self._new_tally)

    def spec(self, parts: Parts, size: Size) -> NetSpec | None:
        """The network of some parts in a size, or None where they contradict each other."""
        try:
            return sized(self.variant(parts), size)
        except ValueError:
            return None

    def _variant(self, parts: Parts) -> NetSpec:
        """The space's root with answers about its parts."""
        changes: dict[str, Any] = {}
        for name, answer in parts:
            merge(changes, _nested(name, self._net[name].meaning(answer)))
        return replace(self._root, changes, where=self._where) if changes else self._root

    def _cost(self, parts: Parts, size: Size) -> Cost | None:
        """What the network of some parts in a size costs, or None where there is none."""
        try:
            return self._tally(parts, size.ratio).cost(size.depths, size.widths)
        except ValueError:
            return None

    def _new_tally(self, parts: Parts, ratio: float | None) -> Tally:
        """The costs of all networks of the same parts."""
        variant = self.variant(parts)
        return Tally(lambda depths, widths: lower(sized(variant, Size(depths, widths, ratio))))


def _nested(path: str, value: Any) -> dict[str, Any]:
    for word in reversed(path.split(".")):
        value = {word: value}
    return dict(value)


def _check_names(where: str, got: Any, known: Any) -> None:
    for name in got:
        if name not in known:
            raise UnknownNameError(where, got=name, known=map(str, known))


@cache
def _entries() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for file in sorted((configs() / "spaces").glob("*.yaml")):
        found |= read_yaml(file)
    return found


def list_spaces() -> list[str]:
    """Returns the names of the search spaces."""
    return [*_entries()]


def space(name: str | Space, /, **changes: Any) -> Space:
    """Returns a search space, by name or from `file.yaml:name`, with changes.

    `space("stages_cifar", network="resnet56_cifar")`

    Raises:
        ReszooError: no such space, or an impossible one; the message names the field.
    """
    if isinstance(name, Space):
        data = name.model_dump()
    else:
        file, _, own = name.rpartition(":")
        entries = {**_entries(), **(read_yaml(Path(file)) if file else {})}
        data = inherit(own, entries, kind="space") | {"name": own}
    merge(data, changes)
    return check(Space, data, where=f"space {data['name']}")
