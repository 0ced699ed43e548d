"""The contents of `evidence.yaml`: families of networks, training budgets and claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import Field, Strict, field_validator

from reszoo.arch import zoo
from reszoo.arch.cost import cost
from reszoo.arch.plan import plan
from reszoo.arch.spec import Count, NetSpec
from reszoo.config import FrozenModel, check, configs, read_yaml
from reszoo.data.sources import Data
from reszoo.errors import ReszooError, UnknownNameError
from reszoo.training.recipes import Positive, Recipe, recipe as load_recipe

SHALLOW = 3
"""Divisor of the stages' depths for the shallow network: 20 layers for 56."""
DEEPEST = 1000
"""Greatest depth of the dense networks of the evidence."""


class Family(FrozenModel):
    """A variant of a residual network."""

    kind: Literal["residual", "plain", "control"]
    description: str
    """The difference from the residual network."""
    changes: dict[str, Any] = Field(default_factory=dict)
    """As `NetSpec.replace` takes them."""


class Claim(FrozenModel):
    """A claim about residual networks, its measurement, published figures and caveat."""

    statement: str = Field(alias="said")
    measure: str
    """The quantity that is measured."""
    published: str
    """Figures with their sources."""
    caveat: str
    families: Annotated[tuple[str, ...], Strict(False)]
    """Families that are measured."""
    chart: dict[str, str]
    """Titles of its chart: arguments of `draw_lines`."""

    def __repr__(self) -> str:
        return f"Claim({self.statement[:120]!r})"


class TrainingBudget(FrozenModel):
    """The training budget of every network in a comparison."""

    recipe: Recipe
    """Optimizer and batch; `rates` and `steps` replace its learning rate and epochs."""
    steps: Count
    rates: Annotated[tuple[Positive, ...], Strict(False), Field(min_length=1)]
    """Learning rates to try with the first seed; the other seeds use the best one."""
    seeds: Annotated[tuple[int, ...], Strict(False), Field(min_length=1)]
    """Of initial weights and data order."""

    @field_validator("recipe", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        return load_recipe(value) if isinstance(value, str) else value

    @property
    def description(self) -> str:
        """The budget in words."""
        rates = ", ".join(f"{rate:g}" for rate in self.rates)
        rate = f"best of learning rates {rates} for the first seed" if len(self.rates) > 1 else f"learning rate {rates}"
        seeds = f"{len(self.seeds)} seed{'s' if len(self.seeds) > 1 else ''}"
        return f"{self.steps} steps of {self.recipe.optimizer.kind}, batch {self.recipe.batch}, {rate}, {seeds}"

    def __repr__(self) -> str:
        return f"TrainingBudget({self.description[:130]})"


@dataclass(frozen=True, slots=True)
class Contestant:
    """A network of a comparison."""

    family: str
    kind: str
    """residual, plain or control."""
    description: str
    """The difference from the residual network."""
    spec: NetSpec

    def __repr__(self) -> str:
        return f"Contestant({self.family[:40]!r}, {self.kind}: {self.spec.name[:40]}, {self.depth} layers)"

    @property
    def depth(self) -> int:
        """Weighted layers."""
        return cost(plan(self.spec)).depth

    @property
    def params(self) -> int:
        """Trainable parameters."""
        return cost(plan(self.spec)).params


@cache
def settings() -> Mapping[str, Any]:
    """Returns the contents of `evidence.yaml`."""
    return read_yaml(configs() / "evidence" / "evidence.yaml")


def families(names: Sequence[str] | None = None) -> dict[str, Family]:
    """Returns families by name; by default those that `compare` uses.

    Raises:
        UnknownNameError: an unknown family.
    """
    table = settings()["families"]
    chosen = settings()["compared"] if names is None else names
    for unknown in {*chosen} - {*table}:
        raise UnknownNameError("unknown family", got=unknown, known=table)
    return {name: check(Family, table[name], where=f"evidence.yaml: {name}") for name in chosen}


def claims() -> dict[str, Claim]:
    """Returns the claims by name."""
    return {name: check(Claim, row, where=f"evidence.yaml: {name}") for name, row in settings()["claims"].items()}


def budget(name: str, **changes: Any) -> TrainingBudget:
    """Returns a training budget of the file, with the changes that are not None.

    Raises:
        ReszooError: an unknown or invalid change.
    """
    changes = {field: value for field, value in changes.items() if value is not None}
    return check(TrainingBudget, {**settings()["budgets"][name], **changes}, where="budget")


def network(name: Literal["dense", "image"], data: Data, **changes: Any) -> NetSpec:
    """Returns the network that the evidence is measured on, for the data's shape and classes."""
    entry = dict(settings()["networks"][name])
    return zoo.spec(entry.pop("network"), input_shape=data.shape, classes=len(data.classes), **entry, **changes)


def contestants(spec: NetSpec, table: Mapping[str, Family]) -> tuple[Contestant, ...]:
    """Returns a residual network and its variants, without controls that equal the network itself.

    Raises:
        ReszooError: the network has no shortcuts.
    """
    if spec.block.shortcut == "none":
        got = f"{spec.name}, a plain network"
        raise ReszooError("compare", got=got, expected="a residual network")
    variants: dict[NetSpec, Contestant] = {}
    for name, family in table.items():
        variant = spec.replace(**family.changes) if family.changes else spec
        variants.setdefault(variant, Contestant(name, family.kind, family.description, variant))
    return tuple(variants.values())


def shallower(spec: NetSpec, depths: int | Sequence[int] | None = None) -> NetSpec:
    """Returns the network with fewer blocks: `depths` in every stage, by default a third.

    Raises:
        ReszooError: not fewer blocks, or another number of stages.
    """
    if depths is None:
        depths = [max(1, round(stage.depth / SHALLOW)) for stage in spec.stages]
    result = spec.replace(depths=depths)
    before, after = (sum(stage.depth for stage in network.stages) for network in (spec, result))
    if len(result.stages) != len(spec.stages) or after >= before:
        expected = f"fewer than {before} blocks in {len(spec.stages)} stages"
        raise ReszooError(f"{spec.name}: shallow", got=f"{after} blocks", expected=expected)
    return result


def check_evidence(depths: Sequence[int], names: Sequence[str] | None) -> None:
    """Checks the depths of the dense networks and the names of claims.

    Raises:
        ReszooError: a depth that is odd or out of range, or none.
        UnknownNameError: an unknown claim.
    """
    invalid = [depth for depth in depths if depth % 2 or not 4 <= depth <= DEEPEST]
    if invalid or not depths:
        raise ReszooError("depths", got=invalid or "none", expected=f"even numbers of layers from 4 to {DEEPEST:,}")
    for name in names or ():
        if name not in settings()["claims"]:
            raise UnknownNameError("evidence.claims", got=name, known=settings()["claims"])
