"""The doctor: the cheap measurements on one batch, what is wrong, and what to change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from time import perf_counter
from typing import Any

import keras
import numpy as np
from keras import tree

from reszoo.diagnosis.anatomy import Anatomy, Loss, take_apart
from reszoo.diagnosis.measures.census import Census, census
from reszoo.diagnosis.measures.gradient_profile import GradientProfile, gradient_profile
from reszoo.diagnosis.measures.information import LEAST, Information, information
from reszoo.diagnosis.measures.lesion import LesionStudy, lesion_study, removable
from reszoo.diagnosis.measures.result import TONES, Result, control_text
from reszoo.diagnosis.measures.signal import Correlation, SignalPropagation, correlation, signal_propagation
from reszoo.errors import ReszooError
from reszoo.report.page import Cell, Page, Section, Table
from reszoo.report.write import versions, write

NUMBERS = 2_500_000
"""How many numbers the inputs of a batch may hold: 16 images of 224x224x3, and never more than EXAMPLES."""
EXAMPLES = 512


@dataclass(frozen=True)
class Advice:
    """One thing to change, and why."""

    what: str
    because: str


@dataclass(frozen=True)
class Diagnosis:
    """What the doctor found."""

    model: str
    network: str
    """What was taken apart, in words: blocks, initialiser, norms."""
    examples: int
    """How many were looked at."""
    results: tuple[Result, ...]
    skipped: tuple[tuple[str, str], ...]
    """Measurements that were left out, and why."""
    advice: tuple[Advice, ...]
    seconds: float

    @property
    def healthy(self) -> bool:
        """Whether nothing is strained or broken."""
        return all(result.level in ("healthy", "unknown") for result in self.results)

    def __getitem__(self, title: str) -> Result:
        """The result of a measurement, by its title."""
        return next(result for result in self.results if result.title == title)

    def to_dict(self) -> dict[str, Any]:
        """Returns everything as plain data for JSON."""
        return {
            "model": self.model,
            "network": self.network,
            "examples": self.examples,
            "results": [result.to_dict() for result in self.results],
            "skipped": [{"measurement": title, "because": why} for title, why in self.skipped],
            "advice": [{"what": one.what, "because": one.because} for one in self.advice],
            "seconds": self.seconds,
        }

    def page(self) -> Page:
        """Returns the findings as a page: verdicts beside their controls, what to change, a picture each."""
        rows: list[tuple[Cell | str, ...]] = [
            (one.title, Cell(one.level, tone=TONES[one.level]), one.verdict, control_text(one)) for one in self.results
        ]
        advice = [(one.what, one.because) for one in self.advice]
        state = "nothing strained or broken" if self.healthy else "not healthy"
        return Page(
            title=f"Diagnosis of {self.model}",
            lead=f"{self.network}. Found: {state}. No single number says that a network trains: each stands beside its "
            "control, and the thresholds are told.",
            sections=[
                Section("Findings", [Table(("measurement", "verdict", "numbers", "control"), rows, phone="stack")]),
                Section("What to change", [Table(("change", "because"), advice)] if advice else []),
                *(Section(one.title.capitalize(), [one.image(), one.thresholds]) for one in self.results),
                Section("Left out", [f"{title}: {why}." for title, why in self.skipped]),
            ],
            facts={"examples": str(self.examples), "time": f"{self.seconds:.0f} s"},
            foot=versions(),
            numbers=self.to_dict(),
            numbers_file="diagnosis.json",
        )

    def write(self, folder: str | Path) -> Path:
        """Writes the page with its pictures and the numbers as JSON into a folder, and returns the page."""
        return write(self.page(), folder)


def diagnose(model: Any, x: Any, y: Any, *, loss: Loss | None = None, seed: int = 0) -> Diagnosis:
    """Returns what is wrong with a network, and what to change: gradient, signal, dead units, information, lesions.

    No single number says that a network trains: plain networks with healthy gradient norms fail as well, so several are
    taken, each beside its control. The model stays bit for bit as it was.

    Args:
        model: any functional or Sequential Keras model of one output, trained or not.
        x: inputs; of many, the first are looked at.
        y: their classes, or what `loss` takes.
        loss: a function of true values and outputs, other than cross-entropy; class measurements are then left out.
        seed: of controls and splits.

    Raises:
        ReszooError: the model cannot be taken apart, or the data are not what it takes.
    """
    begun = perf_counter()
    network = take_apart(model)
    x, y, count = _some(x, y)
    results: list[Result] = [
        gradient_profile(network, x, y, loss=loss, seed=seed),
        signal_propagation(network, x, seed=seed),
        correlation(network, x, None if loss else y, seed=seed),
        census(network, x, y, loss=loss),
    ]
    skipped = dict(_unfit(network, count, loss))
    if "information" not in skipped:
        results.append(information(network, x, y, places=7, seed=seed))
    if "lesion study" not in skipped:
        results.append(lesion_study(network, x, y, draws=0, seed=seed))
    return Diagnosis(
        model=network.name,
        network=_told(network),
        examples=count,
        results=tuple(results),
        skipped=tuple(skipped.items()),
        advice=tuple(_advice(network, results)),
        seconds=perf_counter() - begun,
    )


def _some(x: Any, y: Any) -> tuple[Any, Any, int]:
    """As many examples as are quickly looked at."""
    flat, labels = tree.flatten(x), np.asarray(y)
    if any(len(part) != len(labels) for part in flat) or len(labels) < 2:
        got = f"{', '.join(str(len(part)) for part in flat)} inputs and {len(labels)} true values"
        raise ReszooError("diagnose", got=got, expected="as many, and at least two")
    size = sum(int(np.prod(np.shape(part)[1:])) for part in flat)
    count = min(len(labels), EXAMPLES, max(NUMBERS // size, 16))
    return tree.map_structure(lambda part: part[:count], x), labels[:count], count


def _unfit(network: Anatomy, count: int, loss: Loss | None) -> Iterator[tuple[str, str]]:
    """Measurements that cannot be done here."""
    if loss is not None:
        yield from ((title, "there are no classes") for title in ("information", "lesion study"))
        return
    if count < LEAST:
        yield "information", f"{count} examples: at least {LEAST}, half of them held out"
    try:
        removable(network)
    except ReszooError as error:
        yield "lesion study", error.got if isinstance(error.got, str) else str(error.got)


def _told(network: Anatomy) -> str:
    names = {_initialiser(step.layer) for step in network.graph.steps} - {""}
    norms = {type(layer).__name__ for layer in _norms(network)}
    initialiser = f"initialiser {', '.join(sorted(names)) or 'unknown'}"
    return "; ".join((network.found, initialiser, ", ".join(sorted(norms)) or "no norm"))


def _initialiser(layer: Any) -> str:
    made = getattr(layer, "kernel_initializer", None)
    return type(made).__name__ if made is not None else ""


def _norms(network: Anatomy) -> list[Any]:
    kinds = (keras.layers.BatchNormalization, keras.layers.LayerNormalization, keras.layers.GroupNormalization)
    return [step.layer for step in network.graph.steps if isinstance(step.layer, kinds)]


def _advice(network: Anatomy, results: list[Result]) -> Iterator[Advice]:
    """What the numbers ask for, the most effective first."""
    found = {type(result): result for result in results}
    profile, signal, alike = found[GradientProfile], found[SignalPropagation], found[Correlation]
    assert isinstance(profile, GradientProfile) and isinstance(signal, SignalPropagation)
    count, gain = len(network.blocks), profile.gain
    ill = profile.level in ("strained", "broken")
    direction = "vanishes" if isfinite(gain) and gain < 1 else "explodes"
    because = f"the gradient {direction}, x{gain:.2f} a block over {count} blocks"
    normed = bool(_norms(network))
    if ill and network.residual:
        yield Advice(
            "let every branch start at zero: initialise its last gamma (no norm: its last kernel) with zeros; in "
            "a reszoo network block={'start': 'identity'}, or 'scaled' for 1/sqrt(blocks)",
            because,
        )
        if not normed:
            yield Advice("normalise the branches (BatchNormalization or LayerNormalization)", because)
    elif ill:
        yield Advice("add shortcuts around every two or three layers, branches starting at zero", because)
        if normed:
            yield Advice("batch norm alone makes plain gradients explode with depth (x1.2 a layer): see above", because)
        else:
            start = "he_uniform" if gain < 1 else "a smaller gain, or looks_linear"
            yield Advice(f"without shortcuts: another initialiser ({start})", because)
    if ill and count > 10 and not network.residual:
        yield Advice(f"or fewer layers: up to {_depth_for(gain)} blocks keep the gradient within two decades", because)
    if profile.level == "broken" and direction == "explodes":
        yield Advice("until then a lower learning rate, and clipping (clipnorm=1)", because)
    if alike.level != "healthy":
        yield Advice("shortcuts, or a norm after every layer, so that inputs stay apart", alike.verdict)
    if signal.level != "healthy" and not normed:
        yield Advice("normalise, or scale the branches by 1/sqrt(blocks)", signal.verdict)
    knows = found.get(Information)
    if knows is not None and knows.level == "broken":
        yield Advice("a free identity path (no activation after the addition, few projections)", knows.verdict)
    yield from _census_advice(found[Census])
    lesions = found.get(LesionStudy)
    if isinstance(lesions, LesionStudy) and lesions.level == "healthy" and len(lesions.idle) > 1:
        yield Advice(
            "reszoo.prune_depth, if the network is to be smaller",
            f"{len(lesions.idle)} of {len(lesions.blocks)} blocks can each be taken out for at most half a point",
        )


def _census_advice(found: Result) -> Iterator[Advice]:
    """What units that do not learn ask for."""
    assert isinstance(found, Census)
    if found.level not in ("strained", "broken"):
        return
    kinds = {kind for kind in ("dead", "saturated", "duplicated") for units in found.units if getattr(units, kind)}
    if "dead" in kinds:
        yield Advice(
            "train again with a lower learning rate; branches may start at zero only where the shortcut carries every "
            "channel; reszoo.remove_dead_channels makes a network of reszoo narrower, its outputs unchanged",
            found.verdict,
        )
    if "saturated" in kinds:
        yield Advice(
            "scale the inputs, draw smaller initial weights, or replace sigmoid and tanh by relu", found.verdict
        )
    if "duplicated" in kinds:
        yield Advice(
            "draw initial weights at random (he_normal, glorot_uniform): equal units stay equal", found.verdict
        )


def _depth_for(gain: float) -> int:
    return max(1, int(2 / abs(np.log10(gain)))) if isfinite(gain) and gain not in (0.0, 1.0) else 1
