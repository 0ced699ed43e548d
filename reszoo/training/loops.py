"""Whether a run trains its network with equal blocks as loops."""

from __future__ import annotations

from reszoo.arch.plan import plan
from reszoo.arch.runs import has_runs
from reszoo.arch.spec import NetSpec
from reszoo.errors import ReszooError
from reszoo.training.devices import Devices
from reszoo.training.recipes import Recipe

LOOPS_FROM = 300
"""Operations from which loops start faster and train no slower: 110 layers on TensorFlow (benchmarks/depth.py)."""


def loops_pay(spec: NetSpec, recipe: Recipe, devices: Devices) -> bool:
    """Returns whether a run uses loops: they start faster, and the numbers are those of the stock network."""
    import keras

    from reszoo.arch.stacked_optimizers import innermost, steps_by_element
    from reszoo.training.optimizers import optimizer

    operations = sum(run.times * len(run.ops) for run in plan(spec).runs)
    # Rates by block need a variable for every block, and norms over several devices none inside a loop.
    if operations < LOOPS_FROM or spec.dense or recipe.layer_decay != 1 or devices.count > 1 or not has_runs(spec):
        return False
    if keras.backend.backend() != "tensorflow":
        return False
    try:
        return all(steps_by_element(each) for each in innermost(optimizer(recipe, 1, None)))
    except ReszooError:
        return False
