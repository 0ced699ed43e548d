"""A network whose equal blocks are computed in a loop: the same layers and numbers, but traced once for every run.

Unrolled, TensorFlow traces every block by itself: minutes for a thousand layers, and an optimiser step for each of
thousands of small variables. Here the weights of equal blocks lie in one variable each, with the block in front.
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


class Looped(keras.Model):
    """A network as loops over its runs of equal blocks; it is compiled and fitted as any model.

    It is made without building the network itself, which takes longer the deeper it is. `give` writes what was learnt
    to an ordinary model.
    """

    def __init__(self, spec: NetSpec, *, seed: int = 0):
        """Draws initial weights, by the layers' own initialisers.

        Args:
            spec: the network, of any depth.
            seed: of the weights.
        """
        super().__init__(name=spec.name)
        self._runs = [_Stacked(run, name=f"run{number}") for number, run in enumerate(plan(spec).runs, 1)]
        self.draw(seed)

    def draw(self, seed: int) -> None:
        """Draws weights and statistics anew."""
        random = np.random.default_rng([seed, 11])
        for run in self._runs:
            run.draw(random)

    def take(self, model: keras.Model) -> None:
        """Takes the weights and statistics of a model of the same spec."""
        layers = layers_by_name(model)
        for run in self._runs:
            for stack, variables in run.pairs(layers):
                stack.assign(np.stack([ops.convert_to_numpy(variable) for variable in variables]))

    def give(self, model: keras.Model) -> None:
        """Writes the weights and statistics to a model of the same spec."""
        layers = layers_by_name(model)
        for run in self._runs:
            for stack, variables in run.pairs(layers):
                for variable, value in zip(variables, ops.convert_to_numpy(stack), strict=True):
                    variable.assign(value)

    def call(self, x: Any, training: bool | None = None) -> Any:
        for run in self._runs:
            x = run(x, training=training)
        return x


class _Stacked(keras.layers.Layer):
    """One run: the layers of one block, and the variables of all, the block in front."""

    def __init__(self, run: RepeatedSegments, *, name: str):
        super().__init__(name=name)
        shape = run.ops[0].source
        shape = (shape[-1], *shape[:-1]) if channels_first() and len(shape) == 3 else shape
        pattern = submodel(run.segments[:1], shape, name=f"{name}_pattern")
        # Behind a function, so that Keras does not count the pattern's own variables among the network's.
        self._pattern: Callable[[], Any] = lambda: pattern
        self._prefixes = [segment.prefix for segment in run.segments]
        self._learnt = [self._stack(variable, learns=True) for variable in pattern.trainable_variables]
        self._kept = [self._stack(variable, learns=False) for variable in pattern.non_trainable_variables]
        self.built = True

    def _stack(self, variable: Any, *, learns: bool) -> Any:
        shape = (len(self._prefixes), *variable.shape)
        return self.add_weight(shape=shape, dtype=variable.dtype, trainable=learns, initializer="zeros")

    def _owned(self) -> Iterator[tuple[Any, int, Any]]:
        """Every layer of the pattern, the number of a variable in it, and the stack of that variable."""
        pattern = self._pattern()
        variables = [*pattern.trainable_variables, *pattern.non_trainable_variables]
        stacks = dict(zip(map(id, variables), [*self._learnt, *self._kept], strict=True))
        for layer in pattern.layers:
            for number, variable in enumerate(layer.variables):
                yield layer, number, stacks[id(variable)]

    def draw(self, random: Any) -> None:
        """Draws every variable of every block."""
        for layer, number, stack in self._owned():
            variable, values = layer.variables[number], []
            for _ in self._prefixes:
                seed = int(random.integers(2**31))
                initializer = getattr(layer, f"{variable.name}_initializer", None)
                if initializer is None:
                    # The state of a dropout's generator.
                    values.append(np.array([seed, 0], "uint32"))
                    continue
                initializer.seed = seed
                values.append(ops.convert_to_numpy(initializer(tuple(variable.shape), dtype=variable.dtype)))
            stack.assign(np.stack(values))

    def pairs(self, layers: Mapping[str, Any]) -> Iterator[tuple[Any, list[Any]]]:
        """Every stack, and the variables of a network's layers that it holds, block after block."""
        first = self._prefixes[0]
        for layer, number, stack in self._owned():
            own = layer.name.removeprefix(first)
            yield stack, [layers[prefix + own].variables[number] for prefix in self._prefixes]

    def call(self, x: Any, training: bool | None = None) -> Any:
        pattern = self._pattern()

        def step(x: Any, weights: list[Any]) -> tuple[Any, list[Any]]:
            learnt, kept = weights[: len(self._learnt)], weights[len(self._learnt) :]
            return pattern.stateless_call(learnt, kept, x, training=training)

        stacks = [ops.convert_to_tensor(stack) for stack in (*self._learnt, *self._kept)]
        if len(self._prefixes) == 1:
            x, after = step(x, [stack[0] for stack in stacks])
            after = [value[None] for value in after]
        else:
            x, after = LOOPS[keras.backend.backend()](step, x, stacks, self._kept)
        for stack, value in zip(self._kept, after, strict=True):
            stack.assign(value)
        return x

    def compute_output_shape(self, shape: Any) -> Any:
        return self._pattern().compute_output_shape(shape)


Step = Callable[[Any, list[Any]], tuple[Any, list[Any]]]


def _tensorflow(step: Step, x: Any, stacks: list[Any], kept: list[Any]) -> tuple[Any, list[Any]]:
    """keras.ops.scan cannot give back what has another shape than what it carries on."""
    import tensorflow as tf

    count = stacks[0].shape[0]
    rows = [tf.TensorArray(stack.dtype, count, element_shape=stack.shape[1:]).unstack(stack) for stack in stacks]
    made = [tf.TensorArray(stack.dtype, count, element_shape=stack.shape[1:]) for stack in kept]

    def turn(i: Any, x: Any, made: list[Any]) -> tuple[Any, Any, list[Any]]:
        x, after = step(x, [row.read(i) for row in rows])
        return i + 1, x, [array.write(i, value) for array, value in zip(made, after, strict=True)]

    # Compiled by XLA, the gradient needs to know how many turns there can be.
    _, x, made = tf.while_loop(lambda i, *_: i < count, turn, (0, x, made), maximum_iterations=count)
    return x, [array.stack() for array in made]


def _jax(step: Step, x: Any, stacks: list[Any], kept: list[Any]) -> tuple[Any, list[Any]]:
    import jax

    return jax.lax.scan(step, x, stacks)


def _torch(step: Step, x: Any, stacks: list[Any], kept: list[Any]) -> tuple[Any, list[Any]]:
    made = []
    for number in range(len(stacks[0])):
        x, after = step(x, [stack[number] for stack in stacks])
        made.append(after)
    return x, [ops.stack(values) for values in zip(*made, strict=True)]


LOOPS = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
"""How each backend loops over the first axis of the stacks; what the steps give back is stacked again."""
