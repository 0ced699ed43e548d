"""Equal blocks as one layer: a loop over weights that are stacked along their first axis."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product
from types import MethodType
from typing import Any

import keras
import numpy as np
from keras import ops

from reszoo.arch.build import channels_first, submodel
from reszoo.arch.layers import initializer, quicken
from reszoo.arch.ops import Op, Segment
from reszoo.arch.scan import scan
from reszoo.arch.stacked_optimizers import check_outer, private
from reszoo.errors import ReszooError
from reszoo.types import Array, KerasLayer, KerasModel, KerasVariable, Tensor


class Stack(keras.layers.Layer):
    """The variables of one layer in all blocks of a run; row `i` of each belongs to block `i`.

    Args:
        layer: of the first block.
        count: number of blocks.
        name: the name of the layer within its block.
    """

    def __init__(self, layer: KerasLayer, count: int, *, name: str):
        super().__init__(name=name, trainable=layer.trainable, dtype=layer.dtype_policy)
        # Behind a function, so that Keras does not track the variables of the first block as the network's.
        self._layer: Callable[[], KerasLayer] = lambda: layer
        self._count = count
        self._learns = tuple(variable.trainable for variable in layer.variables)
        self.stacks: tuple[KerasVariable, ...] = ()

    @property
    def layer(self) -> KerasLayer:
        """The layer of the first block; its values are those of no block."""
        return self._layer()

    def build(self, shape: Any = None) -> None:
        """Creates the stacks with the names, dtypes and other properties of the layer's variables."""
        pairs = zip(self.layer.variables, self._learns, strict=True)
        self.stacks = tuple(self._stack(variable, learns) for variable, learns in pairs)
        # A layer that is frozen from the start can be unfrozen.
        self.trainable = self.trainable

    def _stack(self, variable: KerasVariable, learns: bool) -> KerasVariable:
        return self.add_weight(
            name=variable.name,
            shape=(self._count, *variable.shape),
            dtype=variable.dtype,
            initializer="zeros",
            trainable=learns,
            # Read in full precision: the layers of a block cast the rows that Keras would cast.
            autocast=False,
            aggregation=getattr(variable, "aggregation", "none"),
        )

    @property
    def trainable(self) -> bool:
        """Whether the layer learns, in every block of the run."""
        return bool(keras.layers.Layer.trainable.fget(self))

    @trainable.setter
    def trainable(self, value: bool) -> None:
        keras.layers.Layer.trainable.fset(self, value)
        # In a frozen norm the moving statistics are used, and stay as they are.
        self.layer.trainable = value


