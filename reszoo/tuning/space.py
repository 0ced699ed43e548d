"""A search space as data: a base network, and axes for its size, its parts and its recipe. Does not import Keras."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, cached_property
from pathlib import Path
from random import Random
from typing import Annotated, Any

from pydantic import Field, Strict, ValidationError, model_validator

from reszoo.arch import zoo
from reszoo.arch.cost import Cost
from reszoo.arch.spec import NetSpec, replace
from reszoo.config import FrozenModel, check, configs, explain, inherit, merge, read_yaml
from reszoo.errors import ReszooError, UnknownNameError
from reszoo.notebook import html_table
from reszoo.training.recipes import HEADS, Recipe, recipe as get_recipe
from reszoo.tuning.axes import (
    Answers,
    Axis,
    Point,
    ValueSource,
    all_points,
    checked_point,
    count_points,
    describe_values,
    random_answers,
)
from reszoo.tuning.candidates import KINDS, Candidate as Candidate, CostTable, Size, check_parts, grain_of, nested

COSTLESS = ("drop_path", "dropout", "residual_dropout")
"""Rates that do not change the cost: networks that differ only in them share cached costs."""
START = ("weights", "frozen", "layer_decay")
"""Axes of `start`."""


class Space(FrozenModel):
    """A search space: a network, and axes along which it varies.

    Example:
        >>> import reszoo
        >>> reszoo.Space(name="small", network="resnet20_cifar", size={"depth": (1, 2), "width": (0.25, 0.5)}).count()
        4
    """

    name: str
    network: str
    """Name of the base network, or `file.yaml:name`."""
    kind: str = "stages"
    """The meaning of `size`: compound, regnet, stages or tabular."""
    size: dict[str, Axis | int | float] = Field(default={})
    """Axes of the kind, or constants: see `reszoo.tuning.candidates`."""
    net: dict[str, Axis] = Field(default={})
    """Axes of other fields of the network, as in `NetSpec.replace`: shortcut, stem, block, block.dropout, ..."""
    recipe: dict[str, Axis] = Field(default={})
    """Axes of fields of the recipe: learning_rate.peak, augmentation, ..."""
    start: dict[str, Axis] = Field(default={})
    """Axes of fine-tuning: `weights` (words: a tag, a file, or null for none), `frozen` (parts), `layer_decay`."""
    changes: dict[str, Any] = Field(default={})
    """Constant changes of the network, as in `NetSpec.replace`."""
    presets: Annotated[tuple[dict[str, Any], ...], Strict(False)] = ()
    """Points that a search tries first, those that are within budget."""
    grain: Annotated[int, Field(ge=1)] | None = None
    """Widths of stages and stem are multiples of it: by default of 8, as hardware prefers, or of a smaller power of two
    where the space lists such widths."""
    ref: str = ""
    """Source of the ranges."""

    def __init__(self, /, **fields: object) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise explain(error, Space, "") from None

    def __repr__(self) -> str:
        return f"Space({self.name!r}, network={self.network!r}, kind={self.kind!r}, {len(self.axes)} axes)"

    def _repr_html_(self) -> str:
        rows = [(name, describe_values(axis), _condition(axis)) for name, axis in self.axes.items()]
        title = f"{self.name}: {self.network}, kind {self.kind}"
        return html_table(["axis", "values", "applies where"], rows, title=title, note=self.ref)

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
        check_parts(self.root, self.net)
        for number, preset in enumerate(self.presets, 1):
            checked_point(self.axes, preset, where=f"presets.{number}")
        return self

    @cached_property
    def root(self) -> NetSpec:
        """The base network, with the constant changes."""
        base = zoo.spec(self.network)
        return replace(base, self.changes, where=f"{self.name}.changes") if self.changes else base

    @cached_property
    def axes(self) -> dict[str, Axis]:
        """Name -> axis, in the order in which values are taken: `net`, `size`, `recipe`, `start`."""
        stages = range(1, len(self.root.stages) + 1)
        axes = dict(self.net)
        for name, axis in self.size.items():
            if isinstance(axis, Axis):
                per_stage = name in ("depths", "widths")
                names = [f"stage{number}.{name[:-1]}" for number in stages] if per_stage else [name]
                axes |= dict.fromkeys(names, axis)
        return {**axes, **self.recipe, **self.start}

    def fitted(self, **changes: object) -> Space:
        """Returns this space with further constant changes of its network, such as input_shape and classes."""
        return check(Space, {**self.model_dump(), "changes": {**self.changes, **changes}}, where=self.name)

    def ask(self, hp: ValueSource) -> Point:
        """Returns the point whose values come from `hp`, such as a `keras_tuner.HyperParameters`."""
        point: Point = {}
        for name, axis in self.axes.items():
            if not axis.when:
                point[name] = axis.ask(hp, name)
                continue
            ((parent, answers),) = axis.when.items()
            if point.get(parent) not in answers and isinstance(hp, Answers):
                continue
            # Also where it does not apply: keras-tuner only then registers a conditional axis.
            with hp.conditional_scope(parent, [*answers]):
                value = axis.ask(hp, name)
            if point.get(parent) in answers:
                point[name] = value
        return point

    def spec(self, point: Point) -> NetSpec | None:
        """Returns the network of a point, or None where the point is not a valid network."""
        size = self._size(point)
        if size is None:
            return None
        return self._costs.spec(tuple((name, point[name]) for name in self.net if name in point), size)

    def cost(self, point: Point) -> Cost | None:
        """Returns the cost of a point's network, or None where the point is not a valid network."""
        size = self._size(point)
        if size is None:
            return None
        return self._costs.cost(tuple((name, point[name]) for name in self._costly if name in point), size)

    def candidate(self, point: Point, recipe: str | Recipe = "fast") -> Candidate | None:
        """Returns network and recipe of a point, or None where the point is not a valid network.

        The loss decides about the activation of one class an example, as in `reszoo.train`.

        Raises:
            ReszooError: the recipe lacks a field of the space.
        """
        spec = self.spec(point)
        if spec is None:
            return None
        changes: dict[str, Any] = {}
        for name, answer in point.items():
            if name in self.recipe:
                merge(changes, nested(name, self.recipe[name].meaning(answer)))
        start = {name: self.start[name].meaning(point[name]) for name in self.start if name in point}
        weights = start.pop("weights", None)
        changed = get_recipe(recipe, **changes, **(start if weights else {}))
        activation = HEADS.get(changed.loss)
        if activation and spec.head.activation == "softmax":
            spec = spec.model_copy(update={"head": spec.head.model_copy(update={"activation": activation})})
        return Candidate(point, spec, changed, weights)

    def sample(self, *, seed: int = 0) -> Iterator[Point]:
        """Yields random points without end, uniform over the values of each axis; not all are valid networks."""
        answers = random_answers(Random(seed))
        while True:
            yield self.ask(answers)

    def count(self) -> int | None:
        """Returns the number of points, or None where an axis has infinitely many values."""
        return count_points([*self.axes.items()], {})

    def points(self) -> Iterator[Point]:
        """Yields every point, in order.

        Raises:
            ReszooError: an axis has infinitely many values.
        """
        infinite = [name for name, axis in self.axes.items() if axis.answers is None]
        if infinite:
            raise ReszooError(f"{self.name}.{infinite[0]}", got="infinitely many values", expected="a step, or values")
        return all_points([*self.axes.items()], {})

    def _size(self, point: Point) -> Size | None:
        """The size of a point."""
        values = {name: point[name] for name in self._size_axes if name in point}
        size = KINDS[self.kind].size(self.root, {**self._fixed_size, **values})
        return size and size.rounded(self._grain)

    @cached_property
    def _grain(self) -> int:
        """The number whose multiples all widths are."""
        return self.grain or grain_of(self.kind, self.size, self.root)

    @cached_property
    def _size_axes(self) -> tuple[str, ...]:
        return tuple(name for name in self.axes if name not in {*self.net, *self.recipe, *self.start})

    @cached_property
    def _fixed_size(self) -> dict[str, int | float]:
        return {name: value for name, value in self.size.items() if not isinstance(value, Axis)}

    @cached_property
    def _costly(self) -> tuple[str, ...]:
        """Axes of `net` that change the cost."""
        return tuple(name for name in self.net if name.rpartition(".")[2] not in COSTLESS)

    @cached_property
    def _costs(self) -> CostTable:
        return CostTable(self.root, self.net, where=self.name)


