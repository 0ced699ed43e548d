"""The best score so far against the compute of a search: did it still gain when it ended?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reszoo.report.panels import legend, panel, scale
from reszoo.report.pictures import INK, Picture, hover, literal, style


@dataclass(frozen=True)
class Step:
    """One trial, in the order of the search."""

    number: int
    compute: float
    """Multiply-accumulates of its training."""
    score: float
    """What is drawn: the score, or the error."""
    counts: bool
    """Whether it was trained to its end, so that it can be the best one."""
    kind: str
    text: str


def best_so_far(steps: Sequence[Step], *, lower: bool) -> list[tuple[float, float]]:
    """Returns the corners of the curve: compute so far, and the best score after it.

    Example:
        >>> steps = [Step(0, 2.0, 0.5, True, "plain", ""), Step(1, 3.0, 0.9, False, "plain", "")]
        >>> best_so_far([*steps, Step(2, 1.0, 0.7, True, "plain", "")], lower=False)
        [(2.0, 0.5), (6.0, 0.7)]
    """
    corners: list[tuple[float, float]] = []
    total = 0.0
    for step in steps:
        total += step.compute
        if step.counts and (not corners or ((step.score < corners[-1][1]) == lower and step.score != corners[-1][1])):
            corners.append((total, step.score))
    return corners


def draw_progress(steps: Sequence[Step], *, name: str, ylabel: str, yscale: str, lower: bool) -> Picture:
    """Returns a plot of all trials by the compute so far, and the best of them so far as a line.

    Args:
        steps: at least one.
        name: file name of the picture without a suffix.
        ylabel: what is drawn.
        yscale: linear or log.
        lower: whether less is better.
    """
    from matplotlib.ticker import EngFormatter

    axis: Any = panel("Best so far", xlabel="multiply-accumulates of training so far", ylabel=ylabel)
    total = 0.0
    for step in steps:
        total += step.compute
        color, mark = style(step.kind)[:2]
        fill = color if step.counts else "none"
        (dot,) = axis.plot([total], [step.score], mark, color=color, markerfacecolor=fill, markersize=5, alpha=0.6)
        hover(dot, step.text)
    corners = best_so_far(steps, lower=lower)
    if corners:
        across, up = [corner[0] for corner in corners], [corner[1] for corner in corners]
        label = literal("best so far")
        axis.plot([*across, total], [*up, up[-1]], drawstyle="steps-post", color=INK, linewidth=1.6, label=label)
    scale(axis, "y", [step.score for step in steps], yscale)
    axis.xaxis.set_major_formatter(EngFormatter())
    legend(axis)
    last = corners[-1][0] / total if corners and total else 0.0
    caption = (
        f"The best trial so far by the compute of all trials until then, in the order of their proposals; the last "
        f"gain came after {last:.0%} of it. Hollow: ended early by pruning."
    )
    return Picture(name, caption, axis.figure)
