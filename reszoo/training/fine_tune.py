"""Fine-tuning: freezing, gradual unfreezing, smaller steps for shallower parts, new statistics of norms."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Literal, NamedTuple

import keras

from reszoo.arch.recover import layers_by_name, layers_of, prefix_of
from reszoo.errors import ReszooError, UnknownNameError
from reszoo.types import KerasModel, KerasOptimizer, KerasVariable, Tensor

MIN_BATCH = 8
"""Batch size below which batch statistics are too noisy (Wu & He 2018, Fig. 1)."""
NOTHING = "none"
"""The word for no frozen part."""

Norm = Literal["frozen", "train"]


class Frozen(NamedTuple):
    """The frozen parts of a model."""

    parts: tuple[str, ...]
    """Names: stem, stage1, ..."""
    trainable: int
    """Number of trainable parameters that remain."""

    def __repr__(self) -> str:
        return f"Frozen({', '.join(self.parts) or 'nothing'}; {self.trainable:,} trainable parameters)"


def freeze(
    model: KerasModel, /, *, until: str | None = None, norm: Norm = "frozen", batch: int | None = None
) -> Frozen:
    """Returns the frozen parts, after freezing a model up to and including a part; the rest becomes trainable.

    A frozen BatchNormalization runs in inference mode: it uses its moving statistics and does not update them (Keras'
    meaning of `trainable=False`). Compile the model afterwards.

    Example:
        >>> import reszoo
        >>> model = reszoo.resnet20_cifar(depths=1, width_multiplier=0.25, classes=10)
        >>> reszoo.freeze(model, until="stage2")
        Frozen(stem, stage1, stage2; 3,690 trainable parameters)

    Args:
        model: a model that reszoo built.
        until: `stem`, `stage1`, ..., or `none`; by default everything except the classifier.
        norm: `train` keeps the norms of the frozen parts trainable, including their statistics: suitable for batches of
            at least eight images that differ from the pretraining images.
        batch: batch size of the training, to warn if norms would be trained with fewer than eight images.

    Raises:
        ReszooError: an unknown part.
    """
    parts = _parts(model)
    if until not in (None, NOTHING, *parts):
        raise UnknownNameError("freeze.until", got=until, known=[NOTHING, *parts])
    if norm not in ("frozen", "train"):
        raise ReszooError("freeze.norm", got=repr(norm), expected="frozen, train")
    if until is None:
        frozen = parts[:-1]
    elif until == NOTHING:
        frozen = []
    else:
        frozen = parts[: parts.index(until) + 1]
    # Layer by layer: `model.trainable = False` would override layers that stay trainable.
    model.trainable = True
    for name, layer in (model.stacks if hasattr(model, "looped_spec") else layers_by_name(model)).items():
        layer.trainable = _part(name) not in frozen or (norm == "train" and name.endswith("_norm"))
    if batch is not None:
        warn_of_batch(model, batch)
    trainable = sum(math.prod(variable.shape) for variable in model.trainable_variables)
    return Frozen(tuple(frozen), trainable)


def warn_of_batch(model: KerasModel, batch: int, /) -> None:
    """Warns if batch norms would compute their statistics from too few images."""
    norms = [layer for layer in layers_of(model) if isinstance(layer, keras.layers.BatchNormalization)]
    if batch < MIN_BATCH and any(layer.trainable for layer in norms):
        hint = "freeze(model, norm='frozen'), norm={'kind': 'group'}, or larger batches"
        message = f"{model.name}: got batches of {batch} for batch norms; expected {MIN_BATCH} or more; {hint}"
        warnings.warn(message, stacklevel=3)


class Unfreeze(keras.callbacks.Callback):
    """A callback that unfreezes a network part by part during `fit()` (Howard & Ruder 2018, 3.3).

    Compile the model as usual. The optimizer is rebuilt whenever more parts become trainable; its step count and its
    state for the variables that were trainable before (momentum, averages) are preserved.

    Example:
        >>> import reszoo
        >>> callback = reszoo.Unfreeze({0: "stage4", 2: "stage2", 4: "none"})

    Args:
        until: epoch, counted from 0 -> last frozen part from that epoch on, as in `freeze`.
        norm: see `freeze`.

    Raises:
        ReszooError: no epoch 0, or an unknown part.
    """

    def __init__(self, until: Mapping[int, str], *, norm: Norm = "frozen"):
        super().__init__()
        if 0 not in until or min(until) < 0:
            raise ReszooError("Unfreeze", got=f"epochs {sorted(until)}", expected="epoch 0, and any later ones")
        self._until, self._norm = dict(until), norm
        self._current = ""

    def set_model(self, model: KerasModel) -> None:
        """Checks the parts before the first step."""
        super().set_model(model)
        parts = [NOTHING, *_parts(model)]
        for until in self._until.values():
            if until not in parts:
                raise UnknownNameError("Unfreeze", got=until, known=parts)

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Applies the schedule for this epoch."""
        until = self._until[max(start for start in self._until if start <= epoch)]
        if until == self._current:
            return
        freeze(self.model, until=until, norm=self._norm)
        self.model.optimizer = _rebuild(self.model.optimizer, self.model.trainable_variables)
        self.model.make_train_function(force=True)
        self._current = until