class RepeatedBlocks(keras.layers.Layer):
    """Consecutive blocks that differ only in their weights and in their rates of drop path.

    Args:
        segments: the blocks.
        name: of the layer.
        trainable: whether the layer of a name learns.
        recompute: blocks of a group whose activations are computed again in the backward pass; 0 for none, True for
            about the square root of the number of blocks.
    """

    def __init__(
        self, segments: Sequence[Segment], *, name: str, trainable: Callable[[str], bool], recompute: int | bool = 0
    ):
        super().__init__(name=name)
        self.segments = tuple(segments)
        first = self.segments[0]
        shape = first.ops[0].source
        shape = (shape[-1], *shape[:-1]) if channels_first() and len(shape) == 3 else shape
        # The values of the pattern are those of no block: they take no numbers from Python's generator.
        with unchanged_randomness():
            pattern = submodel((first,), shape, name=f"{name}_pattern")
        self._pattern: Callable[[], KerasModel] = lambda: pattern
        count = len(self.segments)
        for layer in pattern.layers if count > 1 else ():
            quicken(layer)
        self.recompute = math.isqrt(count - 1) + 1 if recompute is True else int(recompute)
        self._stacks = [
            Stack(layer, count, name=layer.name.removeprefix(first.prefix))
            for layer in pattern.layers
            if layer.variables
        ]
        self._moving = {id(variable) for variable in pattern.non_trainable_variables}
        self._rates = [[op.rate for op in segment.ops if op.kind == "drop_path"] for segment in self.segments]
        drops = [pattern.get_layer(first.prefix + op.name) for op in first.ops if op.kind == "drop_path"]
        for layer in drops if count > 1 else ():
            layer.call = MethodType(_drop_path, layer)
        self._drops: Callable[[], list[KerasLayer]] = lambda: drops if count > 1 else []
        for layer in pattern.layers:
            layer.trainable = trainable(layer.name)
        for stack in self._stacks:
            stack.trainable = stack.layer.trainable

    def build(self, shape: Any) -> None:
        """Creates the stacked variables."""
        for stack in self._stacks:
            stack.build()

    @property
    def layers(self) -> list[KerasLayer]:
        """The layers of the first block; their values are those of no block."""
        return list(self._pattern().layers)

    @property
    def stacks(self) -> tuple[Stack, ...]:
        """The stacked variables, by layer."""
        return tuple(self._stacks)

    def rows(self) -> Iterator[tuple[str, int, KerasVariable, int]]:
        """Yields name of the layer, index of its variable, stack and row of every variable of the unrolled network.

        The order is that of the variables in the unrolled network.
        """
        for row, segment in enumerate(self.segments):
            for each in self._stacks:
                for index, stack in enumerate(each.stacks):
                    yield segment.prefix + each.name, index, stack, row

    def check_layers(self, layers: Mapping[str, KerasLayer]) -> None:
        """Checks that the loop computes what the layers of a stock network compute, by name.

        Raises:
            ReszooError: the settings of a layer were changed.
        """
        for segment, pattern in product(self.segments, self.layers[1:]):
            op_name = pattern.name.removeprefix(self.segments[0].prefix)
            layer = layers[segment.prefix + op_name]
            rate = next((op.rate for op in segment.ops if op.kind == "drop_path" and op.name == op_name), None)
            ours, theirs = _settings(pattern), _settings(layer)
            if rate is not None:
                ours["rate"], theirs["rate"] = round(rate, 9), round(theirs["rate"], 9)
            changed = [name for name in ours if ours[name] != theirs.get(name)]
            changed += ["constraint"] * any(variable.constraint is not None for variable in layer.variables)
            if changed:
                got, hint = f"{', '.join(changed)} changed", "train it without loops"
                raise ReszooError(f"rolled: {layer.name}", got=got, expected="the settings of its spec", hint=hint)

    def line(self) -> str:
        """Returns the line of the run in the summary of a network."""
        first, last, times = self.segments[0].name, self.segments[-1].name, len(self.segments)
        title = first if times == 1 else f"{first} to {last.rpartition('_')[2]}"
        count = sum(math.prod(each.shape) for each in self.trainable_variables)
        return f"{title:38} {f'x {times}' if times > 1 else '':8} {tuple(self.output.shape)!s:22} {count:>12,}"

    def draw(self) -> None:
        """Draws initial values in the order in which `build` draws those of the unrolled network."""
        stacks = {each.name: each for each in self._stacks}
        # Name of an operation and index of a variable -> the values of all blocks.
        values = {
            (each.name, index): np.empty(tuple(stack.shape), keras.backend.standardize_dtype(stack.dtype))
            for each in self._stacks
            for index, stack in enumerate(each.stacks)
        }
        for row in range(len(self.segments)):
            for op in self.segments[0].ops:
                for index, value in enumerate(_initial(op, stacks[op.name].layer) if op.name in stacks else ()):
                    values[op.name, index][row] = value
        for (name, index), value in values.items():
            stacks[name].stacks[index].assign(value)

    def call(self, x: Tensor, training: bool | None = None) -> Tensor:
        pattern = self._pattern()
        if training:
            check_outer(private(self, "_get_call_context")().entry_layer)
        pairs = [pair for each in self._stacks for pair in zip(each.layer.variables, each.stacks, strict=True)]
        # In inference nothing changes, random states neither.
        moving = [pair for pair in pairs if training and id(pair[0]) in self._moving]
        fixed = [pair for pair in pairs if not (training and id(pair[0]) in self._moving)]
        drops = self._drops() if training else []
        rates = _columns(self._rates, self.compute_dtype) if drops else []

        def block(x: Tensor, scanned: Sequence[Tensor], states: Sequence[Tensor]) -> tuple[Tensor, Sequence[Tensor]]:
            mapping = [(variable, value) for (variable, _), value in zip(fixed, scanned, strict=False)]
            mapping += [(variable, value) for (variable, _), value in zip(moving, states, strict=True)]
            for layer, rate in zip(drops, scanned[len(fixed) :], strict=True):
                layer.scanned_rate = rate
            with keras.StatelessScope() as scope:
                # As arguments of the scope they would be cast to the type around it: the head has its own.
                for pair in mapping:
                    scope.add_update(pair)
                x = pattern(x, training=training)
            return x, tuple(scope.get_current_value(variable) for variable, _ in moving)

        scanned = (*(ops.convert_to_tensor(stack) for _, stack in fixed), *rates)
        states = tuple(ops.convert_to_tensor(stack) for _, stack in moving)
        x, after = scan(block, x, scanned, states, recompute=self.recompute if training else 0)
        for (_, stack), value in zip(moving, after, strict=True):
            stack.assign(value)
        return x

    def get_config(self) -> dict[str, Any]:
        hint = "build on the stock model: reszoo.unrolled(model)"
        raise ReszooError(self.name, got="blocks in a loop, which have no configuration", hint=hint)

    def compute_output_spec(self, x: Any, training: bool | None = None) -> Any:
        return self._pattern().compute_output_spec(x)


