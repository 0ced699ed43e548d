"""What a data source holds: counts, sizes, what was left out, imbalance, duplicates."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from reszoo.data.examples import Duplicates, Examples, count_labels, duplicates
from reszoo.data.image_folder import LeftOut, printable
from reszoo.data.labels import Task
from reszoo.notebook import html_table
from reszoo.report.page import Content, Page, Section, Table
from reszoo.report.panels import draw_bars
from reszoo.report.write import Presentable

SAMPLE = 5_000
"""Files whose size in pixels is read."""
BARS = 40
"""Most classes that are drawn as bars."""
SHOWN = 20
"""Classes, files of one reason and notes that are printed; further ones are counted."""


class Sizes(NamedTuple):
    """Sides of the pictures of a source, `(width, height)` in pixels."""

    smallest: tuple[int, int]
    median: tuple[int, int]
    largest: tuple[int, int]
    """The one with the most pixels."""

    def __repr__(self) -> str:
        return f"Sizes({self})"

    def __str__(self) -> str:
        if self.smallest == self.largest:
            return "{}x{} pixels".format(*self.smallest)
        sides = ["{}x{}".format(*size) for size in self]
        return f"{sides[0]} to {sides[2]} pixels, median {sides[1]}"


@dataclass(frozen=True)
class Audit(Presentable):
    """What a data source holds, and what to know before training on it."""

    name: str
    task: Task
    examples: dict[str, int]
    """Part -> number of examples."""
    counts: dict[str, tuple[int, ...]]
    """Class -> number of examples in every part."""
    sizes: Sizes | None
    """Of pictures."""
    left_out: tuple[LeftOut, ...]
    duplicates: Duplicates
    notes: tuple[str, ...]
    targets: tuple[str, ...] = ()
    """Names of the columns that are learned, for a table."""

    @property
    def imbalance(self) -> float:
        """Training examples of the largest class for one of the smallest that has any; 1 for numbers."""
        counts = [row[0] for row in self.counts.values() if row[0]]
        return max(counts) / min(counts) if counts else 1.0

    @property
    def majority(self) -> tuple[str, float]:
        """The largest class, and its share of the training examples."""
        name = max(self.counts, key=lambda name: self.counts[name][0])
        return name, self.counts[name][0] / max(self.examples["train"], 1)

    def __repr__(self) -> str:
        parts = ", ".join(f"{count:,} {part}" for part, count in self.examples.items())
        oddities = f"{len(self.left_out):,} left out, imbalance {self.imbalance:.3g}"
        return f"Audit({self.name[:40]!r}: {parts}; {len(self.counts):,} classes, {oddities}, {self.duplicates})"

    def text(self) -> str:
        """Returns the audit in lines of text."""
        kind = "outputs" if self.task == "regression" else "classes"
        parts = ", ".join(f"{count:,} {part}" for part, count in self.examples.items())
        goal = f" of column {', '.join(self.targets)}" if self.targets else ""
        lines = [f"{self.name}: {self.task}{goal}, {len(self.counts):,} {kind}", f"examples: {parts}"]
        lines += [f"pictures: {self.sizes}"] if self.sizes else []
        if self.task != "regression":
            name, share = self.majority
            lines.append(f"largest class: {name}, {share:.1%} of training; {self.imbalance:.3g} times the smallest")
            lines += _table(("class", *self.examples), ((name, *row) for name, row in self.counts.items()))
        lines.append(f"left out: {len(self.left_out):,}" if self.left_out else "left out: nothing")
        lines += _reasons(self.left_out)
        lines += self._copies()
        lines += [f"note: {note}" for note in self.notes[:SHOWN]]
        lines += [f"and {len(self.notes) - SHOWN} more notes"] if len(self.notes) > SHOWN else []
        return "\n".join(lines)

    def page(self) -> Page:
        """Returns the audit as a page: examples of every class, files that are left out, copies, notes."""
        parts = ", ".join(f"{count:,} {part}" for part, count in self.examples.items())
        groups = _by_reason(self.left_out).items()
        reasons = [(reason, len(paths), _listed(paths)) for reason, paths in groups]
        facts = {"task": self.task, "outputs" if self.task == "regression" else "classes": f"{len(self.counts):,}"}
        facts |= {"target": ", ".join(self.targets)} if self.targets else {}
        facts |= {"pictures": str(self.sizes)} if self.sizes else {}
        if self.task != "regression":
            facts["largest class"] = "{}, {:.1%}".format(*self.majority)
            facts["largest to smallest"] = f"{self.imbalance:.3g} to 1"
        return Page(
            f"The data {self.name}",
            f"{sum(self.examples.values()):,} examples: {parts}. Left out: {len(self.left_out) or 'nothing'}.",
            [
                Section("Examples", self._examples()),
                Section("Left out", [Table(("reason", "number", "which"), reasons, phone="stack")] if reasons else []),
                Section("Exact copies", [*(f"{note[0].upper()}{note[1:]}." for note in self._copies())]),
                Section("Notes", [*self.notes]),
            ],
            facts,
            file="data.html",
        )

    def _examples(self) -> list[Content]:
        """A table of the classes, and bars where they are few enough."""
        table = Table(("class", *self.examples), [(name, *row) for name, row in self.counts.items()])
        if self.task == "regression" or not 1 < len(self.counts) <= BARS:
            return [table] if self.task != "regression" else []
        caption = "Examples of every class; the number at the end is that of all parts together."
        labels = {"name": "classes", "title": "examples of every class", "caption": caption, "xlabel": "examples"}
        return [draw_bars(self.counts, parts=[*self.examples], **labels), table]

    def _copies(self) -> tuple[str, ...]:
        return self.duplicates.notes() or ("exact copies: none",)

    def _repr_html_(self) -> str:
        """Examples of every class, and what was left out."""
        rows = [(name, *row) for name, row in self.counts.items()]
        more = [f"and {len(rows) - SHOWN} more classes"] if len(rows) > SHOWN else []
        reasons = [
            f"{count} left out: {reason}" for reason, count in Counter(item.reason for item in self.left_out).items()
        ]
        note = "; ".join([*more, *reasons[:SHOWN], *self.duplicates.notes(), *self.notes[:5]])
        return html_table(("class", *self.examples), rows[:SHOWN], title=repr(self), note=note)


def audit(
    parts: Mapping[str, Examples],
    /,
    *,
    name: str,
    task: Task,
    classes: Sequence[str],
    left_out: Sequence[LeftOut] = (),
    notes: Sequence[str] = (),
    targets: Sequence[str] = (),
) -> Audit:
    """Returns what a source holds; files are compared by their contents.

    Args:
        parts: name -> examples; the training part comes first.
        name: of the source.
        task: of the labels.
        classes: names of the classes or outputs.
        left_out: files that are not read.
        notes: of the source.
        targets: names of the columns that are learned, for a table.
    """
    columns = [count_labels(part.labels, len(classes)) for part in parts.values()]
    return Audit(
        name=name,
        task=task,
        examples={part: len(examples) for part, examples in parts.items()},
        counts=dict(zip(classes, zip(*columns, strict=True), strict=True)),
        sizes=_sizes([*parts.values()]),
        left_out=tuple(left_out),
        duplicates=duplicates(parts),
        notes=tuple(notes),
        targets=tuple(targets),
    )


def _sizes(parts: Sequence[Any]) -> Sizes | None:
    sides: list[tuple[int, int]] = []
    for part in parts:
        if hasattr(part, "paths"):
            step = max(len(part.paths) // SAMPLE, 1)
            sides += filter(None, map(_size, part.paths[::step]))
        elif getattr(part, "x", None) is not None and part.x.ndim == 4 and len(part.x):
            sides.append((part.x.shape[2], part.x.shape[1]))
    if not sides:
        return None
    ordered = sorted(sides, key=lambda size: size[0] * size[1])
    return Sizes(ordered[0], ordered[len(ordered) // 2], ordered[-1])


def _size(path: Path) -> tuple[int, int] | None:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.size
    except OSError:
        return None


def _table(columns: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> list[str]:
    rows = [*rows]
    cells = [columns, *([str(row[0]), *(f"{count:,}" for count in row[1:])] for row in rows[:SHOWN])]
    widths = [max(len(line[column]) for line in cells) for column in range(len(columns))]
    lines = []
    for line in cells:
        numbers = "".join(f"  {cell:>{width}}" for cell, width in zip(line[1:], widths[1:], strict=True))
        lines.append(f"  {line[0]:<{widths[0]}}{numbers}")
    return lines + ([f"  and {len(rows) - SHOWN} more"] if len(rows) > SHOWN else [])


def _reasons(left_out: Sequence[LeftOut]) -> list[str]:
    """Files that are left out, by reason."""
    return [f"  {reason}: {_listed(paths)}" for reason, paths in _by_reason(left_out).items()]


def _by_reason(left_out: Sequence[LeftOut]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for item in left_out:
        groups[item.reason].append(printable(item.path))
    return groups


def _listed(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return f"{', '.join(paths[:SHOWN])}{more}"
