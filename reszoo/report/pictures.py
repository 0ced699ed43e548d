"""How every picture is made and written."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def figure(width: float, height: float) -> Any:
    """Returns an empty figure of so many inches, drawn without a screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(made)
    return made


def save(made: Any, file: Path) -> None:
    """Writes a figure as PNG, under a temporary name first."""
    temporary = file.with_name(f".{file.name}.part")
    made.savefig(temporary, dpi=120, format="png")
    temporary.replace(file)
