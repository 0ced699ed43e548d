"""Keras optimizers, learning-rate schedules and losses for recipes."""

from __future__ import annotations

from typing import Any, TypeAlias

import keras

from reszoo.errors import ReszooError
from reszoo.training.fine_tune import NOTHING, freeze, layer_decay
from reszoo.training.recipes import LearningRate, Recipe
from reszoo.types import KerasModel, KerasOptimizer

Schedule: TypeAlias = Any
"""A number, or a `keras.optimizers.schedules.LearningRateSchedule`."""


def schedule(rate: LearningRate, steps: int) -> Schedule:
    """Returns the learning rate over a run of `steps` steps: a number, or a Keras schedule."""
    warmup, start = round(rate.warmup * steps), rate.peak * rate.warmup_factor
    if rate.kind == "cosine":
        return keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=start if warmup else rate.peak,
            decay_steps=max(steps - warmup, 1),
            alpha=rate.final,
            warmup_target=rate.peak if warmup else None,
            warmup_steps=warmup,
        )
    borders, values = ([warmup], [start, rate.peak]) if warmup else ([], [rate.peak])
    for share in rate.at if rate.kind == "steps" else ():
        borders.append(round(share * steps))
        values.append(values[-1] * rate.factor)
    return keras.optimizers.schedules.PiecewiseConstantDecay(borders, values) if borders else rate.peak


def optimizer(recipe: Recipe, steps: int, model: KerasModel | None) -> KerasOptimizer:
    """Returns the recipe's optimizer for a run of `steps` steps; norms and biases are not decayed.

    Args:
        recipe: how to train.
        steps: of the whole run.
        model: whose parts get learning rates of their own; needed only with `layer_decay`.

    Raises:
        ReszooError: a combination that no Keras optimizer supports.
    """
    if recipe.layer_decay == 1:
        return _optimizer(recipe, recipe.learning_rate, steps)
    if recipe.ema:
        raise ReszooError(f"recipe {recipe.name}", got="layer_decay and ema", expected="only one of them")

    def with_peak(peak: float) -> KerasOptimizer:
        return _optimizer(recipe, recipe.learning_rate.model_copy(update={"peak": peak}), steps)

    return layer_decay(model, with_peak, recipe.learning_rate.peak, decay=recipe.layer_decay)


def current_rate(optimizer: KerasOptimizer) -> float:
    """Returns the learning rate of the next step; with rates per part, the head's."""
    return float(getattr(optimizer, "optimizers", [optimizer])[-1].learning_rate)


def _optimizer(recipe: Recipe, rate: LearningRate, steps: int) -> KerasOptimizer:
    options = recipe.optimizer
    settings: dict[str, Any] = {"learning_rate": schedule(rate, steps)}
    if options.clip:
        settings["global_clipnorm"] = options.clip
    if recipe.ema:
        settings |= {"use_ema": True, "ema_momentum": recipe.ema}
    if options.decay == "decoupled":
        settings["weight_decay"] = options.weight_decay
    if options.kind == "sgd":
        result = keras.optimizers.SGD(momentum=options.momentum, nesterov=options.nesterov, **settings)
    else:
        result = {"adamw": keras.optimizers.AdamW, "lamb": keras.optimizers.Lamb}[options.kind](**settings)
    if options.decay == "decoupled" and options.weight_decay:
        result.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return result


def add_l2_penalty(model: KerasModel, recipe: Recipe) -> None:
    """Adds the recipe's L2 penalty on kernels to the model's loss; a saved model does not contain it."""
    if recipe.optimizer.decay == "l2" and recipe.optimizer.weight_decay:
        for variable in model.trainable_weights:
            if variable.name == "kernel":
                # Keras' L2 lacks the factor 1/2: its gradient is twice what the papers call weight decay.
                variable.regularizer = keras.regularizers.L2(recipe.optimizer.weight_decay / 2)


def loss(recipe: Recipe, *, from_logits: bool = False) -> keras.losses.Loss:
    """Returns the recipe's loss, for labels as rows of class probabilities."""
    settings: dict[str, Any] = {"label_smoothing": recipe.label_smoothing, "from_logits": from_logits}
    if recipe.loss == "binary_cross_entropy":
        return keras.losses.BinaryCrossentropy(**settings)
    return keras.losses.CategoricalCrossentropy(**settings)


def compile_for(model: KerasModel, recipe: Recipe, *, steps: int, **settings: Any) -> None:
    """Compiles a model for a recipe: frozen parts, L2 penalty, optimizer and loss.

    Args:
        model: changed in place.
        recipe: how to train.
        steps: of the whole run.
        settings: arguments of `model.compile`, such as metrics, or a loss for integer labels.
    """
    if recipe.frozen != NOTHING:
        freeze(model, until=recipe.frozen)
    add_l2_penalty(model, recipe)
    settings = {"loss": loss(recipe), **settings}
    model.compile(optimizer(recipe, steps, model), **settings)
