"""A search space for any of keras-tuner's tuners: it never hands them a network over budget."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import keras_tuner

from reszoo.config import check
from reszoo.models import create
from reszoo.training.optimizers import compile_for
from reszoo.training.recipes import Recipe, recipe as named
from reszoo.tuning.budget import Budget, Feasible
from reszoo.tuning.space import Space, space as opened


class HyperResNet(keras_tuner.HyperModel):
    """A `keras_tuner.HyperModel` of a search space: `RandomSearch(HyperResNet("digits_small", "fast"), ...)`.

    A draw over budget is drawn again before anything is built, and the trial is told the answers that count: no trial
    is burnt, and Hyperband keeps its whole schedule. Labels are class numbers, or rows of shares.

    Args:
        space: a space or its name; `space.fitted(input_shape=..., classes=...)` takes the data's shape.
        recipe: a recipe or its name.
        budget: the most a network may cost (`Budget`): `{"macs": 2e6}`.
        steps: of the whole training, for recipes whose learning rate changes; without it the rate stays at its peak.

    Raises:
        ReszooError: no network of the space is within budget; the message names the least cost.
    """

    def __init__(
        self,
        space: str | Space,
        recipe: str | Recipe = "fast",
        *,
        budget: Budget | Mapping[str, float] | None = None,
        steps: int | None = None,
    ):
        super().__init__(name="reszoo", tunable=True)
        self.space, self.recipe, self.steps = opened(space), named(recipe), steps
        limits = budget.model_dump() if isinstance(budget, Budget) else dict(budget or {})
        self.feasible = Feasible(self.space, check(Budget, limits, where="budget"))
        self.fraction = self.feasible.fraction()

    def build(self, hp: Any) -> keras.Model:
        """Returns the compiled network of a draw."""
        asked = self.space.ask(hp)
        point = self.feasible.redraw(asked)
        if point != asked:
            for name in asked:
                hp.values.pop(name, None)
            hp.values.update(point)
        candidate = self.space.candidate(point, self.recipe)
        assert candidate is not None
        how = candidate.recipe
        if self.steps is None:
            how = named(how, learning_rate={"kind": "constant", "warmup": 0.0})
        model = create(candidate.spec, weights=candidate.weights)
        compile_for(model, how, steps=self.steps or 1, metrics=["accuracy"])
        return model

    def fit(self, hp: Any, model: keras.Model, x: Any, y: Any = None, *arguments: Any, **named: Any) -> Any:
        """Returns the history of `model.fit`, class numbers turned into rows of shares."""
        classes = model.output_shape[-1]
        held = named.get("validation_data")
        if isinstance(held, tuple):
            named["validation_data"] = (held[0], _rows(held[1], classes), *held[2:])
        return model.fit(x, _rows(y, classes), *arguments, **named)


def _rows(labels: Any, classes: int) -> Any:
    if labels is None or getattr(labels, "ndim", 0) != 1:
        return labels
    return keras.utils.to_categorical(labels, classes)
