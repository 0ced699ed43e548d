"""Optimizers of stacked variables: which ones take the same steps as for single variables, and their state."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import MethodType
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from reszoo.errors import ReszooError
from reszoo.types import Array, KerasModel, KerasOptimizer, KerasVariable, Tensor


class Row(NamedTuple):
    """A variable of a stock model, and the row of a stack that holds the same values."""

    variable: KerasVariable
    stack: KerasVariable
    position: int


def innermost(optimizer: KerasOptimizer) -> list[KerasOptimizer]:
    """Returns the optimizers that take the steps, the head's last.

    They lie inside a LossScaleOptimizer for float16, a MultiOptimizer for rates by part, or both.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    return [*getattr(optimizer, "optimizers", [optimizer])]


def check_optimizer(optimizer: KerasOptimizer) -> None:
    """Checks that an optimizer takes the same steps for a stack of variables as for each of them.

    Raises:
        ReszooError: it does not, such as Lamb, which takes the norm of a whole variable.
    """
    for each in innermost(optimizer):
        if not steps_by_element(each):
            got = f"{type(each).__name__}, whose steps depend on whole variables"
            expected = "an optimizer that treats every number by itself, such as SGD, Adam or AdamW"
            raise ReszooError("optimizer of a network with loops", got=got, expected=expected, hint="loops=False")
    optimizer.fits_stacks = True


def check_outer(model: Any) -> None:
    """Checks the optimizer of the model that is trained, which may be one around a network with loops.

    Raises:
        ReszooError: it would take other steps for stacks than for single variables.
    """
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None or getattr(optimizer, "fits_stacks", False):
        return
    if any(each.clipnorm for each in innermost(optimizer)):
        got, expected = "clipnorm, which would clip a stack as one variable", "global_clipnorm or clipvalue"
        raise ReszooError(
            f"optimizer of {model.name}", got=got, expected=expected, hint="reszoo.unrolled(...) inside it"
        )
    check_optimizer(optimizer)


def steps_by_element(optimizer: KerasOptimizer) -> bool:
    """Returns whether an optimizer updates every number by itself, which is tried on small variables.

    Clipping is left out: networks with loops clip by layer.

    Raises:
        ReszooError: the optimizer cannot be copied for the trial.
    """
    plain: dict[str, Any] = {"clipnorm": None, "global_clipnorm": None, "clipvalue": None, "learning_rate": 0.1}
    plain |= {"use_ema": False, "gradient_accumulation_steps": None, "loss_scale_factor": None}

    def copy() -> KerasOptimizer:
        config = optimizer.get_config()
        return type(optimizer).from_config({**config, **{name: plain[name] for name in plain if name in config}})

    # In a thread of its own: scopes of Keras and of a distribution strategy belong to a thread.
    with ThreadPoolExecutor(1) as thread:
        try:
            copies = [thread.submit(copy).result() for _ in range(2)]
        except (TypeError, NotImplementedError) as error:
            got = f"{type(optimizer).__name__}, which cannot be copied ({error})"
            hint = "get_config() of the optimizer returns the arguments of its constructor"
            raise ReszooError("optimizer of a network with loops", got=got, hint=hint) from None
        return thread.submit(_steps_agree, *copies).result()


def _steps_agree(of_stacks: KerasOptimizer, of_rows: KerasOptimizer) -> bool:
    """Whether three steps for stacks of two variables are those for the single variables."""
    random = np.random.default_rng(0)
    shapes = [("kernel", (2, 3, 3, 2, 4)), ("kernel", (2, 4, 3)), ("gamma", (2, 4))]
    stacks = [random.normal(size=shape) for _, shape in shapes]
    # The norms of the two rows differ: a step that depends on a norm is another one for the stack.
    steps = [[random.normal(size=shape) * np.reshape([0.1, 10], (2, *[1] * len(shape[1:]))) for _, shape in shapes]]
    steps *= 3
    try:
        ours = _after(of_stacks, [name for name, _ in shapes], stacks, steps)
    except (TypeError, ValueError):
        # A step that is not defined for a variable of more axes.
        return False
    rows = [[row for stack in values for row in stack] for values in (stacks, *steps)]
    theirs = _after(of_rows, [name for name, _ in shapes for _ in range(2)], rows[0], rows[1:])
    return bool(np.allclose(ours, theirs, rtol=1e-4, atol=1e-6))


