"""A loop over equal blocks on the current backend: the block is traced once, whatever their number.

With recomputation only the input of every segment of blocks is kept for the backward pass (Chen et al. 2016): for n
blocks in segments of sqrt(n), memory grows with sqrt(n) instead of n, for one or two forward passes more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import keras
from keras import ops

from reszoo.types import Tensor

Tensors = Sequence[Tensor]
BlockFunction = Callable[[Tensor, Tensors, Tensors], tuple[Tensor, Tensors]]
"""(x, weights, states) -> (x of the same shape and dtype, new states). It reads nothing else that changes."""


def scan(
    block: BlockFunction, x: Tensor, scanned: Tensors, states: Tensors, *, recompute: int = 0
) -> tuple[Tensor, Tensors]:
    """Returns the output of a chain of blocks, and their new states stacked again.

    Block i reads slice i of every stack. Gradients flow to `x` and `scanned`; states are constants.

    Args:
        block: the function that every step calls.
        x: input of the first block.
        scanned: what blocks read, stacked along the first axis: weights, rates.
        states: what blocks replace, stacked along the first axis: statistics, seeds.
        recompute: 0 keeps all activations for the backward pass; n keeps the input of every n-th block and runs the n
            blocks again there. The states of the second run are discarded.
    """
    scanned, states = tuple(scanned), tuple(states)
    if keras.backend.backend() == "torch":
        # New states are assigned in place, before the backward pass reads the old ones.
        states = tuple(stack.detach().clone() for stack in states)
    count = (*scanned, *states)[0].shape[0]
    if count > 1:
        return LOOPS[keras.backend.backend()](block, x, scanned, states, min(recompute, count))
    x, after = block(x, *(tuple(ops.squeeze(stack, 0) for stack in stacks) for stacks in (scanned, states)))
    return x, [ops.expand_dims(ops.stop_gradient(value), 0) for value in after]


def _tensorflow(
    block: BlockFunction, x: Tensor, scanned: Tensors, states: Tensors, recompute: int
) -> tuple[Tensor, Tensors]:
    """keras.ops.scan cannot return values whose shape differs from that of the carry."""
    import tensorflow as tf

    states = [tf.convert_to_tensor(stack) for stack in states]
    if recompute:
        return _tensorflow_segments(block, x, scanned, states, recompute)
    raw, count = tf.raw_ops, (*scanned, *states)[0].shape[0]
    # Weights are popped from lists: the gradient appends to a list, where that of a read adds up whole lists.
    lists = [
        raw.TensorListFromTensor(tensor=tf.reverse(stack, [0]), element_shape=stack.shape[1:]) for stack in scanned
    ]
    kinds = [(stack.dtype, tf.as_dtype(f"int{8 * stack.dtype.size}")) for stack in states]

    def step(i: Tensor, x: Tensor, lists: list[Any], states: list[Any]) -> tuple[Tensor, Tensor, list[Any], list[Any]]:
        popped = [
            raw.TensorListPopBack(input_handle=each, element_shape=stack.shape[1:], element_dtype=stack.dtype)
            for each, stack in zip(lists, scanned, strict=True)
        ]
        place = tf.reshape(i, (1, 1))
        old = [tf.bitcast(tf.gather(bits, i), kind) for bits, (kind, _) in zip(states, kinds, strict=True)]
        x, after = block(x, [each.tensor for each in popped], old)
        new = [
            tf.tensor_scatter_nd_update(bits, place, tf.bitcast(value, integer)[None])
            for bits, value, (_, integer) in zip(states, after, kinds, strict=True)
        ]
        return i + 1, x, [each.output_handle for each in popped], new

    # States are carried as integers: TensorFlow differentiates a loop with respect to all else that it carries.
    bits = [tf.bitcast(stack, integer) for stack, (_, integer) in zip(states, kinds, strict=True)]
    # XLA's gradient of a loop needs a bound on the iterations.
    _, x, _, bits = tf.while_loop(lambda i, *_: i < count, step, (0, x, lists, bits), maximum_iterations=count)
    return x, [tf.bitcast(each, kind) for each, (kind, _) in zip(bits, kinds, strict=True)]


def _tensorflow_segments(
    block: BlockFunction, x: Tensor, scanned: Tensors, states: Tensors, size: int
) -> tuple[Tensor, Tensors]:
    """The loop with recomputation, as an operation with its own gradient."""
    import tensorflow as tf

    count = (*scanned, *states)[0].shape[0]
    ends = [min(first + size, count) for first in range(0, count, size)]

    def run(i: Tensor, x: Tensor, weights: Tensors) -> tuple[Tensor, Tensors]:
        y, after = block(x, weights, _slices(states, i))
        y.set_shape(x.shape)
        return y, after

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def chain(x: Tensor, *scanned: Tensor) -> tuple[Any, Callable[..., list[Tensor | None]]]:
        def step(i: Tensor, x: Tensor, new: list[Any]) -> tuple[Tensor, Tensor, list[Any]]:
            x, after = run(i, x, _slices(scanned, i))
            return i + 1, x, _write(new, i, after)

        def segment(s: Tensor, x: Tensor, inputs: Any, new: list[Any]) -> tuple[Tensor, Tensor, Any, list[Any]]:
            inputs, end = inputs.write(s, x), tf.gather(ends, s)
            _, x, new = _loop(lambda i, *_: i < end, step, (s * size, x, new))
            return s + 1, x, inputs, new

        inputs = tf.TensorArray(x.dtype, len(ends), element_shape=x.shape)
        start = (0, x, inputs, _arrays(states))
        _, y, inputs, new = _loop(lambda s, *_: s < len(ends), segment, start)
        kept = inputs.stack()

        def gradient(dy: Tensor, *_: Tensor) -> list[Tensor | None]:
            return _tensorflow_gradients(run, kept, scanned, dy, size)

        return (y, *(array.stack() for array in new)), gradient

    x, *after = chain(x, *scanned)
    return x, after


def _tensorflow_gradients(
    run: Callable[[Tensor, Tensor, Tensors], tuple[Tensor, Tensors]],
    kept: Tensor,
    scanned: Tensors,
    dy: Tensor,
    size: int,
) -> list[Tensor | None]:
    """The gradients of the first input and of every stack, from the inputs of all segments.

    A segment runs again and keeps the inputs of its blocks; then each block runs again under a tape, the last first.
    """
    import tensorflow as tf

    segments, count = kept.shape[0], scanned[0].shape[0]
    trained = [stack for stack in scanned if stack.dtype.is_floating]

    def segment(s: Tensor, dy: Tensor, gradients: list[Any]) -> tuple[Tensor, Tensor, list[Any]]:
        first = s * size
        last = tf.minimum(first + size, count) - 1

        def step(i: Tensor, x: Tensor, inputs: Any) -> tuple[Tensor, Tensor, Any]:
            return i + 1, run(i, x, _slices(scanned, i))[0], inputs.write(i - first, x)

        def step_back(i: Tensor, dy: Tensor, gradients: list[Any]) -> tuple[Tensor, Tensor, list[Any]]:
            x, weights = inputs.read(i - first), _slices(scanned, i)
            sources = [x, *(value for value in weights if value.dtype.is_floating)]
            with tf.GradientTape() as tape:
                tape.watch(sources)
                y, _ = run(i, x, weights)
            dx, *rest = tape.gradient(y, sources, dy, unconnected_gradients="zero")
            dx.set_shape(dy.shape)
            return i - 1, dx, _write(gradients, i, rest)

        inputs = tf.TensorArray(kept.dtype, size, element_shape=kept.shape[1:])
        _, x, inputs = _loop(lambda i, *_: i < last, step, (first, tf.gather(kept, s), inputs))
        inputs = inputs.write(last - first, x)
        _, dy, gradients = _loop(lambda i, *_: i >= first, step_back, (last, dy, gradients))
        return s - 1, dy, gradients

    _, dx, gradients = _loop(lambda s, *_: s >= 0, segment, (segments - 1, dy, _arrays(trained)))
    stacks = iter(gradients)
    return [dx, *(next(stacks).stack() if stack.dtype.is_floating else None for stack in scanned)]


def _loop(condition: Callable[..., Tensor], body: Callable[..., Any], start: tuple[Any, ...]) -> Any:
    """A loop of one iteration at a time.

    Nothing in a second run depends on the gradient: by default TensorFlow would start ten segments ahead, and need as
    much memory as without recomputation.
    """
    import tensorflow as tf

    return tf.while_loop(condition, body, start, parallel_iterations=1)


def _slices(stacks: Tensors, i: Tensor) -> Tensors:
    import tensorflow as tf

    return [tf.gather(stack, i) for stack in stacks]


def _arrays(stacks: Tensors) -> list[Any]:
    """Empty TensorArrays for the slices of stacks."""
    import tensorflow as tf

    return [tf.TensorArray(stack.dtype, stack.shape[0], element_shape=stack.shape[1:]) for stack in stacks]


def _write(arrays: list[Any], i: Tensor, values: Tensors) -> list[Any]:
    return [array.write(i, value) for array, value in zip(arrays, values, strict=True)]


def _jax(block: BlockFunction, x: Tensor, scanned: Tensors, states: Tensors, recompute: int) -> tuple[Tensor, Tensors]:
    import jax

    def step(x: Tensor, slices: tuple[Tensors, Tensors]) -> tuple[Tensor, list[Tensor]]:
        x, after = block(x, *slices)
        return x, [*after]

    stacks = (scanned, states)
    if not recompute:
        return jax.lax.scan(step, x, stacks)
    # A loop needs no barrier against the elimination of equal computations; the last segment stands outside one.
    segment = jax.checkpoint(partial(jax.lax.scan, jax.checkpoint(step, prevent_cse=False)))
    count = (*scanned, *states)[0].shape[0]
    whole = count - count % recompute
    segments = jax.tree.map(lambda stack: stack[:whole].reshape(-1, recompute, *stack.shape[1:]), stacks)
    x, after = jax.lax.scan(segment, x, segments)
    after = [stack.reshape(whole, *stack.shape[2:]) for stack in after]
    if whole < count:
        x, rest = segment(x, jax.tree.map(lambda stack: stack[whole:], stacks))
        after = [jax.numpy.concatenate(parts) for parts in zip(after, rest, strict=True)]
    return x, after


def _torch(
    block: BlockFunction, x: Tensor, scanned: Tensors, states: Tensors, recompute: int
) -> tuple[Tensor, Tensors]:
    from torch.utils.checkpoint import checkpoint

    count = (*scanned, *states)[0].shape[0]
    # The gradient of `stack[i]` would be as large as the stack, for every i; that of unbind() is one stack.
    weights = [stack.unbind() for stack in scanned]

    def segment(x: Tensor, first: int, end: int) -> tuple[Tensor, list[Tensors]]:
        new: list[Tensors] = []
        for i in range(first, end):
            x, after = block(x, [slices[i] for slices in weights], [stack[i] for stack in states])
            new.append([value.detach() for value in after])
        return x, new

    if not recompute:
        x, new = segment(x, 0, count)
    else:
        new = []
        for first in range(0, count, recompute):
            end = min(first + recompute, count)
            x, after = checkpoint(segment, x, first, end, use_reentrant=False)
            new += after
    return x, [ops.stack(values) for values in zip(*new, strict=True)]


LOOPS = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
"""The loop by backend; its last argument is the number of blocks in a segment, 0 without recomputation."""
