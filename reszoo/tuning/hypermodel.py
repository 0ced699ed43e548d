"""A search space as a keras-tuner hypermodel that never builds a network over budget."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import keras_tuner

from reszoo.config import check
from reszoo.models import create
from reszoo.training.optimizers import compile_for
from reszoo.training.recipes import Recipe, recipe as get_recipe
from reszoo.tuning.budget import Budget, Feasible
from reszoo.tuning.space import Space, space as get_space
from reszoo.tuning.tuner_labels import with_rows


class HyperResNet(keras_tuner.HyperModel):
    """A `keras_tuner.HyperModel` of a search space: `RandomSearch(HyperResNet("digits_small", "fast"), ...)`.

    A point over budget is replaced before anything is built, and the trial's hyperparameters are updated to the point
    that is used: no trial is wasted, and Hyperband keeps its full schedule. Labels are class numbers of
    shape (n,) or (n, 1), words, booleans, one-hot or soft rows, in arrays; numbers or rows in a `tf.data.Dataset` or a
    PyDataset. The loss of the recipe decides about the last layer, as in `reszoo.train`.

    Example:
        >>> import reszoo
        >>> hypermodel = reszoo.HyperResNet("digits_small", budget={"params": 1e5})
        >>> 0 < hypermodel.fraction < 1
        True

    Args:
        space: a space or its name; `space.fitted(input_shape=..., classes=...)` adapts it to the data.
        recipe: a recipe or its name.
        budget: the most a network may cost (`Budget`): `{"macs": 2e6}`.
        steps: optimizer steps of the whole training, for learning-rate schedules; by default the rate is constant at
            its peak.

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
        self.space = get_space(space)
        self.recipe = get_recipe(recipe)
        self.steps = steps
        limits = budget.model_dump() if isinstance(budget, Budget) else dict(budget or {})
        self.feasible = Feasible(self.space, check(Budget, limits, where="budget"))
        self.fraction = self.feasible.fraction()
        """Share of random points whose networks are within the counted limits."""

    def build(self, hp: Any) -> keras.Model:
        """Returns the compiled network of a point."""
        proposal = self.space.ask(hp)
        point = self.feasible.redraw(proposal)
        if point != proposal:
            for name in proposal:
                hp.values.pop(name, None)
            hp.values.update(point)
        candidate = self.space.candidate(point, self.recipe)
        assert candidate is not None
        recipe = candidate.recipe
        if self.steps is None:
            recipe = get_recipe(recipe, learning_rate={"kind": "constant", "warmup": 0.0})
        model = create(candidate.spec, weights=candidate.weights)
        compile_for(model, recipe, steps=self.steps or 1, metrics=["accuracy"])
        return model

    def fit(self, hp: Any, model: keras.Model, x: Any, y: Any = None, *arguments: Any, **options: Any) -> Any:
        """Returns the history of `model.fit`, with labels of any form turned into one-hot rows."""
        classes = model.output_shape[-1]
        x, y, validation = with_rows(x, y, options.get("validation_data"), classes)
        if validation is not None:
            options["validation_data"] = validation
        return model.fit(x, y, *arguments, **options)
