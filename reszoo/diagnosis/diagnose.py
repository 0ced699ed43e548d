"""The diagnosis of a model: quick measurements on one batch, what is wrong, and what to change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from keras import tree

from reszoo.diagnosis.advice import Advice, advice_for
from reszoo.diagnosis.anatomy import Anatomy
from reszoo.diagnosis.causes import Cause, ranked
from reszoo.diagnosis.examination import EXAMPLES
from reszoo.diagnosis.examine import examine
from reszoo.diagnosis.examples import gather_examples
from reszoo.diagnosis.measurements import anatomy_of, description
from reszoo.diagnosis.measures.result import TONES, Level, Result, control_text, plain
from reszoo.diagnosis.objective import Loss
from reszoo.diagnosis.program import Program, read_program
from reszoo.diagnosis.repair import Repair, repaired
from reszoo.diagnosis.trial import Trial
from reszoo.notebook import html_table
from reszoo.report.page import Cell, Code, Content, Gallery, Page, Section, Table
from reszoo.report.write import Presentable, versions
from reszoo.types import KerasModel, Tensor

NUMBERS = 2_500_000
"""Greatest size of the inputs, in numbers: 16 images of 224x224x3."""


@dataclass(frozen=True, repr=False)
class Diagnosis(Presentable):
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
    """What to change in the depth and the blocks of the network, from the measurements."""
    seconds: float
    causes: tuple[Cause, ...] = ()
    """Why the network does not train, the most certain first; at most five, and none for a sound network."""
    loss: float = float("nan")
    """Loss on the examples as `model.evaluate` reports it: inference mode, weight penalties included."""
    constant_loss: float = float("nan")
    """Loss of the best prediction that does not depend on the input."""
    trial: Trial | None = None
    """Short trainings of a copy at several learning rates."""
    repair: Repair | None = None
    """The repaired model, if `repair=True`."""
    notes: tuple[str, ...] = ()
    """What is odd about the examples, and no cause."""

    def __repr__(self) -> str:
        causes = ", ".join(cause.kind for cause in self.causes) or "no cause"
        ill = ", ".join(f"{one.title} {one.level}" for one in self.results if one.level in ("strained", "broken"))
        return f"Diagnosis({self.model}: {causes}; {ill or 'nothing strained or broken'})"

    def _repr_html_(self) -> str:
        rows = [(one.title, one.level, one.verdict, control_text(one)) for one in self.results]
        title = f"Diagnosis of {self.model}: {self.summary}"
        html = ""
        if self.causes:
            causes = [(one.kind, _sureness(one), one.seen, one.remedy) for one in self.causes]
            html = html_table(("cause", "", "seen", "remedy"), causes, title=f"Causes of {self.model}")
        html += html_table(("measurement", "verdict", "numbers", "control"), rows, title=title, note=self.network)
        if self.advice:
            html += html_table(("change", "because"), [(one.what, one.because) for one in self.advice])
        return html

    @property
    def healthy(self) -> bool:
        """Whether there is no cause, and nothing is strained or broken."""
        return not self.causes and all(result.level in ("healthy", "unknown") for result in self.results)

    @property
    def summary(self) -> str:
        """What was found: `1 of 5 measurements strained: census; no cause of failure`."""
        parts = [_group(self.results, level) for level in ("broken", "strained", "unknown")]
        healthy = f"all {len(self.results)} measurements healthy" if self.results else "no measurement was possible"
        parts = [part for part in parts if part] or [healthy]
        kinds = ", ".join(cause.kind.replace("_", " ") for cause in self.causes)
        causes = f"{_counted(len(self.causes), 'cause')} of failure: {kinds}" if kinds else "no cause of failure"
        return f"{'; '.join(parts)}; {causes}"

    def __getitem__(self, title: str) -> Result:
        """Returns the result of a measurement, by its title."""
        return next(result for result in self.results if result.title == title)

    def to_dict(self) -> dict[str, Any]:
        """Returns everything as plain data for JSON."""
        return {
            "model": self.model,
            "network": self.network,
            "examples": self.examples,
            "causes": [cause.to_dict() for cause in self.causes],
            "loss": plain(self.loss),
            "constant_loss": plain(self.constant_loss),
            "trial": None if self.trial is None else self.trial.to_dict(),
            "repair": None if self.repair is None else self.repair.to_dict(),
            "results": [result.to_dict() for result in self.results],
            "skipped": [{"measurement": title, "because": why} for title, why in self.skipped],
            "notes": list(self.notes),
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
            lead=f"{self.network}. Result: {self.summary}. No single number shows that a network trains: each is "
            "given with its control and its thresholds.",
            sections=[
                Section("Causes", _cause_parts(self)),
                Section(
                    "Measurements",
                    [Table(("measurement", "verdict", "numbers", "control"), rows, phone="stack")],
                ),
                Section("What to change", [Table(("change", "because"), advice, phone="stack")] if advice else []),
                *(_section(one) for one in self.results),
                Section("Notes", [f"{note[:1].upper()}{note[1:]}." for note in self.notes]),
                Section("Skipped", [f"{title}: {why}." for title, why in self.skipped]),
            ],
            facts={"examples": str(self.examples), "time": f"{self.seconds:.0f} s"},
            foot=versions(),
            numbers=self.to_dict(),
            numbers_file="diagnosis.json",
        )


def diagnose(
    model: KerasModel | Anatomy,
    x: Tensor,
    y: Tensor = None,
    *,
    loss: Loss | str | None = None,
    batch_size: int | None = None,
    epochs: int | None = None,
    trial: bool | None = None,
    repair: bool = False,
    class_weight: Mapping[int, float] | None = None,
    sample_weight: Tensor | None = None,
    seed: int = 0,
) -> Diagnosis:
    """Returns why a network does not train, and what to change: causes first, then measurements with their controls.

    What is examined is what `fit` trains: the compiled loss, optimizer and learning rate are read. Checks compare the
    outputs, the loss and the data with each other; measurements look at gradients, signals and dead units; a trial
    trains a copy for a few steps at several learning rates. The model itself stays unchanged, bit for bit. No single
    number shows that a network trains: plain networks with healthy gradient norms fail as well.

    Example:
        >>> import keras, numpy as np, reszoo
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1, "softmax")])
        >>> model.compile("adam", "binary_crossentropy")
        >>> x = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
        >>> diagnosis = reszoo.diagnose(model, x, x[:, 0] > 0, trial=False)
        >>> diagnosis.causes[0].kind, diagnosis.causes[0].remedy
        ('output_activation', "outputs = keras.layers.Dense(1, activation='sigmoid')(x)")

    Args:
        model: any Keras model, trained or not; one weighted layer is enough. The `call()` of a subclass is traced.
        x: inputs as for `fit`; measurements use the first of many (at most 512), checks all of them. Of a Dataset,
            PyDataset, DataLoader or generator of batches, the first 2,048 examples.
        y: true values as for `fit`, where `x` is no batches; class indices for a model that is not compiled.
        loss: a loss instead of the compiled one: a function of true values and outputs, or a name.
        batch_size: as for `fit`, if known.
        epochs: as for `fit`, if known: whether training is long enough depends on it.
        trial: whether a copy is trained for a few steps; by default, if the model is compiled.
        repair: whether remedies are applied to a copy, one after another, each with a trial (`Diagnosis.repair`).
        class_weight: as for `fit`: losses and trials are weighted.
        sample_weight: as for `fit` and `evaluate`.
        seed: random seed of controls, splits and trials.

    Raises:
        ReszooError: the model cannot be analyzed, or the data do not fit it.
    """
    start = perf_counter()
    whole = model.graph.model if isinstance(model, Anatomy) else model
    examples = gather_examples(x, y, sample_weight)
    settings: dict[str, Any] = {"class_weight": class_weight, "sample_weight": examples.sample_weight}
    settings |= {"batch_size": batch_size or examples.batch_size, "epochs": epochs if examples.whole else None}
    program = read_program(whole, examples.x, examples.y, loss=loss, **settings)
    compiled = program.optimizer is not None
    trial = compiled if trial is None else trial
    examination = examine(program, loss=loss, count=_count(program), trial=trial, seed=seed)
    causes = ranked(examination.causes)
    network, _ = anatomy_of(program.graph)
    mended = repaired(program, causes, trial=examination.trial, seed=seed) if repair else None
    return Diagnosis(
        model=network.name,
        network=description(network),
        examples=len(examination.rows),
        results=tuple(examination.results),
        skipped=tuple(examination.skipped),
        advice=tuple(advice_for(network, examination.results)),
        causes=causes if mended is None else mended.causes,
        loss=examination.loss,
        constant_loss=examination.constant,
        trial=examination.trial,
        repair=mended,
        notes=tuple(examination.notes),
        seconds=perf_counter() - start,
    )


def _count(program: Program) -> int:
    """Returns how many examples are few enough for a quick diagnosis."""
    size = sum(int(np.prod(np.shape(part)[1:])) for part in tree.flatten(program.x))
    return min(program.count, EXAMPLES, max(NUMBERS // max(size, 1), 16))


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _group(results: Sequence[Result], level: Level) -> str:
    """Returns which of the measurements have a level: `1 of 5 measurements strained: census`."""
    titles = [one.title for one in results if one.level == level]
    return f"{len(titles)} of {_counted(len(results), 'measurement')} {level}: {', '.join(titles)}" if titles else ""


def _section(result: Result) -> Section:
    """The pictures of a measurement and what its levels mean; its numbers and control are in the table above."""
    return Section(
        result.title.capitalize(), [Gallery(result.pictures(), "large"), f"Thresholds: {result.thresholds}."]
    )


def _sureness(cause: Cause) -> str:
    return "certain" if cause.certain else "suspected"


def _cause_parts(diagnosis: Diagnosis) -> list[Content]:
    """Returns the causes for a page: a sentence and the code of the remedy for each."""
    parts: list[Content] = []
    for cause in diagnosis.causes:
        parts.append(f"{cause.kind} ({_sureness(cause)}): {cause.seen}. {cause.why[:1].upper()}{cause.why[1:]}.")
        parts.append(Code(cause.remedy))
    return parts or ["None: nothing in the program, the data or the measurements explains a failure to train."]
