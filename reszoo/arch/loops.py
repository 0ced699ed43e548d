"""Networks whose equal blocks run in a loop: the numbers of the stock network, but each kind of block is traced once.

Unrolled, TensorFlow traces every block and every variable separately: minutes for a thousand layers. Here one variable
holds the weights of all equal blocks. On disk there are no stacks: files are those of the stock network.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from reszoo.arch.build import build, names_of, unique_name
from reszoo.arch.facts import policy_of, read_facts, write_facts
from reszoo.arch.plan import plan
from reszoo.arch.recover import layers_by_name, spec_of
from reszoo.arch.repeated import RepeatedBlocks, Stack, unchanged_randomness
from reszoo.arch.runs import has_runs, runs_of, warn_of_no_runs
from reszoo.arch.spec import NetSpec
from reszoo.arch.stacked_optimizers import Row, check_optimizer, clip_by_layer, copy_state, copy_training
from reszoo.errors import ReszooError
from reszoo.types import Array, KerasModel, KerasVariable, Tensor


class Looped(keras.Model):
    """A network as loops over runs of equal blocks; it compiles, fits and predicts as any Keras model.

    It is created without building the stock network, whose cost grows with depth. Initial weights are those that the
    stock network would get after the same `keras.utils.set_random_seed`. Files that it writes and reads are those of
    the stock network.

    Args:
        spec: the network, of any depth.
        recompute: as in `reszoo.create`.
        trainable: whether the layer of a name learns; runs are split where that changes.
        draw: whether to draw initial weights; without them all values are zero.
    """

    def __init__(
        self,
        spec: NetSpec,
        *,
        recompute: bool | int = False,
        trainable: Callable[[str], bool] | None = None,
        draw: bool = True,
    ):
        if not isinstance(recompute, int) or recompute < 0:
            expected = "True, False, or the number of blocks in a group"
            raise ReszooError(f"{spec.name}.recompute", got=repr(recompute), expected=expected)
        learns = trainable or (lambda _: True)
        runs = []
        for segments in runs_of(plan(spec).segments, learns):
            number = re.search(r"block(\d+)$", segments[0].name)
            name = f"{segments[0].part}_from{number[1]}" if number else segments[0].part
            runs.append(RepeatedBlocks(segments, name=name, trainable=learns, recompute=recompute))
        # The input has the order of axes that the pattern of the first run was built for.
        inputs = x = keras.Input(runs[0].layers[0].batch_shape[1:], name=unique_name("input"))
        for run in runs:
            x = run(x)
        super().__init__(inputs, x, name=spec.name)
        self.looped_spec, self.recompute = spec, recompute
        # The names of the stock network in files.
        self.names = {"input_name": "input"}
        self._twin: Callable[[], KerasModel] | None = None
        self._twin_like: Callable[[], Any] = lambda: None
        self._checked: Callable[[], Any] = lambda: None
        self._without_penalty = False
        if draw:
            self.draw()

    @classmethod
    def of(cls, model: KerasModel, recompute: bool | int = False) -> Looped:
        """Returns a stock model with its equal blocks as loops; see `reszoo.rolled`."""
        spec, layers = spec_of(model), layers_by_name(model)

        def learns(name: str) -> bool:
            return name not in layers or bool(layers[name].trainable)

        with policy_of(model), unchanged_randomness():
            looped = cls(spec, recompute=recompute, trainable=learns, draw=False)
        for run in looped.runs:
            run.check_layers(layers)
        looped.names = names_of(model)
        looped.copy_from(model)
        rows = looped._rows_of(model)
        for variable, stack, _ in rows:
            stack.regularizer = variable.regularizer
        settings = keras.saving.serialize_keras_object
        for variable, stack, _ in rows:
            if settings(stack.regularizer) != settings(variable.regularizer):
                got, expected = f"another penalty on {variable.path}", "the same penalty on equal blocks"
                raise ReszooError(f"rolled: {model.name}", got=got, expected=expected)
        if facts := read_facts(model):
            write_facts(looped, facts)
        copy_training(model, looped, rows, to_stacks=True)
        return looped

    @property
    def runs(self) -> tuple[RepeatedBlocks, ...]:
        """The runs of blocks, in order."""
        return tuple(layer for layer in self.layers if isinstance(layer, RepeatedBlocks))

    @property
    def stacks(self) -> dict[str, Stack]:
        """The stacked variables, by the name of the layer in the first block of the run."""
        return {run.segments[0].prefix + stack.name: stack for run in self.runs for stack in run.stacks}

    def draw(self) -> None:
        """Initializes all weights and statistics again, from Keras' random seed."""
        for run in self.runs:
            run.draw()

    def reseed(self, random: np.random.Generator) -> None:
        """Seeds the random generators of all layers, in the order of the stock network."""
        states = [(stack, row) for _, _, stack, row in self.rows() if stack.name == "seed_generator_state"]
        self.assign((stack, row, random.integers(0, 2**31, 2).astype("uint32")) for stack, row in states)

    def rows(self) -> Iterator[tuple[str, int, KerasVariable, int]]:
        """Yields name of the layer, index of its variable, stack and row of every variable of the stock network."""
        for run in self.runs:
            yield from run.rows()

    def copy_from(self, model: KerasModel) -> None:
        """Copies the weights and statistics of a stock model of the same spec."""
        self.assign((row.stack, row.position, row.variable) for row in self._rows_of(model))

    def copy_to(self, model: KerasModel) -> None:
        """Copies the weights and statistics to a stock model of the same spec."""
        values: dict[int, Array] = {}
        for row in self._rows_of(model):
            if id(row.stack) not in values:
                values[id(row.stack)] = ops.convert_to_numpy(row.stack)
            row.variable.assign(values[id(row.stack)][row.position])

    def assign(self, values: Iterable[tuple[KerasVariable, int, Tensor]]) -> None:
        """Assigns values to rows of the stacks: `(stack, row, value)`; each stack is written once."""
        stacks: dict[int, tuple[KerasVariable, Array]] = {}
        for stack, row, value in values:
            if id(stack) not in stacks:
                stacks[id(stack)] = stack, ops.convert_to_numpy(stack).copy()
            stacks[id(stack)][1][row] = ops.convert_to_numpy(value)
        for stack, array in stacks.values():
            stack.assign(array)

    def unrolled(self) -> KerasModel:
        """Returns the stock model with the same weights; see `reszoo.unrolled`."""
        return self._copy_into(self._stock())

    def compile(self, optimizer: Any = "rmsprop", *arguments: Any, **settings: Any) -> None:
        """Configures the training as `keras.Model.compile` does.

        Raises:
            ReszooError: the optimizer would take other steps for stacked variables than for those of the layers.
        """
        super().compile(optimizer, *arguments, **settings)
        self._check_optimizer()

    def make_train_function(self, force: bool = False) -> Any:
        # Callbacks may have replaced the optimizer since the model was compiled.
        self._check_optimizer()
        return super().make_train_function(force=force)

    def _check_optimizer(self) -> None:
        optimizer = getattr(self, "optimizer", None)
        if optimizer is not None and self._checked() is not optimizer:
            clip_by_layer(optimizer, self.stock_order)
            check_optimizer(optimizer)
            self._checked = lambda: optimizer

    def stock_order(self, stacks: Iterable[KerasVariable]) -> list[int]:
        """Returns the order in which the rows of some stacks, one stack after the other, stand in the stock network."""
        starts, total = {}, 0
        for stack in stacks:
            starts[id(stack)] = total
            total += stack.shape[0]
        return [starts[id(stack)] + row for _, _, stack, row in self.rows() if id(stack) in starts]

    @property
    def losses(self) -> list[Tensor]:
        return [] if self._without_penalty else super().losses

    def compute_loss(self, *arguments: Any, **keywords: Any) -> Any:
        """Adds the penalties of all layers in the order of the stock network, so that the sum is the same number."""
        stacks = [stack for stack in self.trainable_variables if stack.regularizer is not None]
        if not stacks:
            return super().compute_loss(*arguments, **keywords)
        self._without_penalty = True
        try:
            loss = super().compute_loss(*arguments, **keywords)
        finally:
            self._without_penalty = False
        rows = ops.concatenate([ops.map(stack.regularizer, ops.convert_to_tensor(stack)) for stack in stacks])
        rows = ops.take(rows, np.array(self.stock_order(stacks)))
        # On TensorFlow the penalty is divided among replicas.
        rows *= self._aggregate_additional_loss(ops.ones((), rows.dtype))
        return ops.sum(ops.concatenate([ops.reshape(loss, (1,)), rows]))

    def summary(self, *arguments: Any, print_fn: Callable[[str], Any] | None = None, **keywords: Any) -> None:
        """Prints the runs of equal blocks, each of them once; arguments other than `print_fn` have no effect."""
        learnt = sum(int(np.prod(each.shape)) for each in self.trainable_variables)
        lines = [f"{self.name}: {self.looped_spec!r}", f"{'blocks':38} {'':8} {'output':22} {'parameters':>12}"]
        lines += [*(run.line() for run in self.runs), f"{learnt:,} trainable parameters; equal blocks run in loops"]
        (print_fn or print)("\n".join(lines))

    def save(self, *arguments: Any, **keywords: Any) -> None:
        """Saves the stock model, which opens in plain Keras; arguments as for `keras.Model.save`."""
        self._updated_twin().save(*arguments, **keywords)

    def export(self, *arguments: Any, **keywords: Any) -> None:
        """Exports the stock model; arguments as for `keras.Model.export`."""
        self._updated_twin().export(*arguments, **keywords)

    def save_weights(self, *arguments: Any, **keywords: Any) -> None:
        """Saves the weights of the stock model, and its optimizer's; arguments as for `keras.Model.save_weights`."""
        self._updated_twin().save_weights(*arguments, **keywords)

    def load_weights(self, filepath: str | Path, skip_mismatch: bool = False, **keywords: Any) -> None:
        """Loads weights that the stock network or this one saved, and those of the optimizer.

        Raises:
            ReszooError: they belong to another network, such as one of another depth.
        """
        twin = self._updated_twin()
        try:
            twin.load_weights(filepath, skip_mismatch=skip_mismatch, **keywords)
        except ValueError as error:
            got = f"weights that do not fit ({str(error).splitlines()[0]})"
            raise ReszooError(str(filepath), got=got, expected=f"those of {self.looped_spec!r}") from None
        self.copy_from(twin)
        if self.compiled and self.optimizer.built and twin.compiled:
            copy_state(twin.optimizer, self.optimizer, self._rows_of(twin), to_stacks=True)

    def quantize(self, *_: Any, **__: Any) -> None:
        raise ReszooError(self.name, got="a network with loops", expected="stock layers", hint="reszoo.unrolled(model)")

    def get_config(self) -> dict[str, Any]:
        hint = "model.save(...) writes the stock network; reszoo.unrolled(model) returns it"
        raise ReszooError(self.name, got="a network with loops, which has no configuration", hint=hint)

    def __reduce__(self) -> tuple[Any, ...]:
        return Looped.of, (self.unrolled(), self.recompute)

    def __deepcopy__(self, memo: Any) -> KerasModel:
        return Looped.of(self.unrolled(), self.recompute)

    def _stock(self) -> KerasModel:
        with policy_of(self), unchanged_randomness():
            return build(self.looped_spec, **self.names)

    def _updated_twin(self) -> KerasModel:
        """The stock model that files are written from; it is built once."""
        if self._twin is None:
            twin = self._stock()
            self._twin = lambda: twin
        optimizer = getattr(self, "optimizer", None)
        twin = self._copy_into(self._twin(), again=self._twin_like() is not optimizer)
        self._twin_like = lambda: optimizer
        return twin

    def _rows_of(self, stock: KerasModel) -> list[Row]:
        layers = layers_by_name(stock)
        return [Row(layers[name].variables[index], stack, row) for name, index, stack, row in self.rows()]

    def _copy_into(self, stock: KerasModel, *, again: bool = True) -> KerasModel:
        """The stock model, after everything was copied into it: values, what learns, penalties, facts, optimizer."""
        layers, rows = layers_by_name(stock), self._rows_of(stock)
        for run in self.runs:
            for stack, segment in product(run.stacks, run.segments):
                layers[segment.prefix + stack.name].trainable = stack.trainable
        self.copy_to(stock)
        for row in rows:
            row.variable.regularizer = row.stack.regularizer
        if facts := read_facts(self):
            write_facts(stock, facts)
        copy_training(self, stock, rows, to_stacks=False, again=again)
        return stock


def build_with_loops(spec: NetSpec, *, recompute: bool | int = False) -> KerasModel:
    """Returns a network with loops; the stock network, and a warning, if no blocks in a row are equal.

    Args:
        spec: the network.
        recompute: as in `reszoo.create`.

    Raises:
        ReszooError: an invalid `recompute`.
    """
    if has_runs(spec):
        return Looped(spec, recompute=recompute)
    warn_of_no_runs(spec)
    return build(spec)