def _condition(axis: Axis) -> str:
    return "; ".join(f"{parent} is {' or '.join(map(str, values))}" for parent, values in axis.when.items())


def _check_names(where: str, got: Any, known: Any) -> None:
    for name in got:
        if name not in known:
            raise UnknownNameError(where, got=name, known=map(str, known))


@cache
def _entries() -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for file in sorted((configs() / "spaces").glob("*.yaml")):
        entries |= read_yaml(file)
    return entries


def list_spaces() -> list[str]:
    """Returns the names of the search spaces.

    Example:
        >>> import reszoo
        >>> "digits_small" in reszoo.list_spaces()
        True
    """
    return [*_entries()]


def space(name: str | Space, /, **changes: object) -> Space:
    """Returns a search space, by name or from `file.yaml:name`, with changes.

    Example:
        >>> import reszoo
        >>> reszoo.space("stages_cifar", network="resnet56_cifar").root.name
        'resnet56_cifar'

    Raises:
        ReszooError: an unknown or invalid space; the message names the field.
    """
    if isinstance(name, Space):
        data = name.model_dump()
    else:
        file, _, entry = name.rpartition(":")
        entries = {**_entries(), **(read_yaml(Path(file)) if file else {})}
        data = inherit(entry, entries, kind="space") | {"name": entry}
    merge(data, changes)
    return check(Space, data, where=f"space {data['name']}")
