"""Remedies for causes, applied to a copy of the program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reszoo.diagnosis.causes import Cause
from reszoo.diagnosis.program import Program
from reszoo.diagnosis.trial import Trial
from reszoo.types import KerasModel


@dataclass(frozen=True, eq=False, repr=False)
class Repair:
    """A repaired, compiled model."""

    model: KerasModel

    def to_dict(self) -> dict[str, Any]:
        return {}


def repaired(program: Program, causes: tuple[Cause, ...], *, trial: Trial | None, seed: int) -> Repair | None:
    return None
