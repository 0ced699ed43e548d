"""How a network is trained, as data: optimiser, schedule, loss, augmentation, epochs."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, Strict

from reszoo.arch.spec import Count, Rate
from reszoo.config import FrozenModel, check, configs, inherit, merge, read_yaml

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


class Optimizer(FrozenModel):
    """What turns gradients into steps."""

    kind: Literal["sgd", "adamw", "lamb"] = "sgd"
    momentum: Rate = 0.9
    """Of SGD."""
    nesterov: bool = False
    """Of SGD."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Of kernels only: norms and biases are left out."""
    decay: Literal["l2", "decoupled"] = "l2"
    """`l2` adds half of `weight_decay` times the squared kernels to the loss, as the papers on SGD do; `decoupled`
    shrinks kernels by rate times `weight_decay` a step (Loshchilov 2019)."""
    clip: Annotated[float, Field(ge=0)] = 0.0
    """Greatest norm of all gradients together; 0 for none."""


class LearningRate(FrozenModel):
    """The step size over the run."""

    kind: Literal["constant", "steps", "cosine"] = "cosine"
    peak: Positive = 0.1
    at: Annotated[tuple[Share, ...], Strict(False)] = ()
    """Of `steps`: shares of the run after which the rate is multiplied by `factor`."""
    factor: Positive = 0.1
    warmup: Share = 0.0
    """Share of the run before the peak: a smaller rate for `constant` and `steps`, a ramp for `cosine`."""
    warmup_factor: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The rate at the start over the peak."""
    final: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Of `cosine`: the last rate over the peak."""


class Augmentation(FrozenModel):
    """What happens to training images."""

    shift: Annotated[int, Field(ge=0)] = 0
    """Images are moved by up to so many pixels, zeros coming in (He 2015, 4.2: pad and crop)."""
    flip: bool = False
    """Left and right are exchanged in half of the images."""
    crop: Annotated[tuple[Share, ...], Strict(False)] = ()
    """Least and greatest share of the area that a random crop shows (Szegedy 2015); none if empty."""
    rand_augment: Share = 0.0
    """Strength of Keras' RandAugment; 0 for none."""
    erase: Share = 0.0
    """Share of images in which a rectangle is erased."""
    mixup: Annotated[float, Field(ge=0)] = 0.0
    """Parameter of the mixing weights; 0 for none."""
    cutmix: Annotated[float, Field(ge=0)] = 0.0
    """Parameter of the mixed areas; 0 for none. With `mixup`, every batch gets one of both."""


class Recipe(FrozenModel):
    """How a network is trained."""

    name: str
    ref: str
    batch: Count = 128
    epochs: Count = 20
    optimizer: Optimizer = Optimizer()
    learning_rate: LearningRate = LearningRate()
    loss: Literal["cross_entropy", "binary_cross_entropy"] = "cross_entropy"
    """`binary_cross_entropy` takes every class for a question of its own; the classifier ends in a sigmoid."""
    label_smoothing: Rate = 0.0
    augmentation: Augmentation = Augmentation()
    ema: Rate = 0.0
    """Momentum of an exponential moving average of the weights, which is what is validated and kept; 0 for none."""
    frozen: str = "none"
    """Until which part of the network nothing learns: `stem`, `stage1`, ..., or `none`."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Learning rate of a part over that of the next deeper one (stem, stages, head)."""
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"


@cache
def _entries() -> dict[str, dict[str, Any]]:
    return read_yaml(configs() / "recipes" / "recipes.yaml")


def list_recipes() -> list[str]:
    """Returns the names of the recipes."""
    return [*_entries()]


def recipe(name: str | Recipe, /, **changes: Any) -> Recipe:
    """Returns a recipe, by name or from `file.yaml:name`, with changes: `recipe("fast", epochs=5, optimizer={...})`.

    Raises:
        ReszooError: no such recipe, or a change that is none.
    """
    if isinstance(name, Recipe):
        data, where = name.model_dump(), name.name
    else:
        file, _, own = name.rpartition(":")
        entries = {**_entries(), **(read_yaml(Path(file)) if file else {})}
        data, where = inherit(own, entries, kind="recipe") | {"name": own}, own
    merge(data, changes)
    return check(Recipe, data, where=f"recipe {where}")
