"""A reliability diagram: how often predictions of a confidence are right (Guo et al. 2017, Fig. 1)."""

from __future__ import annotations

from collections.abc import Sequence

from reszoo.report.panels import panel
from reszoo.report.pictures import COLORS, INK, SIZE, Picture, hover

Point = tuple[int, float, float]
"""Examples, mean confidence, accuracy of a bin."""


def reliability_picture(bins: Sequence[Point], *, error: float) -> Picture:
    """Returns the reliability diagram of a classification.

    Args:
        bins: of confidence.
        error: the expected calibration error.
    """
    axis = panel("calibration", xlabel="confidence", ylabel="accuracy")
    axis.plot([0, 1], [0, 1], color=INK, alpha=0.5, linewidth=1, linestyle="--")
    axis.text(0.03, 0.95, "above the line: too modest\nbelow: too sure", color=INK, fontsize=SIZE, va="top")
    most = max((count for count, _, _ in bins), default=1)
    axis.plot([each[1] for each in bins], [each[2] for each in bins], color=COLORS["blue"], alpha=0.5)
    for count, confidence, accuracy in bins:
        size = 20 + 180 * count / most
        point = axis.scatter([confidence], [accuracy], s=size, color=COLORS["blue"], alpha=0.8, clip_on=False)
        hover(point, f"{count:,} examples: confidence {confidence:.3f}, accuracy {accuracy:.3f}")
    axis.set(xlim=(0, 1.02), ylim=(-0.02, 1.02))
    caption = (
        f"Accuracy by confidence; on the dashed line a network is as sure as it is right. Larger points hold more "
        f"examples. Expected calibration error {error:.4f}."
    )
    return Picture("reliability", caption, axis.figure)