def _rebuild(optimizer: KerasOptimizer, variables: list[KerasVariable]) -> KerasOptimizer:
    """The same optimizer for other variables; JAX needs one that holds exactly the trainable ones."""
    rebuilt = type(optimizer).from_config(optimizer.get_config())
    rebuilt.build(variables)
    state = {variable.path: variable for variable in optimizer.variables}
    steps = max(int(variable) for variable in optimizer.variables if variable.name == "iteration")
    for variable in rebuilt.variables:
        if variable.name == "iteration":
            variable.assign(steps)
        elif variable.path in state and variable.name != "learning_rate":
            variable.assign(state[variable.path])
    return rebuilt


def layer_decay(
    model: KerasModel,
    optimizer: Callable[..., KerasOptimizer],
    rate: float,
    /,
    *,
    decay: float = 0.75,
    **settings: object,
) -> KerasOptimizer:
    """Returns an optimizer with smaller learning rates in shallower layers.

    The head's rate is `rate`; each group before it (every block, the stem) has `decay` times the rate of the next one.
    In a network with loops the groups are stages: the weights of equal blocks are one variable.
    `model.compile(layer_decay(model, keras.optimizers.AdamW, 1e-3, decay=0.75, weight_decay=0.05), ...)`

    Args:
        model: a model that reszoo built.
        optimizer: returns a Keras optimizer for a learning rate and `settings`.
        rate: learning rate of the head.
        decay: factor from one group to the one before it, above 0 and at most 1.
        settings: further arguments of `optimizer`.

    Raises:
        ReszooError: an invalid decay, or a Keras without MultiOptimizer.
    """
    if not 0 < decay <= 1:
        raise ReszooError("layer_decay.decay", got=decay, expected="above 0, at most 1")
    if not hasattr(keras.optimizers, "MultiOptimizer"):
        raise ReszooError("layer_decay", got=f"Keras {keras.__version__}", expected="a Keras with MultiOptimizer, 3.15")
    groups = _groups(model)
    last = len(groups) - 1
    optimizers = {group: optimizer(rate * decay ** (last - i), **settings) for i, group in enumerate(groups)}
    # In a nested network a variable's path starts with the names of the outer models.
    prefix = re.escape(prefix_of(model))
    head = optimizers.pop(groups[-1])
    patterns = {rf"(?:.*/)?{prefix}{re.escape(group)}[_/].*": each for group, each in optimizers.items()}
    return keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(head, patterns))