def _after(optimizer: Any, names: Sequence[str], values: Sequence[Array], steps: Sequence[Sequence[Array]]) -> Array:
    """The values of variables after steps with some gradients."""
    pairs = zip(names, values, strict=True)
    variables = [keras.Variable(value, dtype="float32", name=name) for name, value in pairs]
    optimizer.build(variables)
    for step in steps:
        optimizer.apply([ops.convert_to_tensor(each, "float32") for each in step], variables)
    return np.concatenate([ops.convert_to_numpy(variable).ravel() for variable in variables])


def clip_by_layer(optimizer: KerasOptimizer, order_of: Callable[[Iterable[KerasVariable]], list[int]]) -> None:
    """Makes an optimizer clip the gradients of stacks as those of the single variables.

    Args:
        optimizer: changed in place.
        order_of: returns the order of the rows of stacks in the stock network.
    """
    for each in innermost(optimizer):
        if each.clipnorm or each.global_clipnorm:
            private(each, "_clip_gradients")
            each._clip_gradients = MethodType(_clip_by_norm if each.clipnorm else _clip_by_global_norm, each)
            each.order_of = order_of


def _clip_by_norm(optimizer: Any, gradients: Sequence[Tensor]) -> list[Tensor]:
    clip = private(optimizer, "_clip_by_norm")
    return [None if gradient is None else ops.map(clip, gradient) for gradient in gradients]


def _clip_by_global_norm(optimizer: Any, gradients: Sequence[Tensor]) -> list[Tensor]:
    """As Keras does, with the norms of the rows added in the order of the stock network."""
    squares = ops.concatenate([ops.map(lambda row: ops.sum(ops.square(row)), gradient) for gradient in gradients])
    stacks = private(optimizer, "_trainable_variables")
    if len(stacks) == len(gradients):
        squares = ops.take(squares, np.array(optimizer.order_of(stacks)))
    norm, limit = ops.sqrt(ops.sum(squares)), optimizer.global_clipnorm
    # NaN and infinity reach every gradient.
    scale = limit * ops.minimum(1.0 / norm, 1.0 / limit) + (norm - norm)
    return [gradient * scale for gradient in gradients]


def copy_training(
    source: KerasModel, target: KerasModel, rows: Sequence[Row], *, to_stacks: bool, again: bool = True
) -> None:
    """Compiles a model as another one and copies the state of the optimizer."""
    if not source.compiled or getattr(source, "optimizer", None) is None:
        return
    if hasattr(getattr(source.optimizer, "inner_optimizer", source.optimizer), "optimizers"):
        got = "an optimizer with learning rates by part, which differ between loops and stock layers"
        warnings.warn(f"{source.name}: got {got}; the copy is not compiled", stacklevel=4)
        return
    if again:
        settings = {**private(source, "_compile_config").config}
        del settings["optimizer"]
        optimizer = _copied(source.optimizer, rows, to_stacks=to_stacks)
        # Losses and metrics that Keras cannot copy are shared.
        with suppress(TypeError, ValueError):
            settings = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(settings))
        target.compile(optimizer, **settings)
    if source.optimizer.built:
        target.optimizer.build(target.trainable_variables)
        stock, stacked = (source, target) if to_stacks else (target, source)
        copy_state(stock.optimizer, stacked.optimizer, rows, to_stacks=to_stacks)


