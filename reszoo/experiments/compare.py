"""A network beside its plain twin and controls: same examples in the same order, same budget, same seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import log
from time import perf_counter
from typing import Any

import numpy as np

from reszoo.arch import zoo
from reszoo.arch.spec import NetSpec
from reszoo.data.sources import Data, open_data
from reszoo.diagnosis.anatomy import take_apart
from reszoo.diagnosis.measures.gradient_profile import gradient_profile
from reszoo.diagnosis.measures.information import information
from reszoo.diagnosis.measures.lesion import early_exit, lesion_study
from reszoo.diagnosis.measures.loss_surface import loss_slice, predictiveness
from reszoo.diagnosis.measures.path_length import path_length
from reszoo.diagnosis.measures.result import Result
from reszoo.diagnosis.measures.shattering import shattering
from reszoo.diagnosis.measures.signal import correlation, signal_propagation
from reszoo.errors import ReszooError, UnknownNameError
from reszoo.experiments.comparison import Comparison, Measured
from reszoo.experiments.contestants import Contestant, budget as budget_for, contestants, families
from reszoo.experiments.degradation_gap import best, gap
from reszoo.experiments.trainer import Run, Trainer, TrainingBudget, rows
from reszoo.training.recipes import Recipe

EXAMPLES = 256
"""How many the measurements look at."""
SHALLOW = 3
"""The shallow network has a third of the blocks of every stage: 20 of 56 layers."""

Watch = Callable[[str, int, int], None]
"""Is told what is done, how much is done, and of how much."""
Measurement = Callable[[Any, Any, Any], Result]

MEASUREMENTS: dict[str, Measurement] = {
    "gradient profile": gradient_profile,
    "signal propagation": lambda model, x, y: signal_propagation(model, x),
    "correlation": correlation,
    "information": lambda model, x, y: information(model, x, y, places=7),
    "shattering": lambda model, x, y: shattering(model, x, pairs=3, points=33),
    "gradient predictiveness": predictiveness,
    "lesion study": lesion_study,
    "effective path length": lambda model, x, y: path_length(model, x, y, draws=2, lengths=7),
    "early exit": early_exit,
    "loss slice": lambda model, x, y: loss_slice(model, x, y, directions=1),
}
AT_START = [*MEASUREMENTS][:6]
"""Those that a network need not be trained for."""


def compare(
    model: str | NetSpec,
    data: Any,
    /,
    *,
    against: Sequence[str] | None = None,
    shallow: int | Sequence[int] | None = None,
    recipe: str | Recipe | None = None,
    steps: int | None = None,
    rates: Sequence[float] | None = None,
    seeds: Sequence[int] | None = None,
    measure: Sequence[str] | None = None,
    watch: Watch = lambda what, done, total: None,
    **changes: Any,
) -> Comparison:
    """Returns a network beside its plain twin and two controls, at two depths, before and after training.

    The controls: the plain network from looks-linear weights, which trains deep without any shortcut, and the residual
    network whose branches do not start at zero. All see the same examples in the same order.

    Args:
        model: a residual network, by name or spec.
        data: a source as for training (`open_data`).
        against: names of families in `zoo_configs/evidence/evidence.yaml`; by default the plain twin and two controls.
        shallow: blocks of every stage of the shallow network; by default a third.
        recipe: of the training, or its name; its learning rate and epochs give way to `rates` and `steps`.
        steps: of a training; by default 150 for dense networks, 120 for others.
        rates: learning rates to try with the first seed, the best of which counts and is that of the other seeds.
        seeds: of weights and order.
        measure: what is measured before and after training (`MEASUREMENTS`); by default everything.
        watch: is told of progress.
        changes: to the network, as in `spec`.

    Raises:
        ReszooError: a plain network, an unknown change, family or measurement, or a shallow network that is none.
    """
    begun = perf_counter()
    source, spec = fitted(zoo.spec(model, **changes), data if isinstance(data, Data) else open_data(data))
    fewer, wanted = shallower(spec, shallow), _chosen(measure)
    expected = budget_for("dense" if spec.dense else "image", recipe=recipe, steps=steps, rates=rates, seeds=seeds)
    table = families(None if against is None else ["residual", *against])
    deep, few = contestants(spec, table), contestants(fewer, table)
    x, y = source.arrays("train")
    x, y = x[:EXAMPLES], y[:EXAMPLES]
    runs: list[tuple[str, Run]] = []
    gaps, measured = [], []
    total, done = len(deep) * 2, 0
    for one, other in zip(deep, few, strict=True):
        watch(f"{one.family}, {other.depth} layers", done, total)
        short = [*trained(Trainer(other.spec, source, expected), expected)]
        watch(f"{one.family}, {one.depth} layers", done + 1, total)
        trainer = Trainer(one.spec, source, expected)
        if wanted:
            new = trainer.fresh(expected.seeds[0])
            measured.append(_measure(one, new, "initialisation", wanted & {*AT_START}, x, y))
        long = [*trained(trainer, expected)]
        if wanted:
            # The first seed at the best rate once more: its weights are looked at.
            trainer.run(rate=best(long)[0].rate, seed=expected.seeds[0])
            measured.append(_measure(one, trainer.model(), "after training", wanted, x, y))
        gaps.append(gap(one.family, short, long, chance=log(spec.head.classes or 1)))
        runs += [(one.family, run) for run in (*short, *long)]
        done += 2
    watch("done", total, total)
    seconds = perf_counter() - begun
    return Comparison(spec.name, source.name, expected, deep, few, tuple(runs), tuple(gaps), tuple(measured), seconds)


def fitted(spec: NetSpec, data: Data) -> tuple[Data, NetSpec]:
    """Returns the data as the network reads them, and the network in their shape."""
    source = rows(data) if spec.dense else data
    return source, spec.replace(input_shape=source.shape, classes=len(source.classes))


def shallower(spec: NetSpec, depths: int | Sequence[int] | None = None) -> NetSpec:
    """Returns the network with fewer blocks: so many in every stage, or a third.

    Raises:
        ReszooError: that would not be fewer.
    """
    wanted = [max(1, round(stage.depth / SHALLOW)) for stage in spec.stages] if depths is None else depths
    made = spec.replace(depths=wanted)
    before, after = (sum(stage.depth for stage in one.stages) for one in (spec, made))
    if len(made.stages) != len(spec.stages) or after >= before:
        expected = f"fewer than {before} blocks in {len(spec.stages)} stages"
        raise ReszooError(f"{spec.name}: shallow", got=f"{after} blocks", expected=expected)
    return made


def trained(trainer: Trainer, budget: TrainingBudget) -> Iterator[Run]:
    """Yields a run at every rate of a budget with its first seed, and at the best of them with every other seed."""
    tried = [trainer.run(rate=rate, seed=budget.seeds[0]) for rate in budget.rates]
    yield from tried
    rate = best(tried)[0].rate
    yield from (trainer.run(rate=rate, seed=seed) for seed in budget.seeds[1:])


def _chosen(names: Sequence[str] | None) -> set[str]:
    unknown = [name for name in names or () if name not in MEASUREMENTS]
    if unknown:
        raise UnknownNameError("compare.measure", got=unknown[0], known=MEASUREMENTS)
    return {*(MEASUREMENTS if names is None else names)}


def _measure(one: Contestant, model: Any, when: str, wanted: set[str], x: Any, y: Any) -> Measured:
    network = take_apart(model)
    found, left_out = [], {}
    for name in (name for name in MEASUREMENTS if name in wanted):
        try:
            with np.errstate(all="ignore"):
                found.append(MEASUREMENTS[name](network, x, y))
        except ReszooError as error:
            left_out[name] = str(error)
    return Measured(one.family, one.kind, when, tuple(found), left_out)
