"""What to change in a network, from the results of a diagnosis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite

import keras
import numpy as np

from reszoo.diagnosis.anatomy import Anatomy
from reszoo.diagnosis.measures.census import Census, blocked
from reszoo.diagnosis.measures.gradient_profile import GradientProfile
from reszoo.diagnosis.measures.information import Information
from reszoo.diagnosis.measures.lesion import LesionStudy
from reszoo.diagnosis.measures.result import Result
from reszoo.diagnosis.measures.signal import Correlation, SignalPropagation
from reszoo.diagnosis.units import activation_name
from reszoo.types import KerasLayer


@dataclass(frozen=True)
class Advice:
    """One recommended change, and the reason for it."""

    what: str
    because: str


def advice_for(network: Anatomy, results: Sequence[Result]) -> Iterator[Advice]:
    """Yields recommended changes, the most effective first."""
    by_type = {type(result): result for result in results}
    profile, signal, similarity = by_type.get(GradientProfile), by_type.get(SignalPropagation), by_type.get(Correlation)
    normed = bool(norms_of(network))
    living = _living(by_type.get(Census))
    if isinstance(profile, GradientProfile) and profile.level in ("strained", "broken") and living:
        yield from _gradient_advice(network, profile, normed=normed)
    if similarity is not None and similarity.level in ("strained", "broken") and living:
        yield Advice("shortcuts, or a norm after every layer, so that inputs stay distinct", similarity.verdict)
    if signal is not None and signal.level != "healthy" and not normed and living:
        yield Advice("add norms, or scale the branches by 1/sqrt(blocks)", signal.verdict)
    readable = by_type.get(Information)
    if readable is not None and readable.level == "broken":
        yield Advice("a free identity path (no activation after the addition, few projections)", readable.verdict)
    if Census in by_type:
        yield from _census_advice(by_type[Census])
    lesions = by_type.get(LesionStudy)
    if isinstance(lesions, LesionStudy) and lesions.level == "healthy" and len(lesions.idle) > 1 and _prunable(network):
        yield Advice(
            "reszoo.prune_depth, to make the network smaller",
            f"{len(lesions.idle)} of {len(lesions.blocks)} blocks can each be removed for at most half a point",
        )


def _living(result: Result | None) -> bool:
    """Returns whether gradients and signals pass every activation; where not, their size says nothing of depth."""
    return not (isinstance(result, Census) and blocked(result.units))


def _prunable(network: Anatomy) -> bool:
    """Returns whether `prune_depth` takes the network: one that reszoo built, with shortcuts."""
    return network.residual and "by the plan" in network.description


def _gradient_advice(network: Anatomy, profile: GradientProfile, *, normed: bool) -> Iterator[Advice]:
    """Yields changes for gradients that vanish or explode."""
    count, gain = len(network.blocks), profile.gain
    if not isfinite(gain) or not profile.ratio > 0:
        yield Advice("other initial weights, or an activation without dead units (see the census)", profile.verdict)
        return
    vanishes = gain < 1
    because = f"the gradient {'vanishes' if vanishes else 'explodes'}, x{gain:.2f} a block over {count} blocks"
    if network.residual:
        yield Advice(
            "start every branch at zero: initialize its last gamma (without norms: its last kernel) with zeros; in "
            "a reszoo network block={'start': 'identity'}, or 'scaled' for 1/sqrt(blocks)",
            because,
        )
        if not normed:
            yield Advice("normalize the branches (BatchNormalization or LayerNormalization)", because)
    else:
        yield Advice("add shortcuts around every two or three layers, branches starting at zero", because)
        if normed:
            yield Advice("batch norm alone makes plain gradients explode with depth (x1.2 a layer): see above", because)
        else:
            start = _start(network) if gain < 1 else "a smaller gain, or looks_linear"
            yield Advice(f"without shortcuts: another initializer ({start})", because)
        if count > 10:
            depth = _depth_for(gain)
            yield Advice(f"or fewer layers: up to {depth} blocks keep the gradient within two decades", because)
    if profile.level == "broken" and not vanishes:
        yield Advice("until then a lower learning rate, and gradient clipping (clipnorm=1)", because)


def _start(network: Anatomy) -> str:
    """Returns the initializer for the activations of a network: He (2015) holds for relu."""
    names = {activation_name(step) for step in network.graph.between(network.graph.inputs, [network.trunk[-1]])}
    return "glorot_uniform, or relu instead of it" if names & {"sigmoid", "tanh"} else "he_uniform"


def _census_advice(result: Result) -> Iterator[Advice]:
    """Yields changes for units that do not learn."""
    assert isinstance(result, Census)
    if result.level not in ("strained", "broken"):
        return
    kinds = {kind for kind in ("dead", "saturated", "duplicated") for units in result.units if getattr(units, kind)}
    for kind, change in _UNIT_CHANGES.items():
        if kind in kinds:
            yield Advice(change, result.verdict)


_UNIT_CHANGES = {
    "dead": "train again with a lower learning rate; start branches at zero only where the shortcut carries every "
    "channel; reszoo.remove_dead_channels makes a reszoo network narrower without changing its outputs",
    "saturated": "scale the inputs, use smaller initial weights, or replace sigmoid and tanh by relu",
    "duplicated": "use random initial weights (he_normal, glorot_uniform): equal units stay equal",
}


def _depth_for(gain: float) -> int:
    """Returns the number of blocks over which a gain per block adds up to two decades."""
    return max(1, int(2 / abs(np.log10(gain)))) if isfinite(gain) and gain not in (0.0, 1.0) else 1


def norms_of(network: Anatomy) -> list[KerasLayer]:
    """Returns the normalization layers of a network."""
    kinds = (keras.layers.BatchNormalization, keras.layers.LayerNormalization, keras.layers.GroupNormalization)
    return [step.layer for step in network.graph.steps if isinstance(step.layer, kinds)]
