"""One network of a search space, with its recipe."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

from reszoo.arch.spec import NetSpec
from reszoo.training.recipes import Recipe
from reszoo.tuning.axes import Point


@dataclass(frozen=True)
class Candidate:
    """One network of a space and its recipe."""

    point: Point
    spec: NetSpec
    recipe: Recipe
    weights: str | None = None
    """Pretrained weights to start from."""

    @cached_property
    def key(self) -> str:
        """A digest of network, recipe and weights: equal candidates have equal keys, whatever their points."""
        spec = self.spec.model_dump(mode="json", exclude={"name"})
        recipe = self.recipe.model_dump(mode="json", exclude={"name", "ref"})
        text = json.dumps([spec, recipe, self.weights], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
