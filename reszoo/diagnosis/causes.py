"""Why a network does not train: the kinds of causes, and how they are ranked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

MOST = 5
"""Greatest number of causes that a diagnosis names."""
KINDS = {
    "bad_values": "NaN or infinite numbers in the data",
    "labels": "labels of the wrong form or range, all equal, or unrelated to the inputs",
    "output_activation": "the last activation cannot give the targets, or does not suit the loss",
    "loss": "the loss does not suit the targets or the output",
    "layer_properties": "a layer is too narrow, or has the wrong number of outputs",
    "frozen": "layers that should learn are not trainable",
    "input_scaling": "inputs or targets are not normalized",
    "initialization": "the size of the initial weights or biases, or their symmetry",
    "dead_units": "units that are zero for every example and get no gradient",
    "hidden_activation": "no activation between the layers, or sigmoid in a stack",
    "saturation": "units sit where sigmoid or tanh is flat",
    "depth": "too deep for a network without shortcuts or norms",
    "learning_rate": "the learning rate is too high or too low",
    "norm_statistics": "moving statistics of a norm do not fit the data",
    "regularization": "so much dropout or weight penalty that nothing is learned",
    "epochs": "training stops long before it is done",
    "batch_size": "the batch is too small or too large",
    "optimizer": "another optimizer is needed",
    "layers": "a layer is missing, superfluous or the wrong one",
}
"""Every kind of cause and its meaning, what prevents learning entirely first."""


@dataclass(frozen=True)
class Cause:
    """One reason why a network does not train, with its evidence and a remedy."""

    kind: str
    """A word of `KINDS`."""
    seen: str
    """What was observed, with its numbers."""
    why: str
    """Why it matters."""
    remedy: str
    """What to change, as code."""
    certain: bool = True
    """Whether it follows from the program and the data alone; otherwise it is suspected from a measurement."""
    evidence: Mapping[str, float] = field(default_factory=dict)
    """The numbers behind it, each beside its control."""
    loss_without: float | None = None
    """Loss after a trial as the program is, relative to that of the best constant prediction (1: nothing learned)."""
    loss_with: float | None = None
    """The same with the remedy."""

    def __repr__(self) -> str:
        return f"Cause({self.kind}, {'certain' if self.certain else 'suspected'}: {self.seen[:110]})"

    def to_dict(self) -> dict[str, Any]:
        """Returns everything as plain data for JSON."""
        numbers = {name: value if math.isfinite(value) else str(value) for name, value in self.evidence.items()}
        return {
            "kind": self.kind,
            "certain": self.certain,
            "seen": self.seen,
            "why": self.why,
            "remedy": self.remedy,
            "evidence": numbers,
            "loss_without": self.loss_without,
            "loss_with": self.loss_with,
        }


def ranked(causes: Iterable[Cause]) -> tuple[Cause, ...]:
    """Returns at most five causes, one of each kind: certain ones first, then those that prevent learning entirely.

    Example:
        >>> depth = Cause("depth", "60 layers", "the gradient vanishes", "add shortcuts", certain=False)
        >>> loss = Cause("loss", "squared error for classes", "slow", "loss='categorical_crossentropy'")
        >>> [cause.kind for cause in ranked([depth, loss, loss])]
        ['loss', 'depth']
    """
    merged: dict[str, Cause] = {}
    for cause in sorted(causes, key=lambda cause: not cause.certain):
        first = merged.get(cause.kind)
        if first is None:
            merged[cause.kind] = cause
        elif cause.seen not in first.seen:
            evidence = {**cause.evidence, **first.evidence}
            merged[cause.kind] = replace(first, seen=f"{first.seen}; {cause.seen}", evidence=evidence)
    order = {kind: number for number, kind in enumerate(KINDS)}
    return tuple(sorted(merged.values(), key=lambda cause: (not cause.certain, order[cause.kind])))[:MOST]
