"""The structure of a network, its graph and blocks, and the gradients that measurements take of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from keras import ops, tree

from reszoo.diagnosis.autodiff import gradient
from reszoo.diagnosis.blocks import Block, blocks_of
from reszoo.diagnosis.flatten import flatten
from reszoo.diagnosis.graph import Change, Graph, Slot, Statistics, Values
from reszoo.diagnosis.objective import CATEGORICAL, Loss, compiled_losses, loss_name, objective, y_tensor
from reszoo.errors import ReszooError
from reszoo.types import Array, KerasModel, KerasVariable, Tensor


@dataclass(frozen=True, eq=False, repr=False)
class Anatomy:
    """The graph of a network and the position of its blocks."""

    graph: Graph
    blocks: tuple[Block, ...]
    description: str
    """How many blocks there are and how they were identified."""

    def __repr__(self) -> str:
        return f"Anatomy({self.name}: {self.description or 'no blocks'}; {len(self.graph.steps)} steps)"

    @property
    def name(self) -> str:
        """Returns the name of the model."""
        return str(self.graph.model.name)

    @property
    def trunk(self) -> tuple[Slot, ...]:
        """Returns h_0, ..., h_N: the input of the first block and the output of every block."""
        return (self.blocks[0].input, *(block.output for block in self.blocks))

    @property
    def residual(self) -> bool:
        """Whether any block has a shortcut."""
        return any(block.residual for block in self.blocks)

    @property
    def parts(self) -> dict[str, list[int]]:
        """Returns the indices of the blocks of stage1, stage2, ...."""
        parts: dict[str, list[int]] = {}
        for index, block in enumerate(self.blocks):
            parts.setdefault(block.part, []).append(index)
        return parts

    @cached_property
    def compiled(self) -> Loss | None:
        """Returns the compiled loss as a function of true values and the model's output; None without one."""
        loss = compiled_losses(self.graph.model)[0]
        return None if loss is None else objective(loss, self.graph.shapes[self.graph.output])

    def scored(self, loss: Loss | str | None = None) -> Slot:
        """Returns the tensor that `loss` reads: the model's output, or the logits for plain cross-entropy."""
        return self.graph.logits if loss is None and self.compiled is None else self.graph.output

    def loss(self, outputs: Tensor, y: Tensor, loss: Loss | str | None = None) -> Tensor:
        """Returns the mean loss of a batch.

        Args:
            outputs: values of the tensor `scored`.
            y: what `targets` returned.
            loss: a function instead of the compiled loss; without both, cross-entropy in nats.
        """
        outputs = ops.cast(outputs, "float32") if loss is not None or self.compiled is None else outputs
        if isinstance(loss, str):
            loss = objective(loss, self.graph.shapes[self.graph.output])
        if loss is not None:
            return ops.mean(loss(y_tensor(y), outputs))
        return self.cross_entropy(outputs, y) if self.compiled is None else self.compiled(y, outputs)

    def cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Returns the mean cross-entropy (nats) of logits for class indices as a column."""
        logits = ops.cast(logits, "float32")
        if logits.shape[-1] == 1:
            # One logit stands for two classes; the logit of the other is zero.
            logits = ops.concatenate([ops.zeros_like(logits), logits], axis=-1)
        return -ops.mean(ops.take_along_axis(ops.log_softmax(logits, axis=-1), labels, axis=-1))

    def targets(self, y: Tensor, loss: Loss | str | None = None) -> Tensor:
        """Returns the true values in the form that the loss takes.

        Class indices become one-hot rows where the compiled loss takes those.

        Raises:
            ReszooError: there is no loss, and `y` holds no class indices of the network.
        """
        if loss is not None:
            return y
        if self.compiled is None:
            return self.labels(y)
        y, shape = np.asarray(y), self.graph.shapes[self.graph.output]
        classes = int(shape[-1] or 1) if shape else 1
        if loss_name(compiled_losses(self.graph.model)[0]) in CATEGORICAL and y.size == len(y) and classes > 1:
            return np.eye(classes, dtype="float32")[self.labels(y)[:, 0]]
        return y

    def labels(self, y: Tensor) -> Array:
        """Returns class indices as a column of shape `(batch, 1)`.

        Raises:
            ReszooError: `y` holds no class indices of the network.
        """
        y, shape = np.asarray(y), self.graph.shapes[self.graph.logits]
        classes = max(shape[-1] or 0, 2)
        if y.ndim == 2 and y.shape[1] == classes and ((y == 0) | (y == 1)).all() and (y.sum(axis=1) == 1).all():
            y = y.argmax(axis=1)
        whole = y.dtype.kind in "iufb" and np.isfinite(y).all() and (y == y.astype("int64")).all()
        if len(shape) != 1 or not whole or y.size != len(y):
            hint = "compile the model with its loss, or pass loss=, a function of true values and outputs"
            raise ReszooError(f"{self.name}: y", got="values that are not classes", expected="class indices", hint=hint)
        y = y.reshape(-1)
        if len(y) and not 0 <= y.min() <= y.max() < classes:
            raise ReszooError(f"{self.name}: y", got=f"classes {y.min()} to {y.max()}", expected=f"0 to {classes - 1}")
        return np.asarray(y.astype("int64")[:, None])

    def gradients(
        self,
        x: Tensor,
        y: Tensor,
        *,
        at: Sequence[Slot] = (),
        variables: Sequence[KerasVariable] = (),
        values: Sequence[Tensor] | None = None,
        change: Mapping[Slot, Change] | None = None,
        loss: Loss | str | None = None,
        statistics: Statistics = "batch",
    ) -> tuple[float, list[Array]]:
        """Returns the loss, and its gradients (float32) with respect to tensors of the graph, then to variables.

        Args:
            x: a batch of inputs.
            y: what `targets` returned.
            at: tensors of the graph.
            variables: variables of the model.
            values: values of those variables; by default their current ones.
            change: functions that replace the values of tensors, as in `Graph.run`.
            loss: a function instead of the compiled loss.
            statistics: which statistics batch norms use.
        """
        probes = self._zeros(x, at, statistics)
        weights = [ops.copy(variable) for variable in variables] if values is None else list(values)
        scored = self.scored(loss)

        def function(arguments: list[Tensor]) -> Tensor:
            # The gradient at a tensor is that with respect to a zero that is added to it.
            probed = {slot: _plus(probe, (change or {}).get(slot)) for slot, probe in zip(at, arguments, strict=False)}
            outputs = self.graph.run(
                x,
                outputs=[scored],
                change={**(change or {}), **probed},
                statistics=statistics,
                weights=zip(variables, arguments[len(at) :], strict=True),
            )
            return self.loss(outputs[scored], y, loss) * scale

        # Small gradients underflow in half precision.
        scale = 1024.0 if "float16" in str(self.graph.model.compute_dtype) else 1.0
        value, slopes = gradient(function, [*probes, *weights])
        arrays = [ops.convert_to_numpy(ops.cast(slope, "float32")) / np.float32(scale) for slope in slopes]
        return float(ops.convert_to_numpy(value)) / scale, arrays

    def _zeros(self, x: Tensor, at: Sequence[Slot], statistics: Statistics) -> list[Tensor]:
        """Returns zeros of the shapes of tensors; where a shape is open, the network runs once to learn it."""
        shapes = [self.graph.shapes[slot] for slot in at]
        if any(None in shape for shape in shapes):
            values = self.graph.read(x, outputs=at, statistics=statistics)
            return [ops.zeros(values[slot].shape) for slot in at]
        examples = len(tree.flatten(x)[0])
        return [ops.zeros((examples, *shape)) for shape in shapes]


def take_apart(model: KerasModel | Anatomy) -> Anatomy:
    """Returns the anatomy of any functional or Sequential Keras model: its graph, sub-models opened, and its blocks.

    The blocks of a reszoo network are those of its plan. In other networks a block ends where a branch is added to a
    shortcut; without additions, every weighted layer between the first and the last is a block.

    Example:
        >>> import reszoo
        >>> network = reszoo.diagnosis.take_apart(reszoo.create("residual_mlp18", input_shape=(8,), widths=8))
        >>> len(network.blocks), network.residual
        (8, True)

    Args:
        model: a Keras model with one output; an `Anatomy` is returned unchanged.

    Raises:
        ReszooError: the model cannot be analyzed; the message says why and what can be.
    """
    if isinstance(model, Anatomy):
        return model
    graph = flatten(model)
    return Anatomy(graph, *blocks_of(graph))


@contextmanager
def preserve_variables(model: KerasModel) -> Iterator[None]:
    """Returns a context that on exit restores every variable of a model, bit for bit.

    Measurements write no variables: they run in Keras' stateless scope. This guards against layers that bypass it.
    """
    variables = model.variables
    before = [np.array(variable.numpy()) for variable in variables]
    try:
        yield
    finally:
        for variable, value in zip(variables, before, strict=True):
            if variable.numpy().tobytes() != value.tobytes():
                variable.assign(value)


def _plus(probe: Tensor, change: Change | None) -> Change:
    def changed(value: Tensor, values: Values) -> Tensor:
        return (value if change is None else change(value, values)) + ops.cast(probe, value.dtype)

    return changed
