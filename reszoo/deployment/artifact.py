"""The result of a deployment: a checked file for another runtime."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from reszoo.notebook import html_table
from reszoo.report.page import Page, Section, Table
from reszoo.report.write import Presentable

FormatName = Literal["saved_model", "onnx", "litert", "openvino", "torch_export"]
"""A format that `deploy` writes."""
Quantize = Literal["float16", "int8"]
"""Number type of the weights in a file, if it is not float32."""


@dataclass(frozen=True)
class Artifact(Presentable):
    """A file for another runtime, and how its outputs compare with those of the Keras model."""

    path: Path
    format: str
    quantize: str | None
    """`float16`, `int8` or None for float32."""
    size: int
    """Bytes, of all files together."""
    input: str
    """Type and shape of the input: `uint8 (batch, 32, 32, 3)`."""
    outputs: tuple[str, ...]
    """Names of the outputs."""
    examples: int
    """Examples of the check."""
    real: bool
    """Whether they come from data; else they are random."""
    difference: float
    """Largest difference of an output, as a fraction of the largest output. Probabilities of a softmax are compared as
    logits, except in int8."""
    mean_difference: float
    """Mean difference, as the same fraction."""
    agreement: float | None
    """Fraction of examples with the same first class; None without classes."""
    accuracy: float | None
    """Of the file; None without labels."""
    accuracy_before: float | None
    """Of the Keras model on the same examples."""
    classes: tuple[str, ...]
    """Class names in the file."""
    notes: tuple[str, ...]
    """What is unusual: random examples, operations in float, other precisions of the runtime."""
    versions: dict[str, str]
    """Versions of the libraries that wrote and checked the file."""

    def __repr__(self) -> str:
        kind = f"{self.format}{f', {self.quantize}' if self.quantize else ''}, {self.size / 1e6:.3g} MB"
        accuracy = "" if self.accuracy is None else f", accuracy {self.accuracy:.4f}"
        agreement = "" if self.agreement is None else f", same first class {self.agreement:.4f}"
        return f"Artifact({self.path.name[:60]!r}: {kind}, difference {self.difference:.1e}{agreement}{accuracy})"

    def rows(self) -> list[tuple[str, str]]:
        """Returns the result as pairs of a heading and a text."""
        kind = "real" if self.real else "random"
        rows = [
            ("file", f"{self.path}, {self.size:,} bytes"),
            ("format", f"{self.format}, {self.quantize or 'float32'}"),
            ("input", self.input),
            ("outputs", ", ".join(self.outputs)),
            ("classes", f"{len(self.classes)} names in the file" if self.classes else "no names"),
            ("checked on", f"{self.examples:,} {kind} examples"),
            ("difference", f"largest {self.difference:.1e}, mean {self.mean_difference:.1e} of the largest output"),
        ]
        if self.agreement is not None:
            rows.append(("same first class", f"{self.agreement:.2%}"))
        if self.accuracy is not None and self.accuracy_before is not None:
            rows.append(("accuracy", f"{self.accuracy:.2%}, Keras {self.accuracy_before:.2%}"))
        return rows

    def page(self) -> Page:
        """Returns the check of the file as a page."""
        kind = "real" if self.real else "random"
        lead = (
            f"{self.format}, {self.quantize or 'float32'}. In its own runtime on {self.examples:,} {kind} examples, "
            f"its outputs differ from those of the Keras model by at most {self.difference:.1e} of the largest output."
        )
        facts = {"size": f"{self.size / 1e6:.3g} MB", "largest difference": f"{self.difference:.1e}"}
        facts |= {} if self.agreement is None else {"same first class": f"{self.agreement:.2%}"}
        facts |= {} if self.accuracy is None else {"accuracy": f"{self.accuracy:.2%}"}
        facts |= {} if self.accuracy_before is None else {"accuracy in Keras": f"{self.accuracy_before:.2%}"}
        return Page(
            f"{self.path.name}, checked",
            lead,
            [
                Section("The file", [Table(("", "value"), self.rows(), phone="stack")]),
                Section("Notes", [f"{note[0].upper()}{note[1:]}." for note in self.notes]),
                Section("Classes in the file", [", ".join(self.classes)] if self.classes else []),
            ],
            facts,
            ", ".join(f"{name} {version}" for name, version in self.versions.items()),
            file="deployment.html",
            numbers=json.loads(self.to_json()),
            numbers_file="deployment.json",
        )

    def to_json(self) -> str:
        """Returns the result as JSON."""
        fields: dict[str, Any] = asdict(self) | {"path": str(self.path)}
        return json.dumps(fields, indent=2)

    def _repr_html_(self) -> str:
        return html_table((), self.rows(), title=repr(self), note="; ".join(self.notes))
