"""The diagnosis of a model: quick measurements on one batch, what is wrong, and what to change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from keras import tree

from reszoo.diagnosis.advice import Advice, advice_for, norms_of
from reszoo.diagnosis.anatomy import Anatomy, Loss, take_apart
from reszoo.diagnosis.measures.census import census
from reszoo.diagnosis.measures.gradient_profile import gradient_profile
from reszoo.diagnosis.measures.information import LEAST, information
from reszoo.diagnosis.measures.lesion import lesion_study, removable
from reszoo.diagnosis.measures.result import TONES, Result, control_text
from reszoo.diagnosis.measures.signal import correlation, signal_propagation
from reszoo.errors import ReszooError
from reszoo.notebook import html_table
from reszoo.report.page import Cell, Page, Section, Table
from reszoo.report.write import versions, write
from reszoo.types import KerasModel, Tensor

NUMBERS = 2_500_000
"""Greatest size of the inputs, in numbers: 16 images of 224x224x3."""
EXAMPLES = 512
"""Greatest number of examples."""


@dataclass(frozen=True, repr=False)
class Diagnosis:
    """The result of `diagnose`: measurements, and what to change."""

    model: str
    network: str
    """Description of the network: blocks, initializers, norms."""
    examples: int
    """How many were used."""
    results: tuple[Result, ...]
    skipped: tuple[tuple[str, str], ...]
    """Measurements that were not possible, and why."""
    advice: tuple[Advice, ...]
    seconds: float

    def __repr__(self) -> str:
        levels = ", ".join(f"{result.title} {result.level}" for result in self.results)
        return f"Diagnosis({self.model}: {levels or 'no measurements'})"

    def _repr_html_(self) -> str:
        rows = [(one.title, one.level, one.verdict, control_text(one)) for one in self.results]
        title = f"Diagnosis of {self.model}: {self._state()}"
        html = html_table(("measurement", "verdict", "numbers", "control"), rows, title=title, note=self.network)
        if self.advice:
            html += html_table(("change", "because"), [(one.what, one.because) for one in self.advice])
        return html

    @property
    def healthy(self) -> bool:
        """Whether nothing is strained or broken."""
        return all(result.level in ("healthy", "unknown") for result in self.results)

    def _state(self) -> str:
        return "nothing strained or broken" if self.healthy else "not healthy"

    def __getitem__(self, title: str) -> Result:
        """Returns the result of a measurement, by its title."""
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
        """Returns a page: verdicts with their controls, what to change, and a figure for each measurement."""
        rows: list[tuple[Cell | str, ...]] = [
            (one.title, Cell(one.level, tone=TONES[one.level]), one.verdict, control_text(one)) for one in self.results
        ]
        advice = [(one.what, one.because) for one in self.advice]
        return Page(
            title=f"Diagnosis of {self.model}",
            lead=f"{self.network}. Result: {self._state()}. No single number shows that a network trains: each is "
            "given with its control and its thresholds.",
            sections=[
                Section("Findings", [Table(("measurement", "verdict", "numbers", "control"), rows, phone="stack")]),
                Section("What to change", [Table(("change", "because"), advice)] if advice else []),
                *(Section(one.title.capitalize(), [one.image(), one.thresholds]) for one in self.results),
                Section("Skipped", [f"{title}: {why}." for title, why in self.skipped]),
            ],
            facts={"examples": str(self.examples), "time": f"{self.seconds:.0f} s"},
            foot=versions(),
            numbers=self.to_dict(),
            numbers_file="diagnosis.json",
        )

    def write(self, folder: str | Path) -> Path:
        """Writes the page with its figures, and the numbers as JSON, into a folder; returns the path of the page."""
        return write(self.page(), folder)


def diagnose(
    model: KerasModel | Anatomy, x: Tensor, y: Tensor, *, loss: Loss | None = None, seed: int = 0
) -> Diagnosis:
    """Returns what is wrong with a network, and what to change: gradient, signal, dead units, information, lesions.

    No single number shows that a network trains: plain networks with healthy gradient norms fail as well. So there are
    several measurements, each with its control. The model stays unchanged, bit for bit.

    Example:
        >>> import numpy as np, reszoo
        >>> model = reszoo.create("residual_mlp18", input_shape=(8,), width_multiplier=1 / 32, classes=2)
        >>> x = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
        >>> diagnosis = reszoo.diagnose(model, x, (x[:, 0] > 0).astype(int))
        >>> diagnosis["gradient profile"].level
        'healthy'

    Args:
        model: any functional or Sequential Keras model with one output, trained or not.
        x: inputs; if there are many, the first are used (at most 512).
        y: class indices, or what `loss` takes.
        loss: a function of true values and outputs, instead of cross-entropy; skips measurements that need classes.
        seed: random seed of controls and splits.

    Raises:
        ReszooError: the model cannot be analyzed, or the data do not fit it.
    """
    start = perf_counter()
    network = take_apart(model)
    x, y, count = _first_examples(x, y)
    results: list[Result] = [
        gradient_profile(network, x, y, loss=loss, seed=seed),
        signal_propagation(network, x, seed=seed),
        correlation(network, x, None if loss else y, seed=seed),
        census(network, x, y, loss=loss),
    ]
    skipped = dict(_impossible(network, count, loss))
    if "information" not in skipped:
        results.append(information(network, x, y, places=7, seed=seed))
    if "lesion study" not in skipped:
        results.append(lesion_study(network, x, y, draws=0, seed=seed))
    return Diagnosis(
        model=network.name,
        network=_description(network),
        examples=count,
        results=tuple(results),
        skipped=tuple(skipped.items()),
        advice=tuple(advice_for(network, results)),
        seconds=perf_counter() - start,
    )


def _first_examples(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, int]:
    """Returns the first examples, few enough for a quick diagnosis, and how many they are."""
    flat, labels = tree.flatten(x), np.asarray(y)
    if any(len(part) != len(labels) for part in flat) or len(labels) < 2:
        got = f"{', '.join(str(len(part)) for part in flat)} inputs and {len(labels)} true values"
        raise ReszooError("diagnose", got=got, expected="the same number of both, at least two")
    size = sum(int(np.prod(np.shape(part)[1:])) for part in flat)
    count = min(len(labels), EXAMPLES, max(NUMBERS // size, 16))
    return tree.map_structure(lambda part: part[:count], x), labels[:count], count


def _impossible(network: Anatomy, count: int, loss: Loss | None) -> Iterator[tuple[str, str]]:
    """Yields the measurements that are not possible here, and why."""
    if loss is not None:
        yield from ((title, "there are no classes") for title in ("information", "lesion study"))
        return
    if count < LEAST:
        yield "information", f"{count} examples: needs at least {LEAST}, half of them held out"
    try:
        removable(network)
    except ReszooError as error:
        yield "lesion study", error.got if isinstance(error.got, str) else str(error.got)


def _description(network: Anatomy) -> str:
    initializers = [getattr(step.layer, "kernel_initializer", None) for step in network.graph.steps]
    names = sorted({type(initializer).__name__ for initializer in initializers if initializer is not None})
    norms = sorted({type(layer).__name__ for layer in norms_of(network)})
    return f"{network.description}; initializer {', '.join(names) or 'unknown'}; {', '.join(norms) or 'no norm'}"
