"""Fine-tuning on Keras' own parts: what is frozen, a new classifier, smaller steps for shallower layers."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

import keras

from reszoo.arch.build import build, names_of
from reszoo.arch.recover import layers_by_name, layers_of, prefix_of, spec_of
from reszoo.errors import ReszooError, UnknownNameError

LEAST_BATCH = 8
"""Images in a batch, below which its statistics are too noisy to normalise by (Wu & He 2018, Fig. 1)."""

Norm = Literal["frozen", "train"]


class Frozen(NamedTuple):
    """What a freeze left."""

    parts: tuple[str, ...]
    """The frozen parts: stem, stage1, ..."""
    trainable: int
    """Parameters that still learn."""


def freeze(model: Any, /, *, until: str | None = None, norm: Norm = "frozen", batch: int | None = None) -> Frozen:
    """Freezes a model up to and including a part, makes the rest trainable, and returns what is left to learn.

    A frozen BatchNormalization runs in inference mode: it normalises with its moving statistics, which stay (Keras' own
    meaning of `trainable=False`). Compile the model afterwards.

    Args:
        model: a model that reszoo built.
        until: `stem`, `stage1`, ..., or `none`; by default everything but the classifier.
        norm: `train` lets the norms of the frozen part learn, statistics and all: right for batches of at least eight
            images that look unlike those of the pretraining.
        batch: images in a batch, where you know it: warns when norms would learn from fewer than eight.

    Raises:
        ReszooError: there is no such part.
    """
    parts = _parts(model)
    if until not in (None, NOTHING, *parts):
        raise UnknownNameError("freeze.until", given=until, known=[NOTHING, *parts])
    if norm not in ("frozen", "train"):
        raise ReszooError("freeze.norm", given=repr(norm), allowed="frozen, train")
    frozen = parts[:-1] if until is None else [] if until == NOTHING else parts[: parts.index(until) + 1]
    # Layer by layer: `model.trainable = False` would hide layers that are made trainable again.
    model.trainable = True
    prefix = prefix_of(model)
    for layer in layers_of(model):
        learns = _part(layer.name.removeprefix(prefix)) not in frozen
        layer.trainable = learns or (norm == "train" and layer.name.endswith("_norm"))
    if batch is not None:
        warn_of_batch(model, batch)
    left = sum(math.prod(variable.shape) for variable in model.trainable_variables)
    return Frozen(tuple(frozen), left)


NOTHING = "none"


def warn_of_batch(model: Any, batch: int, /) -> None:
    """Warns when batch norms would take their statistics from too few images."""
    norms = [layer for layer in layers_of(model) if isinstance(layer, keras.layers.BatchNormalization)]
    if batch < LEAST_BATCH and any(layer.trainable for layer in norms):
        mend = "freeze(model, norm='frozen'), norm={'kind': 'group'}, or larger batches"
        told = f"{model.name}: batch norms learn from batches of {batch}; allowed {LEAST_BATCH} or more; mend: {mend}"
        warnings.warn(told, stacklevel=3)


class Unfreeze(keras.callbacks.Callback):
    """Unfreezes a network part by part in `fit()`: `Unfreeze({0: "stage4", 2: "stage2", 4: "none"})`.

    Howard & Ruder 2018, 3.3. Compile the model as usual. The optimiser is made anew whenever more learns: steps so far
    and what it knows of the variables that learnt already (momentum, averages) stay.

    Args:
        until: epoch, counted from 0 -> until which part the network is frozen from then on, as in `freeze`.
        norm: see `freeze`.

    Raises:
        ReszooError: no epoch 0, or there is no such part.
    """

    def __init__(self, until: Mapping[int, str], *, norm: Norm = "frozen"):
        super().__init__()
        if 0 not in until or min(until) < 0:
            raise ReszooError("Unfreeze", given=f"epochs {sorted(until)}", allowed="epoch 0, and later ones")
        self._until, self._norm, self._now = dict(until), norm, ""

    def set_model(self, model: Any) -> None:
        """Checks the parts before the first step."""
        super().set_model(model)
        parts = [NOTHING, *_parts(model)]
        for until in self._until.values():
            if until not in parts:
                raise UnknownNameError("Unfreeze", given=until, known=parts)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Freezes and unfreezes what this epoch asks for."""
        until = self._until[max(start for start in self._until if start <= epoch)]
        if until == self._now:
            return
        freeze(self.model, until=until, norm=self._norm)
        self.model.optimizer = _rebuilt(self.model.optimizer, self.model.trainable_variables)
        self.model.make_train_function(force=True)
        self._now = until