def _initial(op: Op, layer: KerasLayer) -> list[Array]:
    """Initial values of the variables of an operation's layer."""
    values = []
    for variable in layer.variables:
        if variable.name in ("kernel", "gamma"):
            draw = keras.initializers.get(initializer(op))
        else:
            draw = getattr(layer, f"{variable.name}_initializer", None)
        if draw is None:
            # The state of a dropout layer's generator.
            values.append(ops.convert_to_numpy(keras.random.SeedGenerator().state))
        else:
            values.append(ops.convert_to_numpy(draw(tuple(variable.shape), dtype=variable.dtype)))
    return values


def _settings(layer: KerasLayer) -> dict[str, Any]:
    """The settings of a layer that matter after its weights were created; penalties are checked by variable."""
    other = ("name", "trainable", "_initializer", "_regularizer")
    config = {name: value for name, value in layer.get_config().items() if not name.endswith(other)}
    return config | {"activity_regularizer": getattr(layer, "activity_regularizer", None)}


def _columns(rates: Sequence[Sequence[float]], dtype: str) -> list[Tensor]:
    """Rates of drop path, one column `(rate, factor on what is kept)` for every drop path of a block."""
    # The factor is rounded once, as in Keras, which divides Python's numbers; outside TensorFlow rates stay precise.
    kind = {"tensorflow": dtype, "jax": "float32", "torch": "float64"}[keras.backend.backend()]
    columns = zip(*rates, strict=True)
    return [ops.convert_to_tensor(np.array([(r, 1 / (1 - r)) for r in column]), kind) for column in columns]


def _drop_path(layer: Any, inputs: Tensor, training: bool = False) -> Tensor:
    """The `call` of a drop path in a loop: that of `keras.layers.Dropout`, with a rate that differs between blocks."""
    if not training:
        return inputs
    rate, factor = layer.scanned_rate[0], layer.scanned_rate[1]
    if keras.backend.backend() == "torch":
        shape = (len(inputs), *layer.noise_shape[1:])
        return keras.random.dropout(inputs, float(rate), shape, seed=layer.seed_generator)
    shape = (ops.shape(inputs)[0], *layer.noise_shape[1:])
    on_jax = keras.backend.backend() == "jax"
    noise = keras.random.uniform(shape, dtype="float32" if on_jax else inputs.dtype, seed=layer.seed_generator)
    if on_jax:
        kept, result = noise < 1.0 - rate, inputs / ops.cast(1.0 - rate, inputs.dtype)
    else:
        kept, result = noise >= rate, inputs * factor
    return ops.where(kept, result, ops.zeros_like(result))


@contextmanager
def unchanged_randomness() -> Iterator[None]:
    """Leaves Python's generator as it was: Keras draws the seeds of initializers and dropout from it."""
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)
