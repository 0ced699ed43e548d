"""Causes that measurements show: dead and saturated units, depth, statistics of norms, weights that are not finite."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite

import keras
import numpy as np
from keras import ops

from reszoo.diagnosis.causes import Cause
from reszoo.diagnosis.measures.census import BROKEN, STRAINED, Census, blocked
from reszoo.diagnosis.measures.gradient_profile import GradientProfile
from reszoo.diagnosis.measures.result import Result
from reszoo.diagnosis.measures.signal import Correlation
from reszoo.diagnosis.program import Program
from reszoo.types import Array

FLAT = 0.5
"""Share of values of sigmoid or tanh without slope from which on a layer is saturated."""
LOST = 0.25
"""Share of what a model gains over a constant prediction that wrong moving statistics take away."""
SHALLOW = 8
"""Number of blocks up to which a vanishing gradient is not put down to depth."""


def unit_causes(census: Census) -> Iterator[Cause]:
    """Yields dead units, more than fresh weights have on the same data, and saturated ones."""
    total = max(sum(layer.count for layer in census.units), 1)
    shut, dead = blocked(census.units), census.dead
    control = census.control.get("fresh weights: dead", 0.0)
    if census.level in ("strained", "broken") and (
        dead / total - control >= STRAINED or (shut and not census.control.get("fresh weights: layers dead", 0.0))
    ):
        layers = [layer for layer in census.units if layer.dead]
        where = ", ".join(f"{layer.layer} {layer.dead} of {layer.count}" for layer in layers[:4])
        yield Cause(
            "dead_units",
            f"{dead:,} of {total:,} units are zero for every example and get no gradient ({where}"
            f"{', ...' if len(layers) > 4 else ''}); with fresh weights {control:.0%}",
            "they never change again" + (f"; nothing passes {shut[0]}, which has no living unit" if shut else ""),
            "keras.layers.Dense(units, activation='relu', kernel_initializer='he_normal', bias_initializer='zeros')  "
            "# and a lower learning rate\nmodel = reszoo.remove_dead_channels(model)  # of a trained reszoo network",
            certain=bool(shut) or dead / total - control >= BROKEN,
            evidence={"dead": dead / total, "dead with fresh weights": control},
        )
    flat = [layer for layer in census.units if layer.flat >= FLAT]
    if flat:
        share = float(np.mean([layer.flat for layer in flat]))
        yield Cause(
            "saturation",
            f"{share:.0%} of the values of {', '.join(layer.layer for layer in flat[:3])} are where "
            f"{flat[0].activation} is flat (slope below 5 % of the greatest)",
            "the gradient is multiplied by that slope",
            "kernel_initializer='glorot_uniform', inputs of about 1, or activation='relu'",
            evidence={"share without slope": share, "expected at most": FLAT},
        )


def depth_causes(program: Program, results: Sequence[Result], others: frozenset[str]) -> Iterator[Cause]:
    """Yields depth, where gradient or signal are lost and neither the initial weights nor dead units explain it."""
    profile = next((one for one in results if isinstance(one, GradientProfile)), None)
    similar = next((one for one in results if isinstance(one, Correlation)), None)
    if profile is None or others & {"initialization", "dead_units", "bad_values", "input_scaling"}:
        return
    lost = profile.level in ("strained", "broken")
    alike = similar is not None and similar.level in ("strained", "broken")
    if len(profile.blocks) < SHALLOW or not (lost or alike):
        return
    seen = profile.verdict if lost else similar.verdict if similar is not None else ""
    evidence = {"blocks": float(len(profile.blocks))}
    if isfinite(profile.ratio):
        evidence |= {"gradient, first block over last": profile.ratio, "with shortcuts from zero": 1.0}
    yield depth_cause(f"{len(profile.blocks)} blocks: {seen}", evidence, adds=program.adds)


def depth_cause(seen: str, evidence: Mapping[str, float], *, adds: bool = False) -> Cause:
    """Returns depth as a cause, with shortcuts as its remedy."""
    change = "start the branches at zero" if adds else "x = keras.layers.Add()([x, branch(x)])"
    return Cause(
        "depth",
        seen,
        "the first layers learn nothing from it",
        f"{change}  # a shortcut around every two layers, whose last gamma or kernel starts at 0; or fewer layers",
        certain=False,
        evidence=evidence,
    )


def weight_values(program: Program) -> Iterator[Cause]:
    """Yields weights that are NaN or infinite though the data are finite."""
    paths = program.non_finite_weights
    if not paths:
        return
    finite = len(program.finite_rows) == program.count
    yield Cause(
        "learning_rate" if finite else "bad_values",
        f"{len(paths)} weights are NaN or infinite, such as {paths[0]}",
        "training has diverged: a step was too large" if finite else "a NaN in the data makes all weights NaN",
        "build the model anew, with a tenth of the learning rate"
        if finite
        else "build the model anew, and leave out the examples with NaN",
        evidence={"variables": len(paths)},
    )


def norm_causes(program: Program, rows: Array, *, baseline: float) -> Iterator[Cause]:
    """Yields moving statistics with which the model loses what it gains with those of a batch."""
    graph = program.graph
    norms = [s.layer for s in graph.steps if isinstance(s.layer, keras.layers.BatchNormalization)]
    output = program.outputs[0]
    if not norms or not program.steps_taken or output.loss is None or not isfinite(baseline):
        return
    x = program.inputs(rows)
    losses = []
    for statistics in ("batch", "moving"):
        values = graph.run(x, outputs=[graph.output], statistics=statistics)[graph.output]
        losses.append(float(ops.convert_to_numpy(output.objective(output.y[rows], values, output.weights_of(rows)))))
    gain = baseline - losses[0]
    if gain < 0.1 * baseline or not losses[1] - losses[0] > LOST * gain:
        return
    momentum = max(float(norm.momentum) for norm in norms)
    left = momentum**program.steps_taken
    yield Cause(
        "norm_statistics",
        f"the loss is {losses[0]:.3g} with the statistics of a batch, as in training, and {losses[1]:.3g} with the "
        f"moving ones, as in predict(); momentum {momentum:g} after {program.steps_taken} steps still holds "
        f"{left:.0%} of the initial statistics",
        "inference uses means and variances that do not belong to the data",
        "keras.layers.BatchNormalization(momentum=0.9)  # or reszoo.reestimate_norm(model, [x])",
        evidence={"loss, batch": losses[0], "loss, moving": losses[1], "loss of a constant": baseline},
    )