def _rebuilt(optimizer: Any, variables: Any) -> Any:
    """The same optimiser over other variables; JAX wants one that knows exactly those that learn."""
    made = type(optimizer).from_config(optimizer.get_config())
    made.build(variables)
    known = {variable.path: variable for variable in optimizer.variables}
    steps = max(int(variable) for variable in optimizer.variables if variable.name == "iteration")
    for variable in made.variables:
        if variable.name == "iteration":
            variable.assign(steps)
        elif variable.path in known and variable.name != "learning_rate":
            variable.assign(known[variable.path])
    return made


def replace_head(model: Any, /, *, classes: int, activation: str | None = "softmax", dropout: float = 0.0) -> Any:
    """Returns a model with the weights of another and a new classifier; what was frozen stays frozen.

    Raises:
        ReszooError: the model is not one of reszoo's, or the classifier is impossible.
    """
    spec = spec_of(model)
    head = {"classes": classes, "activation": activation or "linear", "dropout": dropout}
    pooling = {} if spec.dense or spec.head.pooling != "none" else {"pooling": "avg"}
    made = build(spec.replace(head={**head, **pooling}), **names_of(model))
    given = layers_by_name(model)
    for name, layer in layers_by_name(made).items():
        source = given.get(name)
        if source is not None and name != "predictions":
            layer.set_weights(source.get_weights())
            layer.trainable = source.trainable
    return made


def layer_decay(model: Any, optimizer: Callable[..., Any], rate: float, /, *, decay: float = 0.75) -> Any:
    """Returns an optimiser whose steps are smaller in shallower parts: `rate` in the last, times `decay` a part before.

    `model.compile(layer_decay(model, keras.optimizers.AdamW, 1e-3, decay=0.75), ...)`; parts are stem, stages and head.

    Args:
        model: a model that reszoo built.
        optimizer: makes a Keras optimiser from a learning rate.
        rate: learning rate of the head.
        decay: factor from one part to the one before it, above 0 and at most 1.

    Raises:
        ReszooError: an impossible decay, or a Keras without MultiOptimizer.
    """
    if not 0 < decay <= 1:
        raise ReszooError("layer_decay.decay", given=decay, allowed="above 0, at most 1")
    if not hasattr(keras.optimizers, "MultiOptimizer"):
        raise ReszooError(
            "layer_decay", given=f"Keras {keras.__version__}", allowed="a Keras with MultiOptimizer, 3.15"
        )
    parts = _parts(model)
    named = {part: optimizer(rate * decay ** (len(parts) - 1 - place)) for place, part in enumerate(parts)}
    # Of a nested network the path of a variable begins with the names of its sub-models.
    prefix = re.escape(prefix_of(model))
    patterns = {rf"(?:.*/)?{prefix}{re.escape(part)}_.*": made for part, made in named.items() if part != parts[-1]}
    return keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(named[parts[-1]], patterns))


def reestimate_norm(model: Any, data: Any, /, *, batches: int = 100) -> int:
    """Measures the moving statistics of a model's batch norms anew, its weights as they are; returns batches used.

    After weights were averaged or replaced, statistics belong to other weights. Each is the mean over the batches.

    Args:
        model: a Keras model.
        data: batches of inputs, or of `(inputs, ...)`.
        batches: at most so many.

    Raises:
        ReszooError: the model has no batch norm, or there is no data.
    """
    norms = [layer for layer in layers_of(model) if isinstance(layer, keras.layers.BatchNormalization)]
    if not norms:
        raise ReszooError("reestimate_norm", given=f"{model.name}, without batch normalisation")
    kept = [(layer.momentum, layer.trainable) for layer in norms]
    count = 0
    try:
        for layer in norms:
            layer.trainable = True
        for batch in _first(data, batches):
            for layer in norms:
                # The mean of all batches so far: the n-th one counts for 1/n.
                layer.momentum = count / (count + 1)
            model(batch, training=True)
            count += 1
    finally:
        for layer, (momentum, trainable) in zip(norms, kept, strict=True):
            layer.momentum, layer.trainable = momentum, trainable
    if not count:
        raise ReszooError("reestimate_norm", given="no batches", allowed="at least one")
    return count


def _parts(model: Any) -> list[str]:
    """stem, stage1, ..., head."""
    found = dict.fromkeys(_part(name) for name, layer in layers_by_name(model).items() if layer.weights)
    stages = sorted((part for part in found if part.startswith("stage")), key=lambda part: int(part[5:]))
    if "stem" not in found or not stages:
        raise ReszooError(model.name, given="no stem and stages", allowed="a model that reszoo built")
    return ["stem", *stages, "head"]


def _part(layer: str) -> str:
    found = re.match(r"stem|stage\d+(?=_)", layer)
    return found[0] if found else "head"


def _first(data: Any, most: int) -> Iterator[Any]:
    for number, batch in enumerate(data):
        if number == most:
            return
        yield batch[0] if isinstance(batch, (tuple, list)) else batch