def _copied(optimizer: KerasOptimizer, rows: Sequence[Row], *, to_stacks: bool) -> KerasOptimizer:
    """Returns a new optimizer of the same kind and settings, for stacks or for the variables of a stock model.

    Raises:
        ReszooError: the optimizer decays only some rows of a stack.
    """
    result = type(optimizer).from_config(optimizer.get_config())
    # Keras' configuration of an optimizer does not say which variables are not decayed.
    source, target = innermost(optimizer)[0], innermost(result)[0]
    excluded: set[Any] = getattr(source, "_exclude_from_weight_decay", set())
    pattern = getattr(source, "_exclude_from_weight_decay_pattern", None)
    if excluded or pattern is not None:
        pairs = [(row.variable, row.stack) if to_stacks else (row.stack, row.variable) for row in rows]
        key = private(source, "_var_key")
        chosen = {id(ours): ours for theirs, ours in pairs if key(theirs) in excluded}
        if any(id(ours) in chosen and key(theirs) not in excluded for theirs, ours in pairs):
            got, expected = "weight decay in only some of equal blocks", "the same decay in equal blocks"
            raise ReszooError("optimizer of a network with loops", got=got, expected=expected)
        names = [pattern.pattern] if pattern is not None else None
        target.exclude_from_weight_decay(var_list=[*chosen.values()], var_names=names)
    return result


def copy_state(stock: KerasOptimizer, stacked: KerasOptimizer, rows: Sequence[Row], *, to_stacks: bool) -> None:
    """Copies the state of an optimizer: step count, rate, and the state of every variable.

    Args:
        stock: the optimizer of a stock model.
        stacked: that of the same model with loops.
        rows: the variables of both.
        to_stacks: the direction.

    Raises:
        ReszooError: the states do not correspond.
    """
    known: set[int] = set()
    for ours, theirs in zip(innermost(stacked), innermost(stock), strict=True):
        places = {id(variable): i for i, variable in enumerate(private(theirs, "_trainable_variables"))}
        stack_places = {id(stack): i for i, stack in enumerate(private(ours, "_trainable_variables"))}
        slots, stock_slots = _slots(ours), _slots(theirs)
        if slots.keys() != stock_slots.keys():
            raise ReszooError("optimizer", got=f"state {[*slots]}", expected=f"{[*stock_slots]}")
        for name, of_stacks in slots.items():
            known |= {id(each) for each in (*of_stacks, *stock_slots[name])}
            values: list[Any] = [None if each is None else ops.convert_to_numpy(each).copy() for each in of_stacks]
            for row in rows:
                if id(row.stack) not in stack_places or id(row.variable) not in places:
                    continue
                slot, value = stock_slots[name][places[id(row.variable)]], values[stack_places[id(row.stack)]]
                if slot is None or value is None:
                    continue
                if to_stacks:
                    value[row.position] = ops.convert_to_numpy(slot)
                else:
                    slot.assign(value[row.position])
            for each, value in zip(of_stacks, values, strict=True):
                if to_stacks and each is not None:
                    each.assign(value)
    pairs = [[each for each in optimizer.variables if id(each) not in known] for optimizer in (stacked, stock)]
    for each, other in zip(*pairs, strict=True):
        each.assign(ops.convert_to_numpy(other)) if to_stacks else other.assign(ops.convert_to_numpy(each))


def _slots(optimizer: KerasOptimizer) -> dict[str, list[Any]]:
    """The lists of an optimizer that hold a variable for every trainable one, by attribute."""
    count = len(private(optimizer, "_trainable_variables"))
    lists = {name: value for name, value in vars(optimizer).items() if isinstance(value, list) and value}
    return {
        name: [*value]
        for name, value in lists.items()
        if len(value) == count
        and name not in ("_trainable_variables", "_variables")
        and all(each is None or isinstance(each, keras.Variable) for each in value)
    }


def private(owner: Any, name: str) -> Any:
    """Returns a private attribute of a Keras object.

    Raises:
        ReszooError: this version of Keras has no such attribute.
    """
    if not hasattr(owner, name):
        got = f"Keras {keras.__version__}, whose {type(owner).__name__} has no {name}"
        hint = "loops=False needs no such attribute"
        raise ReszooError("a network with loops", got=got, expected="a Keras that has it, such as 3.15", hint=hint)
    return getattr(owner, name)
