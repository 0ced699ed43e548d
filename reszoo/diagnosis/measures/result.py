"""The base class of all measurement results: numbers, controls, a verdict with its thresholds, a figure, plain data."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from textwrap import shorten
from typing import Any, ClassVar, Literal

from reszoo.notebook import html_table
from reszoo.report.lines import Panel, draw_profiles, save_profiles
from reszoo.report.pictures import Picture

Level = Literal["healthy", "strained", "broken", "unknown"]
TONES = {"healthy": "good", "strained": "fair", "broken": "bad", "unknown": "muted"}
"""Level -> the color of its cell in a table."""


# repr=False in every subclass, too: a generated one would print all numbers.
@dataclass(frozen=True, kw_only=True, repr=False)
class Result:
    """The result of one measurement of one network."""

    title: ClassVar[str]
    """Name of the measurement."""
    thresholds: ClassVar[str]
    """Where the levels begin and end."""
    control_names: ClassVar[Mapping[str, str]] = {}
    """Key of a control -> what it is, in words, where the key alone does not say it."""

    model: str
    """Name of the model."""
    level: Level
    """The verdict in one word."""
    verdict: str
    """The verdict in a sentence, with the numbers it is based on."""
    control: Mapping[str, float]
    """The same quantity where the answer is known, for comparison."""

    def __repr__(self) -> str:
        start = f"{type(self).__name__}({self.model}: {self.level}; "
        return f"{start}{shorten(self.verdict, max(158 - len(start), 20), placeholder=' ...')})"

    def _repr_html_(self) -> str:
        rows = [("verdict", self.verdict), ("control", control_text(self)), ("thresholds", self.thresholds)]
        return html_table((), rows, title=f"{self.title} of {self.model}: {self.level}")

    @abstractmethod
    def panels(self) -> list[Panel]:
        """Returns the panels of the figure that `plot` draws."""

    def plot(self, file: str | Path) -> None:
        """Writes the figure as a PNG file."""
        save_profiles(self.panels(), Path(file), title=f"{self.title}: {self.model}")

    def pictures(self) -> list[Picture]:
        """Returns a picture of every panel that has something to draw."""
        return draw_profiles(self.panels(), name=self.title.replace(" ", "_"), caption=self.verdict)

    def to_dict(self) -> dict[str, Any]:
        """Returns everything as plain data for JSON; NaN and infinity become strings."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {"measurement": self.title, "thresholds": self.thresholds, **{k: plain(v) for k, v in values.items()}}


def control_text(result: Result) -> str:
    """Returns the controls of a result as text: `labels shuffled: 0.98; random direction: undefined`."""
    texts = ("undefined" if math.isnan(value) else f"{value:.3g}" for value in result.control.values())
    names = (result.control_names.get(name, name) for name in result.control)
    return "; ".join(f"{name}: {text}" for name, text in zip(names, texts, strict=True))


def plain(value: Any) -> Any:
    """Returns arrays, mappings, data classes and named tuples as plain data for JSON."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if hasattr(value, "_asdict"):
        value = value._asdict()
    elif hasattr(value, "__dataclass_fields__"):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def level_of(decades: float, *, strained: float = 2.0, broken: float = 4.0) -> Level:
    """Returns the level of a number of decades of either sign; NaN is broken."""
    size = abs(decades)
    if size < strained:
        return "healthy"
    return "strained" if size < broken else "broken"


def level_from_top(value: float, *, healthy: float, strained: float) -> Level:
    """Returns the level of a value that is better the greater it is; NaN is broken."""
    if value >= healthy:
        return "healthy"
    return "strained" if value >= strained else "broken"
