"""Whether a run trains its network with equal blocks as loops."""

from __future__ import annotations

from collections.abc import Sequence

from reszoo.arch.plan import plan
from reszoo.arch.runs import has_runs
from reszoo.arch.spec import NetSpec
from reszoo.errors import ReszooError
from reszoo.training.devices import Devices
from reszoo.training.recipes import Recipe

LOOPS_FROM = 300
"""Operations from which loops start faster and train no slower: 110 layers on TensorFlow (benchmarks/depth.py)."""


def loops_pay(spec: NetSpec, recipe: Recipe, devices: Devices, callbacks: Sequence[object] = ()) -> bool:
    """Returns whether a run uses loops: they start faster, and the numbers are those of the stock network.

    Args:
        spec: the network.
        recipe: how to train.
        devices: that share a batch.
        callbacks: of the user; those of other packages may read layers, which a network with loops has not.
    """
    import keras

    from reszoo.arch.stacked_optimizers import innermost, steps_by_element
    from reszoo.training.optimizers import optimizer

    operations = sum(run.times * len(run.ops) for run in plan(spec).runs)
    # Rates by block need a variable for every block, and norms over several devices none inside a loop.
    if operations < LOOPS_FROM or spec.dense or recipe.layer_decay != 1 or devices.count > 1 or not has_runs(spec):
        return False
    if any(map(_reads_layers, callbacks)) or keras.backend.backend() != "tensorflow":
        return False
    try:
        return all(steps_by_element(each) for each in innermost(optimizer(recipe, 1, None)))
    except ReszooError:
        return False


def _reads_layers(callback: object) -> bool:
    """Whether a callback may look for the layers of the stock network, unless it says so itself."""
    package = type(callback).__module__.partition(".")[0]
    return bool(getattr(callback, "reads_layers", package not in ("keras", "reszoo")))
