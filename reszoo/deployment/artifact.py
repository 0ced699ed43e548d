"""The file of a deployment: its place, refused if something is there and filled at once after the check; its result."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from reszoo.deployment.formats import Format
from reszoo.errors import ReszooError
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


def target_path(path: str | Path, entry: Format, *, overwrite: bool) -> Path:
    """Returns the path of the file, with the format's suffix.

    Args:
        path: as the user wrote it.
        entry: the format.
        overwrite: whether a file of the same format may be there.

    Raises:
        ReszooError: another suffix, or something is there.
    """
    target = Path(path).expanduser()
    if not target.suffix and entry.suffix:
        target = target.with_name(target.name + entry.suffix)
    if entry.suffix and target.suffix != entry.suffix:
        raise ReszooError("deploy.path", got=str(path), expected=f"a name that ends with {entry.suffix}")
    _check_folder(target.parent)
    for file in files_of(target, entry):
        if file.exists() and not overwrite:
            raise ReszooError("deploy.path", got=f"{file}, which exists", expected="a new path", hint="overwrite=True")
        if file.exists() and file.is_dir() != (not entry.suffix):
            raise ReszooError("deploy.path", got=f"{file}, which is no {entry.name}", expected="a new path")
        if file.is_dir() and not (file / "saved_model.pb").is_file():
            got = f"{file}, a folder that is no SavedModel"
            raise ReszooError("deploy.path", got=got, expected="a new path", hint="such folders are not overwritten")
    return target


def _check_folder(folder: Path) -> None:
    """Refuses a folder that cannot be written, or not be made."""
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not existing.is_dir():
        raise ReszooError("deploy.path", got=f"{existing}, which is a file", expected="a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ReszooError("deploy.path", got=f"{existing}, which cannot be written", expected="a folder of yours")


def files_of(path: Path, entry: Format) -> tuple[Path, ...]:
    """Returns the files of a format, those that the first one needs at the end."""
    return (path, path.with_suffix(".bin")) if entry.name == "openvino" else (path,)


def size_of(path: Path, entry: Format) -> int:
    """Returns the bytes of all files of a format."""
    parts = [part for file in files_of(path, entry) for part in (file.rglob("*") if file.is_dir() else [file])]
    return sum(part.stat().st_size for part in parts if part.is_file())


@contextmanager
def moved_into_place(target: Path, entry: Format) -> Iterator[Path]:
    """Yields a path in a temporary folder beside the target; its files are moved there if the block succeeds."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = TemporaryDirectory(dir=target.parent, prefix=".reszoo-")
    except OSError as error:
        got = f"{target.parent}: {error.strerror}"
        raise ReszooError("deploy.path", got=got, expected="a folder that can be written") from None
    with folder as name:
        yield Path(name) / target.name
        pairs = zip(files_of(Path(name) / target.name, entry), files_of(target, entry), strict=True)
        for number, (file, place) in enumerate(reversed([*pairs])):
            if place.is_dir():
                place.rename(Path(name) / f"before{number}")
            os.replace(file, place)
