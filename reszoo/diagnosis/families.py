"""What a network is compared with, as data: its plain twin, controls, budgets, and what is said about the claims."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from pydantic import Field

from reszoo.arch import zoo
from reszoo.arch.check import check
from reszoo.arch.cost import cost
from reszoo.arch.plan import plan
from reszoo.arch.spec import NetSpec, Part
from reszoo.errors import ReszooError
from reszoo.training.budget import Budget
from reszoo.training.data import Data


class Family(Part):
    """One way to change a residual network."""

    kind: Literal["residual", "plain", "control"]
    told: str
    """What differs, in words."""
    changes: dict[str, Any] = Field(default_factory=dict)
    """As `NetSpec.replace` takes them."""


class Claim(Part):
    """One claim about residual networks, and what may honestly be said of it."""

    said: str
    measure: str
    """What is measured here."""
    published: str
    """Figures with their sources."""
    caveat: str
    chart: dict[str, str]
    """How its picture is titled: arguments of `draw_lines`."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """A network of a comparison."""

    family: str
    kind: str
    """residual, plain or control."""
    told: str
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
    return zoo.read_yaml(zoo.configs() / "evidence" / "evidence.yaml")


def families(*tables: str) -> dict[str, Family]:
    """Returns the families of these tables of the file, `families` and further ones."""
    rows = {name: fields for table in tables for name, fields in settings()[table].items()}
    return {name: check(Family, fields, where=f"evidence.yaml: {name}") for name, fields in rows.items()}


def claims() -> dict[str, Claim]:
    """Returns the claims by name."""
    return {name: check(Claim, row, where=f"evidence.yaml: {name}") for name, row in settings()["claims"].items()}


def budget(spec: NetSpec, **changes: Any) -> Budget:
    """Returns the budget for a dense network or for one of images, with changes that are not None.

    Raises:
        ReszooError: a change that is none, or impossible.
    """
    fields = settings()["budgets"]["dense" if spec.dense else "image"]
    asked = {name: value for name, value in changes.items() if value is not None}
    return check(Budget, {**fields, **asked}, where="budget")


def network(name: Literal["dense", "image"], data: Data, **changes: Any) -> NetSpec:
    """Returns the network that the evidence is measured on, in the data's shape."""
    told = dict(settings()["networks"][name])
    return zoo.spec(told.pop("base"), input_shape=data.shape, classes=len(data.classes), **told, **changes)


def contestants(spec: NetSpec, table: Mapping[str, Family]) -> tuple[Contestant, ...]:
    """Returns a residual network and what it is compared with; a control that would be the network itself is left out.

    Raises:
        ReszooError: the network has no shortcuts.
    """
    if spec.block.shortcut == "none":
        given = f"{spec.name}, a plain network"
        raise ReszooError("compare", given=given, allowed="a residual network: its plain twin is made of it")
    found: dict[NetSpec, Contestant] = {}
    for name, family in table.items():
        made = spec.replace(**family.changes) if family.changes else spec
        found.setdefault(made, Contestant(name, family.kind, family.told, made))
    return tuple(found.values())
