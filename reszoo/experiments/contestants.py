"""What a network is compared with, as data: its plain twin, controls, budgets, and what is said about the claims."""

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
    """One way to change a residual network."""

    kind: Literal["residual", "plain", "control"]
    summary: str
    """What differs, in words."""
    changes: dict[str, Any] = Field(default_factory=dict)
    """As `NetSpec.replace` takes them."""


class Claim(FrozenModel):
    """One claim about residual networks, and what may honestly be said of it."""

    said: str
    measure: str
    """What is measured here."""
    published: str
    """Figures with their sources."""
    caveat: str
    families: Annotated[tuple[str, ...], Strict(False)]
    """Who is measured."""
    chart: dict[str, str]
    """How its picture is titled: arguments of `draw_lines`."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """A network of a comparison."""

    family: str
    kind: str
    """residual, plain or control."""
    summary: str
    spec: NetSpec

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
    """Returns the file of families, budgets, networks and claims."""
    return read_yaml(configs() / "evidence" / "evidence.yaml")


def families(names: Sequence[str] | None = None) -> dict[str, Family]:
    """Returns families of the file: these, or those that `compare` takes.

    Raises:
        UnknownNameError: no such family.
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
    """Returns a budget of the file, with changes that are not None.

    Raises:
        ReszooError: a change that is none, or impossible.
    """
    asked = {field: value for field, value in changes.items() if value is not None}
    return check(TrainingBudget, {**settings()["budgets"][name], **asked}, where="budget")


def network(name: Literal["dense", "image"], data: Data, **changes: Any) -> NetSpec:
    """Returns the network that the evidence is measured on, in the data's shape."""
    told = dict(settings()["networks"][name])
    return zoo.spec(told.pop("network"), input_shape=data.shape, classes=len(data.classes), **told, **changes)


def contestants(spec: NetSpec, table: Mapping[str, Family]) -> tuple[Contestant, ...]:
    """Returns a residual network and what it is compared with; a control that would be the network itself is left out.

    Raises:
        ReszooError: the network has no shortcuts.
    """
    if spec.block.shortcut == "none":
        got = f"{spec.name}, a plain network"
        raise ReszooError("compare", got=got, expected="a residual network: its plain twin is made of it")
    found: dict[NetSpec, Contestant] = {}
    for name, family in table.items():
        made = spec.replace(**family.changes) if family.changes else spec
        found.setdefault(made, Contestant(name, family.kind, family.summary, made))
    return tuple(found.values())
