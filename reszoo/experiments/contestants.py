"""The contents of `evidence.yaml`: families of networks, training budgets and claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import Field, Strict

from reszoo.arch import zoo
from reszoo.arch.cost import cost
from reszoo.arch.plan import plan
from reszoo.arch.spec import NetSpec
from reszoo.config import FrozenModel, check, configs, read_yaml
from reszoo.data.sources import Data
from reszoo.errors import ReszooError, UnknownNameError
from reszoo.experiments.trainer import TrainingBudget


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
