"""A network taken apart: its graph, its blocks, and what every measurement asks of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops, tree

from reszoo.diagnosis.autodiff import gradient
from reszoo.diagnosis.blocks import Block, blocks_of
from reszoo.diagnosis.flatten import flatten
from reszoo.diagnosis.graph import Change, Graph, Slot, Statistics
from reszoo.errors import ReszooError

Loss = Callable[[Any, Any], Any]
"""From true values and the network's outputs to one number per example or one for all."""


@dataclass(frozen=True, eq=False)
class Anatomy:
    """A network taken apart."""

    graph: Graph
    blocks: tuple[Block, ...]
    found: str
    """How the blocks were found."""

    @property
    def name(self) -> str:
        """Of the model."""
        return str(self.graph.model.name)

    @property
    def trunk(self) -> tuple[Slot, ...]:
        """h_0, ..., h_N: what the first block reads and what every block puts out."""
        return (self.blocks[0].input, *(block.output for block in self.blocks))

    @property
    def residual(self) -> bool:
        """Whether any block has a shortcut."""
        return any(block.residual for block in self.blocks)

    @property
    def parts(self) -> dict[str, list[int]]:
        """Numbers of the blocks of stage1, stage2, ...."""
        found: dict[str, list[int]] = {}
        for number, block in enumerate(self.blocks):
            found.setdefault(block.part, []).append(number)
        return found

    def loss(self, logits: Any, y: Any, loss: Loss | None = None) -> Any:
        """Returns the mean loss of a batch: cross-entropy in nats, or what `loss` says of the network's outputs."""
        logits = ops.cast(logits, "float32")
        activation = self.graph.activation
        if loss is not None:
            made = {"softmax": ops.softmax, "sigmoid": ops.sigmoid, "linear": lambda value: value}[activation](logits)
            return ops.mean(loss(y, made))
        if logits.shape[-1] == 1:
            # One logit: the other class has zero.
            logits = ops.concatenate([ops.zeros_like(logits), logits], axis=-1)
        return -ops.mean(ops.take_along_axis(ops.log_softmax(logits, axis=-1), y, axis=-1))

    def labels(self, y: Any, loss: Loss | None = None) -> Any:
        """Returns class numbers as a column; with a loss of one's own, `y` as it is.

        Raises:
            ReszooError: `y` are not classes of the network.
        """
        if loss is not None:
            return y
        y, classes = np.asarray(y), max(self.graph.shapes[self.graph.logits][-1] or 0, 2)
        if y.ndim == 2 and y.shape[1] == classes and classes > 1:
            y = y.argmax(axis=1)
        y = y.reshape(-1)
        if len(self.graph.shapes[self.graph.logits]) != 1 or (y != y.astype("int64")).any():
            hint = "give loss=, a function of true values and outputs"
            raise ReszooError(f"{self.name}: y", got="values that are no classes", expected="class numbers", hint=hint)
        if len(y) and not 0 <= y.min() <= y.max() < classes:
            raise ReszooError(f"{self.name}: y", got=f"classes {y.min()} to {y.max()}", expected=f"0 to {classes - 1}")
        return y.astype("int64")[:, None]

    def slopes(
        self,
        x: Any,
        y: Any,
        *,
        at: Sequence[Slot] = (),
        variables: Sequence[Any] = (),
        values: Sequence[Any] | None = None,
        change: Mapping[Slot, Change] | None = None,
        loss: Loss | None = None,
        statistics: Statistics = "batch",
    ) -> tuple[float, list[Any]]:
        """Returns the loss, and its gradients (float32) with respect to tensors of the graph, then to variables.

        Args:
            x: inputs.
            y: class numbers as a column.
            at: tensors of the graph.
            variables: of the model.
            values: of those variables, by default their own.
            change: what is done to tensors, as in `Graph.run`.
            loss: other than cross-entropy.
            statistics: of batch norms.
        """
        probes = self._zeros(x, at, statistics)
        own = [ops.copy(variable) for variable in variables] if values is None else list(values)

        def function(got: list[Any]) -> Any:
            added = {slot: _plus(probe, (change or {}).get(slot)) for slot, probe in zip(at, got, strict=False)}
            logits = self.graph.logits
            found = self.graph.run(
                x,
                wanted=[logits],
                change={**(change or {}), **added},
                statistics=statistics,
                weights=zip(variables, got[len(at) :], strict=True),
            )
            return self.loss(found[logits], y, loss) * scale

        # Half precision has no room for small gradients.
        scale = 1024.0 if "float16" in str(self.graph.model.compute_dtype) else 1.0
        value, found = gradient(function, [*probes, *own])
        arrays = [ops.convert_to_numpy(ops.cast(slope, "float32")) / np.float32(scale) for slope in found]
        return float(ops.convert_to_numpy(value)) / scale, arrays

    def _zeros(self, x: Any, at: Sequence[Slot], statistics: Statistics) -> list[Any]:
        """Zeros of the shapes of tensors; what shapes leave open is seen by running once."""
        shapes = [self.graph.shapes[slot] for slot in at]
        if any(None in shape for shape in shapes):
            shown = self.graph.read(x, wanted=at, statistics=statistics)
            return [ops.zeros(shown[slot].shape) for slot in at]
        examples = len(tree.flatten(x)[0])
        return [ops.zeros((examples, *shape)) for shape in shapes]


def take_apart(model: Any) -> Anatomy:
    """Returns a model taken apart: the blocks of any functional or Sequential Keras model, sub-models opened.

    Of a network of reszoo they are those of its plan; of others, they end where a branch is added to a shortcut; of
    networks without additions, every weighted layer between the first and the last is one.

    Args:
        model: a Keras model of one output.

    Raises:
        ReszooError: it cannot be taken apart; the message says why and what could be.
    """
    if isinstance(model, Anatomy):
        return model
    graph = flatten(model)
    return Anatomy(graph, *blocks_of(graph))


@contextmanager
def untouched(model: Any) -> Iterator[None]:
    """A context after which every variable of a model is bit for bit what it was.

    Measurements write none: they run in Keras' stateless scope. This guards against layers that write past it.
    """
    variables = model.variables
    before = [np.array(variable.numpy()) for variable in variables]
    try:
        yield
    finally:
        for variable, value in zip(variables, before, strict=True):
            if variable.numpy().tobytes() != value.tobytes():
                variable.assign(value)


def _plus(probe: Any, change: Change | None) -> Change:
    def changed(value: Any, values: dict[Slot, Any]) -> Any:
        return (value if change is None else change(value, values)) + ops.cast(probe, value.dtype)

    return changed
