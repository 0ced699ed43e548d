"""A network beside its plain twin and controls: same examples in the same order, same budget, same seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import log
from time import perf_counter

import numpy as np

from reszoo.arch import zoo
from reszoo.arch.spec import NetSpec
from reszoo.data.sources import Data, DataSource, open_data
from reszoo.diagnosis.anatomy import Anatomy, take_apart
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
from reszoo.experiments.contestants import (
    Contestant,
    TrainingBudget,
    budget as budget_for,
    contestants,
    families,
    shallower,
)
from reszoo.experiments.degradation_gap import Gap, best, gap
from reszoo.experiments.trainer import Run, Trainer, rows
from reszoo.training.recipes import Recipe
from reszoo.types import Array, KerasModel

EXAMPLES = 256
"""Number of examples for the measurements."""

Watch = Callable[[str, int, int], None]
"""A progress callback: (stage, done, total)."""
Measurement = Callable[[Anatomy, Array, Array], Result]

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
"""Measurements that need no training."""


def compare(
    model: str | NetSpec,
    data: Data | DataSource,
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
    **changes: object,
) -> Comparison:
    """Returns the comparison of a network with its plain twin and two controls, at two depths.

    The controls are the plain network with looks-linear weights, which trains deep without any shortcut, and the
    residual network whose branches do not start at zero. All of them see the same examples in the same order.

    `reszoo.compare("residual_mlp18", "digits", width_multiplier=0.25, steps=50).write("comparison")`

    Args:
        model: a residual network, by name or spec.
        data: a source as for training (`open_data`).
        against: names of families in `zoo_configs/evidence/evidence.yaml`; by default the plain twin and two controls.
        shallow: blocks in every stage of the shallow network; by default a third.
        recipe: of the training, or its name; `rates` and `steps` replace its learning rate and epochs.
        steps: of a training; by default 150 for dense networks, 120 for others.
        rates: learning rates to try with the first seed; the other seeds use the best one.
        seeds: of weights and order.
        measure: measurements before and after training (`MEASUREMENTS`); by default all.
        watch: progress callback: (stage, done, total).
        changes: changes to the network, as in `spec`.

    Raises:
        ReszooError: a plain network, an unknown change, family or measurement, or an invalid shallow network.
    """
    start = perf_counter()
    opened = data if isinstance(data, Data) else open_data(data)
    opened.check_classes("compare")
    source, spec = match_to_data(zoo.spec(model, **changes), opened)
    shallow_spec, selection = shallower(spec, shallow), _check_measurements(measure)
    budget = budget_for("dense" if spec.dense else "image", recipe=recipe, steps=steps, rates=rates, seeds=seeds)
    table = families(None if against is None else ["residual", *against])
    deep, few = contestants(spec, table), contestants(shallow_spec, table)
    x, y = source.arrays("train")
    x, y = x[:EXAMPLES], y[:EXAMPLES]
    runs: list[tuple[str, Run]] = []
    gaps: list[Gap] = []
    measured: list[Measured] = []
    total = len(deep) * 2
    for index, (one, other) in enumerate(zip(deep, few, strict=True)):
        done = 2 * index
        watch(f"{one.family}, {other.depth} layers", done, total)
        short = [*training_runs(Trainer(other.spec, source, budget), budget)]
        watch(f"{one.family}, {one.depth} layers", done + 1, total)
        trainer = Trainer(one.spec, source, budget)
        if selection:
            initial = trainer.initial_model(budget.seeds[0])
            measured.append(_measure(one, initial, "initialisation", selection & {*AT_START}, x, y))
        long = [*training_runs(trainer, budget)]
        if selection:
            # Repeats the first seed at the best rate, to measure its weights.
            trainer.run(rate=best(long)[0].rate, seed=budget.seeds[0])
            measured.append(_measure(one, trainer.model(), "after training", selection, x, y))
        gaps.append(gap(one.family, short, long, chance=log(spec.head.classes or 1)))
        runs += [(one.family, run) for run in (*short, *long)]
    watch("done", total, total)
    seconds = perf_counter() - start
    return Comparison(spec.name, source.name, budget, deep, few, tuple(runs), tuple(gaps), tuple(measured), seconds)


def match_to_data(spec: NetSpec, data: Data) -> tuple[Data, NetSpec]:
    """Returns the data in the form that the network reads, and the network for its shape and classes."""
    source = rows(data) if spec.dense else data
    return source, spec.replace(input_shape=source.shape, classes=len(source.classes))


def training_runs(trainer: Trainer, budget: TrainingBudget) -> Iterator[Run]:
    """Yields a run at every rate of a budget with the first seed, then at the best rate with every other seed."""
    first = [trainer.run(rate=rate, seed=budget.seeds[0]) for rate in budget.rates]
    yield from first
    rate = best(first)[0].rate
    yield from (trainer.run(rate=rate, seed=seed) for seed in budget.seeds[1:])


def _check_measurements(names: Sequence[str] | None) -> set[str]:
    unknown = [name for name in names or () if name not in MEASUREMENTS]
    if unknown:
        raise UnknownNameError("compare.measure", got=unknown[0], known=MEASUREMENTS)
    return {*(MEASUREMENTS if names is None else names)}


def _measure(one: Contestant, model: KerasModel, when: str, selection: set[str], x: Array, y: Array) -> Measured:
    network = take_apart(model)
    results: list[Result] = []
    left_out: dict[str, str] = {}
    for name in (name for name in MEASUREMENTS if name in selection):
        try:
            with np.errstate(all="ignore"):
                results.append(MEASUREMENTS[name](network, x, y))
        except ReszooError as error:
            left_out[name] = str(error)
    return Measured(one.family, one.kind, when, tuple(results), left_out)
