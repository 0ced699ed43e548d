"""A recipe's optimiser, schedule and loss as Keras' own."""

from __future__ import annotations

from typing import Any

import keras

from reszoo.errors import ReszooError
from reszoo.training.fine_tune import NOTHING, freeze, layer_decay
from reszoo.training.recipes import LearningRate, Recipe


def schedule(told: LearningRate, steps: int) -> Any:
    """Returns the learning rate over a run of so many steps: a number, or one of Keras' schedules."""
    warmup, start = round(told.warmup * steps), told.peak * told.warmup_factor
    if told.kind == "cosine":
        return keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=start if warmup else told.peak,
            decay_steps=max(steps - warmup, 1),
            alpha=told.final,
            warmup_target=told.peak if warmup else None,
            warmup_steps=warmup,
        )
    borders, values = ([warmup], [start, told.peak]) if warmup else ([], [told.peak])
    for share in told.at if told.kind == "steps" else ():
        borders.append(round(share * steps))
        values.append(values[-1] * told.factor)
    return keras.optimizers.schedules.PiecewiseConstantDecay(borders, values) if borders else told.peak


def optimizer(recipe: Recipe, steps: int, model: Any) -> Any:
    """Returns the recipe's optimiser for a run of so many steps; norms and biases are not decayed.

    Raises:
        ReszooError: the recipe asks for what no optimiser of Keras does.
    """
    if recipe.layer_decay == 1:
        return _optimizer(recipe, recipe.learning_rate, steps)
    if recipe.ema:
        raise ReszooError(f"recipe {recipe.name}", got="layer_decay and ema", expected="one of both")

    def with_peak(peak: float) -> Any:
        return _optimizer(recipe, recipe.learning_rate.model_copy(update={"peak": peak}), steps)

    return layer_decay(model, with_peak, recipe.learning_rate.peak, decay=recipe.layer_decay)


def rate_of(optimizer: Any) -> float:
    """Returns the learning rate of the next step, where parts have rates of their own that of the head."""
    return float(getattr(optimizer, "optimizers", [optimizer])[-1].learning_rate)


def _optimizer(recipe: Recipe, rate: LearningRate, steps: int) -> Any:
    told = recipe.optimizer
    settings: dict[str, Any] = {"learning_rate": schedule(rate, steps)}
    if told.clip:
        settings["global_clipnorm"] = told.clip
    if recipe.ema:
        settings |= {"use_ema": True, "ema_momentum": recipe.ema}
    if told.decay == "decoupled":
        settings["weight_decay"] = told.weight_decay
    if told.kind == "sgd":
        made = keras.optimizers.SGD(momentum=told.momentum, nesterov=told.nesterov, **settings)
    else:
        made = {"adamw": keras.optimizers.AdamW, "lamb": keras.optimizers.Lamb}[told.kind](**settings)
    if told.decay == "decoupled" and told.weight_decay:
        made.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return made


def regularise(model: Any, recipe: Recipe) -> None:
    """Adds the recipe's L2 penalty on kernels to a model's loss, and nothing to what is saved of the model."""
    if recipe.optimizer.decay == "l2" and recipe.optimizer.weight_decay:
        for variable in model.trainable_weights:
            if variable.name == "kernel":
                # Keras' L2 has no half in it: its gradient is twice what the papers call weight decay.
                variable.regularizer = keras.regularizers.L2(recipe.optimizer.weight_decay / 2)


def loss(recipe: Recipe, *, from_logits: bool = False) -> Any:
    """Returns the recipe's loss, for labels as rows of shares."""
    settings: dict[str, Any] = {"label_smoothing": recipe.label_smoothing, "from_logits": from_logits}
    if recipe.loss == "binary_cross_entropy":
        return keras.losses.BinaryCrossentropy(**settings)
    return keras.losses.CategoricalCrossentropy(**settings)


def compile_for(model: Any, recipe: Recipe, *, steps: int, **settings: Any) -> None:
    """Compiles a model for a run of so many steps by a recipe: what is frozen, the penalty, optimiser and loss.

    Args:
        model: changed in place.
        recipe: how to train.
        steps: of the whole run.
        settings: of Keras' `compile`, such as metrics, or a loss for labels that are not rows of shares.
    """
    if recipe.frozen != NOTHING:
        freeze(model, until=recipe.frozen)
    regularise(model, recipe)
    settings = {"loss": loss(recipe), **settings}
    model.compile(optimizer(recipe, steps, model), **settings)
