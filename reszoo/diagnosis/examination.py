"""The results of an examination, as they come in."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite

from reszoo.diagnosis.causes import Cause
from reszoo.diagnosis.losses import losses_of
from reszoo.diagnosis.measurements import Skipped
from reszoo.diagnosis.measures.result import Result
from reszoo.diagnosis.program import Program
from reszoo.diagnosis.trial import Trial, stopwatch
from reszoo.types import Array

EXAMPLES = 512
"""Greatest number of examples that are measured."""
WORKS = 0.5
"""Share of a constant prediction's loss below which a network evidently works: then nothing is suspected of its
weights, activations, inputs or learning rate."""


@dataclass
class Examination:
    """The results of an examination so far."""

    program: Program
    rows: Array
    """Indices of the examples that are measured."""
    causes: list[Cause] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    loss: float = float("nan")
    """Loss of the model on the measured examples, as `evaluate` reports it."""
    constant: float = float("nan")
    """Loss of the best constant prediction on them."""
    seconds: float = 0.0
    """Time of one inference of the measured examples."""
    trial: Trial | None = None

    @property
    def works(self) -> bool:
        """Returns whether the network is far better than any constant prediction."""
        return isfinite(self.loss) and self.loss < WORKS * self.constant

    @property
    def kinds(self) -> frozenset[str]:
        """Returns the kinds of the causes."""
        return frozenset(cause.kind for cause in self.causes)

    def compute_losses(self) -> None:
        """Sets the losses, and the seconds that they take."""
        elapsed = stopwatch()
        self.loss, self.constant = losses_of(self.program, self.rows)
        self.seconds = elapsed()


def message_of(error: Exception) -> str:
    """Returns the first line of an error's message."""
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
