"""Keras optimizers and learning-rate schedules for recipes; what a run logs, averages and lowers; whether it loops."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import keras

from reszoo.arch.plan import plan
from reszoo.arch.runs import has_runs
from reszoo.arch.spec import NetSpec
from reszoo.arch.stacked_optimizers import innermost, steps_by_element
from reszoo.errors import ReszooError
from reszoo.training.devices import Devices
from reszoo.training.fine_tune import NOTHING, freeze, layer_decay
from reszoo.training.losses import loss
from reszoo.training.recipes import LearningRate, Recipe
from reszoo.types import KerasModel, KerasOptimizer, KerasVariable

Schedule: TypeAlias = Any
"""A number, or a `keras.optimizers.schedules.LearningRateSchedule`."""
ADAPTIVE = {
    "adamw": keras.optimizers.AdamW,
    "lamb": keras.optimizers.Lamb,
    "adam": keras.optimizers.Adam,
    "rmsprop": keras.optimizers.RMSprop,
}


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
    if recipe.keras_optimizer is not None:
        if recipe.layer_decay != 1 or recipe.ema or recipe.accumulate > 1:
            got = "an optimizer object with layer_decay, ema or accumulate"
            hint = "use_ema, ema_momentum and gradient_accumulation_steps are arguments of the object"
            raise ReszooError(f"recipe {recipe.name}", got=got, expected="optimizer fields", hint=hint)
        return keras.optimizers.deserialize(recipe.keras_optimizer.model_dump())
    if recipe.layer_decay == 1:
        return _optimizer(recipe, recipe.learning_rate, steps)
    if recipe.optimizer.clip:
        hint = "each group of layers would be clipped by its own norm"
        raise ReszooError(f"recipe {recipe.name}", got="layer_decay and clip", expected="only one of them", hint=hint)

    def with_peak(peak: float) -> KerasOptimizer:
        return _optimizer(recipe, recipe.learning_rate.model_copy(update={"peak": peak}), steps)

    return layer_decay(model, with_peak, recipe.learning_rate.peak, decay=recipe.layer_decay)


def current_rate(optimizer: KerasOptimizer) -> float:
    """Returns the learning rate of the last step, or of the first one before any; with rates by part, the head's."""
    last = innermost(optimizer)[-1]
    rate = last._learning_rate
    if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        return float(rate(max(steps_made(optimizer) - 1, 0)))
    return float(last.learning_rate)


def steps_made(optimizer: KerasOptimizer) -> int:
    """Returns the number of batches that an optimizer has seen."""
    # By way of an array: over several devices a variable has no single value.
    return int(keras.ops.convert_to_numpy(innermost(optimizer)[-1]._iterations))


def set_rates(optimizer: KerasOptimizer, rates: Iterable[float]) -> None:
    """Sets the constant learning rates of the innermost optimizers, in their order."""
    for each, rate in zip(innermost(optimizer), rates, strict=True):
        each.learning_rate = rate


def averages(optimizer: KerasOptimizer) -> list[tuple[KerasVariable, KerasVariable]]:
    """Returns the trained variables with their moving averages; empty for an optimizer that keeps none."""
    pairs: list[tuple[KerasVariable, KerasVariable]] = []
    for each in innermost(optimizer):
        if each.use_ema and each.built:
            pairs += zip(each._trainable_variables, each._model_variables_moving_average, strict=True)
    return pairs


@contextmanager
def averaged_weights(model: KerasModel) -> Iterator[None]:
    """Replaces the weights by their moving averages for a while, if the optimizer keeps any.

    Values are copied, so that the weights afterwards are those from before, bit by bit.
    """
    pairs = averages(model.optimizer)
    backup = [keras.ops.convert_to_numpy(variable) for variable, _ in pairs]
    for variable, average in pairs:
        # A copy: JAX deletes the values of weights that it has evaluated, which would be those of the average.
        variable.assign(keras.ops.convert_to_numpy(average))
    try:
        yield
    finally:
        for (variable, _), value in zip(pairs, backup, strict=True):
            variable.assign(value)


def _optimizer(recipe: Recipe, rate: LearningRate, steps: int) -> KerasOptimizer:
    options = recipe.optimizer
    settings: dict[str, Any] = {"learning_rate": schedule(rate, steps)}
    if options.clip:
        settings["global_clipnorm"] = options.clip
    if recipe.ema:
        # Keras updates the averages after every batch, whether it made a step or not.
        settings |= {"use_ema": True, "ema_momentum": recipe.ema ** (1 / recipe.accumulate)}
    if recipe.accumulate > 1:
        settings["gradient_accumulation_steps"] = recipe.accumulate
    if options.decay == "decoupled":
        settings["weight_decay"] = options.weight_decay
    if options.kind == "sgd":
        result = keras.optimizers.SGD(momentum=options.momentum, nesterov=options.nesterov, **settings)
    else:
        result = ADAPTIVE[options.kind](**settings)
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
    settings = {"loss": loss(recipe), "steps_per_execution": recipe.steps_per_execution, **settings}
    model.compile(optimizer(recipe, steps, model), **settings)


LOOPS_FROM = 300
"""Operations from which loops start faster and train no slower: 110 layers on TensorFlow (benchmarks/depth.py)."""


def loops_pay(spec: NetSpec, recipe: Recipe, devices: Devices, callbacks: Sequence[object] = ()) -> bool:
    """Returns whether a run uses loops: they start faster, and the numbers are those of the stock network.

    Args:
        spec: the network.
        recipe: how to train.
        devices: that share a batch.
        callbacks: of the user; those of other packages may read layers, which a network with loops has not.
    """
    operations = sum(run.times * len(run.ops) for run in plan(spec).runs)
    # Rates by block need a variable for every block, and norms over several devices none inside a loop.
    if operations < LOOPS_FROM or spec.dense or recipe.layer_decay != 1 or devices.count > 1 or not has_runs(spec):
        return False
    if any(map(_reads_layers, callbacks)) or keras.backend.backend() != "tensorflow":
        return False
    try:
        return all(steps_by_element(each) for each in innermost(optimizer(recipe, 1, None)))
    except ReszooError:
        return False


def _reads_layers(callback: object) -> bool:
    """Whether a callback may look for the layers of the stock network, unless it says so itself."""
    package = type(callback).__module__.partition(".")[0]
    return bool(getattr(callback, "reads_layers", package not in ("keras", "reszoo")))
