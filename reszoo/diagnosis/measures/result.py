"""What every measurement returns: numbers, their control, a verdict with its thresholds, a picture, plain data."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Literal

from reszoo.report.page import Image
from reszoo.report.pictures import png, save
from reszoo.report.profiles import Panel, draw_profiles

Level = Literal["healthy", "strained", "broken", "unknown"]
TONES = {"healthy": "good", "strained": "fair", "broken": "bad", "unknown": "muted"}
"""Level -> the colour of its cell in a table."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a measurement found."""

    title: ClassVar[str]
    """Of the measurement."""
    thresholds: ClassVar[str]
    """Where healthy ends."""

    model: str
    """Name of the model."""
    level: Level
    """The verdict in one word."""
    verdict: str
    """The verdict in a sentence, with the numbers it rests on."""
    control: Mapping[str, float]
    """The same measured where the answer is known: what the numbers have to be compared with."""

    @abstractmethod
    def panels(self) -> list[Panel]:
        """Returns what `plot` draws."""

    def plot(self, file: str | Path) -> None:
        """Writes a PNG."""
        save(self._figure(), Path(file))

    def image(self) -> Image:
        """Returns the picture for a page."""
        return Image(self.title.replace(" ", "_"), self.verdict, png(self._figure()))

    def _figure(self) -> Any:
        return draw_profiles(self.panels(), title=f"{self.title}: {self.model}")

    def to_dict(self) -> dict[str, Any]:
        """Returns everything as plain data for JSON; NaN and infinity are words there."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {"measurement": self.title, "thresholds": self.thresholds, **{k: plain(v) for k, v in found.items()}}


def control_text(result: Result) -> str:
    """Returns what a result is to be compared with, in words."""
    return ", ".join(f"{name} {value:.3g}" for name, value in result.control.items())


def plain(value: Any) -> Any:
    """Returns numbers, arrays, mappings and frozen parts as JSON has them."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if hasattr(value, "__dataclass_fields__") or hasattr(value, "_asdict"):
        value = value._asdict() if hasattr(value, "_asdict") else asdict(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def level_of(decades: float, *, strained: float = 2.0, broken: float = 4.0) -> Level:
    """Returns the verdict on a number of decades, of either sign; NaN is broken."""
    size = abs(decades)
    return "healthy" if size < strained else "strained" if size < broken else "broken"
