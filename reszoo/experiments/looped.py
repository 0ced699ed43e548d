"""Networks whose equal blocks run in a loop: the same layers and results, but each kind of block is traced once.

Unrolled, TensorFlow traces every block separately: minutes for a thousand layers, and an optimizer step for each of
thousands of small variables. Here one variable holds the weights of all equal blocks, stacked along its first axis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from reszoo.arch.build import channels_first, submodel
from reszoo.arch.ops import RepeatedSegments
from reszoo.arch.plan import plan
from reszoo.arch.recover import layers_by_name
from reszoo.arch.spec import NetSpec
from reszoo.types import KerasLayer, KerasModel, KerasVariable, Tensor


class Looped(keras.Model):
    """A network as loops over runs of equal blocks; it compiles and fits like any model.

    It is created without building the unrolled network, whose cost grows with depth. `copy_to` writes its weights to an
    ordinary model.
    """

    def __init__(self, spec: NetSpec, *, seed: int = 0):
        """Draws initial weights with the layers' initializers.

        Args:
            spec: the network, of any depth.
            seed: of the weights.
        """
        super().__init__(name=spec.name)
        self._runs = [_Stacked(run, name=f"run{number}") for number, run in enumerate(plan(spec).runs, 1)]
        self.draw(seed)

    def draw(self, seed: int) -> None:
        """Initializes all weights and statistics again."""
        random = np.random.default_rng([seed, 11])
        for run in self._runs:
            run.draw(random)

    def copy_from(self, model: KerasModel) -> None:
        """Copies the weights and statistics of a model of the same spec."""
        layers = layers_by_name(model)
        for run in self._runs:
            for stack, variables in run.pairs(layers):
                stack.assign(np.stack([ops.convert_to_numpy(variable) for variable in variables]))

    def copy_to(self, model: KerasModel) -> None:
        """Copies the weights and statistics to a model of the same spec."""
        layers = layers_by_name(model)
        for run in self._runs:
            for stack, variables in run.pairs(layers):
                for variable, value in zip(variables, ops.convert_to_numpy(stack), strict=True):
                    variable.assign(value)

    def call(self, x: Tensor, training: bool | None = None) -> Tensor:
        for run in self._runs:
            x = run(x, training=training)
        return x


class _Stacked(keras.layers.Layer):
    """One run of equal blocks: the layers of one block, and the stacked variables of all."""

    def __init__(self, run: RepeatedSegments, *, name: str):
        super().__init__(name=name)
        shape = run.ops[0].source
        shape = (shape[-1], *shape[:-1]) if channels_first() and len(shape) == 3 else shape
        pattern = submodel(run.segments[:1], shape, name=f"{name}_pattern")
        # Behind a function, so that Keras does not track the pattern's variables as the network's.
        self._pattern: Callable[[], KerasModel] = lambda: pattern
        self._prefixes = [segment.prefix for segment in run.segments]
        self._trained = [self._stack(variable, trainable=True) for variable in pattern.trainable_variables]
        self._states = [self._stack(variable, trainable=False) for variable in pattern.non_trainable_variables]
        self.built = True

    def _stack(self, variable: KerasVariable, *, trainable: bool) -> KerasVariable:
        shape = (len(self._prefixes), *variable.shape)
        return self.add_weight(shape=shape, dtype=variable.dtype, trainable=trainable, initializer="zeros")

    def _stacks(self) -> Iterator[tuple[KerasLayer, int, KerasVariable]]:
        """Every layer of the pattern, the index of a variable in it, and the stack of that variable."""
        pattern = self._pattern()
        variables = [*pattern.trainable_variables, *pattern.non_trainable_variables]
        stacks = dict(zip(map(id, variables), [*self._trained, *self._states], strict=True))
        for layer in pattern.layers:
            for index, variable in enumerate(layer.variables):
                yield layer, index, stacks[id(variable)]

    def draw(self, random: np.random.Generator) -> None:
        """Initializes every variable of every block."""
        for layer, index, stack in self._stacks():
            variable, values = layer.variables[index], []
            for _ in self._prefixes:
                seed = int(random.integers(2**31))
                initializer = getattr(layer, f"{variable.name}_initializer", None)
                if initializer is None:
                    # The state of a dropout layer's generator.
                    values.append(np.array([seed, 0], "uint32"))
                    continue
                initializer.seed = seed
                values.append(ops.convert_to_numpy(initializer(tuple(variable.shape), dtype=variable.dtype)))
            stack.assign(np.stack(values))

    def pairs(self, layers: Mapping[str, KerasLayer]) -> Iterator[tuple[KerasVariable, list[KerasVariable]]]:
        """Every stack with the variables of a network that it represents, in the order of the blocks."""
        first = self._prefixes[0]
        for layer, index, stack in self._stacks():
            name = layer.name.removeprefix(first)
            yield stack, [layers[prefix + name].variables[index] for prefix in self._prefixes]

    def call(self, x: Tensor, training: bool | None = None) -> Tensor:
        pattern = self._pattern()

        def step(x: Tensor, weights: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
            trained, states = weights[: len(self._trained)], weights[len(self._trained) :]
            return pattern.stateless_call(trained, states, x, training=training)

        stacks = [ops.convert_to_tensor(stack) for stack in (*self._trained, *self._states)]
        if len(self._prefixes) == 1:
            x, after = step(x, [stack[0] for stack in stacks])
            after = [value[None] for value in after]
        else:
            x, after = LOOPS[keras.backend.backend()](step, x, stacks, self._states)
        for stack, value in zip(self._states, after, strict=True):
            stack.assign(value)
        return x

    def compute_output_shape(self, shape: Any) -> Any:
        return self._pattern().compute_output_shape(shape)


Step = Callable[[Tensor, list[Tensor]], tuple[Tensor, list[Tensor]]]


def _tensorflow(step: Step, x: Tensor, stacks: list[Tensor], states: list[Any]) -> tuple[Tensor, list[Tensor]]:
    """keras.ops.scan cannot return values whose shape differs from that of the carry."""
    import tensorflow as tf

    count = stacks[0].shape[0]
    rows = [tf.TensorArray(stack.dtype, count, element_shape=stack.shape[1:]).unstack(stack) for stack in stacks]
    outputs = [tf.TensorArray(stack.dtype, count, element_shape=stack.shape[1:]) for stack in states]

    def body(i: Tensor, x: Tensor, outputs: list[Any]) -> tuple[Tensor, Tensor, list[Any]]:
        x, after = step(x, [row.read(i) for row in rows])
        return i + 1, x, [array.write(i, value) for array, value in zip(outputs, after, strict=True)]

    # XLA's gradient of a loop needs a bound on the iterations.
    _, x, outputs = tf.while_loop(lambda i, *_: i < count, body, (0, x, outputs), maximum_iterations=count)
    return x, [array.stack() for array in outputs]


def _jax(step: Step, x: Tensor, stacks: list[Tensor], states: list[Any]) -> tuple[Tensor, list[Tensor]]:
    import jax

    return jax.lax.scan(step, x, stacks)


def _torch(step: Step, x: Tensor, stacks: list[Tensor], states: list[Any]) -> tuple[Tensor, list[Tensor]]:
    outputs = []
    for index in range(len(stacks[0])):
        x, after = step(x, [stack[index] for stack in stacks])
        outputs.append(after)
    return x, [ops.stack(values) for values in zip(*outputs, strict=True)]


LOOPS = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
"""The loop over the first axis of the stacks, by backend; the outputs of the steps are stacked again."""