def reestimate_norm(
    model: KerasModel, data: Iterable[Tensor] | Tensor, /, *, batches: int = 100, batch: int = 64
) -> int:
    """Returns the number of batches used to recompute the moving statistics of a model's batch norms.

    After weights were averaged or replaced, the statistics do not match them. Each one becomes the mean over the
    batches; the weights stay unchanged.

    Example:
        >>> import numpy, reszoo
        >>> model = reszoo.resnet20_cifar(depths=1, width_multiplier=0.25)
        >>> reszoo.reestimate_norm(model, [numpy.zeros((2, 32, 32, 3))] * 3)
        3

    Args:
        model: a Keras model.
        data: batches of inputs, or of `(inputs, ...)`; or one array of examples.
        batches: maximum number of batches.
        batch: examples per batch, for an array.

    Raises:
        ReszooError: the model has no batch norm, or there is no data.
    """
    norms = [layer for layer in layers_of(model) if isinstance(layer, keras.layers.BatchNormalization)]
    if not norms:
        raise ReszooError("reestimate_norm", got=f"{model.name}, without batch normalization")
    previous = [(layer.momentum, layer.trainable) for layer in norms]
    if hasattr(data, "shape"):
        data = _batches_of(model, data, batch)
    count = 0
    try:
        for layer in norms:
            layer.trainable = True
        for inputs in _first(data, batches):
            _check_batch(model, inputs)
            for layer in norms:
                # The running mean: the n-th batch has weight 1/n.
                layer.momentum = count / (count + 1)
            model(inputs, training=True)
            count += 1
    finally:
        for layer, (momentum, trainable) in zip(norms, previous, strict=True):
            layer.momentum, layer.trainable = momentum, trainable
    if not count:
        raise ReszooError("reestimate_norm", got="no batches", expected="at least one")
    return count


def _parts(model: KerasModel) -> list[str]:
    """stem, stage1, ..., head."""
    names = {_part(name) for name, layer in layers_by_name(model).items() if layer.weights}
    stages = sorted((name for name in names if name.startswith("stage")), key=lambda name: int(name[5:]))
    if "stem" not in names or not stages:
        raise ReszooError(model.name, got="no stem and stages", expected="a model that reszoo built")
    return ["stem", *stages, "head"]


def _groups(model: KerasModel) -> list[str]:
    """stem, stage1_block1, ..., head: in the order of execution."""
    parts = _parts(model)
    if hasattr(model, "looped_spec"):
        return parts
    names = [name for name, layer in layers_by_name(model).items() if layer.weights]
    blocks = {match[0] for name in names if (match := re.match(r"stage\d+_block\d+(?=_)", name))}
    return ["stem", *sorted(blocks, key=lambda name: [int(number) for number in re.findall(r"\d+", name)]), "head"]


def _part(layer: str) -> str:
    match = re.match(r"stem|stage\d+(?=_)", layer)
    return match[0] if match else "head"


def _first(data: Iterable[Tensor], limit: int) -> Iterator[Tensor]:
    for index, batch in enumerate(data):
        if index == limit:
            return
        yield batch[0] if isinstance(batch, (tuple, list)) else batch


def _batches_of(model: KerasModel, examples: Tensor, batch: int) -> list[Tensor]:
    """An array in batches of examples."""
    _check_batch(model, examples)
    if batch < 1:
        raise ReszooError("reestimate_norm.batch", got=batch, expected="at least 1")
    return [examples[start : start + batch] for start in range(0, len(examples), batch)]


def _check_batch(model: KerasModel, inputs: Tensor) -> None:
    expected, shape = getattr(model, "input_shape", None), getattr(inputs, "shape", None)
    if not isinstance(expected, tuple) or shape is None:
        return
    fits = len(shape) == len(expected) and all(b in (None, a) for a, b in zip(shape, expected, strict=True))
    if not fits:
        got = f"inputs of shape {tuple(shape)}"
        raise ReszooError("reestimate_norm", got=got, expected=f"an array or batches of {expected}")
