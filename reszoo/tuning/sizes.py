"""The kinds of spaces: how a few answers become the depth and width of every stage."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

from reszoo.arch.spec import NetSpec, Stage, Unit, impossible


class Size(NamedTuple):
    """Depth and width of every stage."""

    depths: tuple[int, ...]
    widths: tuple[int, ...]
    ratio: float | None = None
    """Width inside the blocks over the width of the blocks; None for the base's."""


class Kind(NamedTuple):
    """One way to span a space."""

    axes: tuple[str, ...]
    """Those that it knows; `depths` and `widths` are asked once for every stage, as `stage1.depth`."""
    size: Callable[[NetSpec, Mapping[str, Any]], Size | None]
    """From the base and the answers; None where they make no network of the base's stages."""
    needs: tuple[str, ...] = ()


def _compound(base: NetSpec, told: Mapping[str, Any]) -> Size:
    """Tan & Le 2019, 3.3: depth and width as factors, or both as powers of one `phi`."""
    depth, width = told.get("depth", 1), told.get("width", 1)
    if "phi" in told:
        depth, width = told.get("depth_growth", 1.2) ** told["phi"], told.get("width_growth", 1.1) ** told["phi"]
    return Size(
        tuple(max(1, round(stage.depth * depth)) for stage in base.stages),
        tuple(max(1, round(stage.width * width)) for stage in base.stages),
    )


def _regnet(base: NetSpec, told: Mapping[str, Any]) -> Size | None:
    """Radosavovic et al. 2020, 3.3, eq. 2 to 4: block j is w0 + wa j wide, rounded to w0 times a power of wm."""
    w0, wa, wm, multiple = told["w0"], told["wa"], told["wm"], told.get("multiple", 8)
    depths: list[int] = []
    widths: list[int] = []
    begun = power = 0
    if wm <= 1 or wa < 0:
        return None
    while begun < told["depth"] and len(depths) <= len(base.stages):
        # The power is that of all blocks until 1 + wa j / w0 is nearer to the next one.
        turn = math.ceil((wm ** (power + 0.5) - 1) * w0 / wa) if wa else told["depth"]
        end = min(max(turn, begun), told["depth"])
        width = max(multiple, multiple * round(w0 * wm**power / multiple))
        if widths[-1:] == [width]:
            depths[-1] += end - begun
        elif end > begun:
            depths, widths = [*depths, end - begun], [*widths, width]
        begun, power = end, power + 1
    if len(depths) != len(base.stages):
        return None
    return Size(tuple(depths), tuple(widths), told.get("ratio"))


def _stages(base: NetSpec, told: Mapping[str, Any]) -> Size:
    """Every stage on its own, or all alike."""
    depths, widths = [], []
    for number, stage in enumerate(base.stages, 1):
        depths.append(told.get(f"stage{number}.depth", told.get("depth", stage.depth)))
        widths.append(told.get(f"stage{number}.width", max(1, round(stage.width * told.get("width", 1)))))
    return Size(tuple(depths), tuple(widths), told.get("ratio"))


def _tabular(base: NetSpec, told: Mapping[str, Any]) -> Size:
    """Gorishniy et al. 2021, appendix: layers, their width, and how much wider their inside is."""
    return Size((told["depth"],), (told["width"],), told.get("ratio"))


KINDS: dict[str, Kind] = {
    "compound": Kind(("depth", "width", "phi", "depth_growth", "width_growth"), _compound),
    "regnet": Kind(("depth", "w0", "wa", "wm", "multiple", "ratio"), _regnet, needs=("depth", "w0", "wa", "wm")),
    "stages": Kind(("depth", "width", "depths", "widths", "ratio"), _stages),
    "tabular": Kind(("depth", "width", "ratio"), _tabular, needs=("depth", "width")),
}
"""Kind -> its axes and their meaning."""


@cache
def _stage(depth: int, width: int, stride: int, dilation: int) -> Stage:
    return Stage(depth=depth, width=width, stride=stride, dilation=dilation)


def sized(base: NetSpec, size: Size) -> NetSpec:
    """Returns a network in another size; the stem keeps its width relative to the first stage's.

    Raises:
        ReszooError: its parts do not fit together any more.
    """
    stages = tuple(
        _stage(depth, width, like.stride, like.dilation)
        for like, depth, width in zip(base.stages, size.depths, size.widths, strict=True)
    )
    changes: dict[str, Any] = {"stages": stages}
    if size.widths[0] != base.stages[0].width:
        width = max(1, round(base.stem.width * size.widths[0] / base.stages[0].width))
        changes["stem"] = base.stem.model_copy(update={"width": width})
    if size.ratio is not None:
        *inner, last = base.block.body
        inner = [Unit(kernel=unit.kernel, ratio=size.ratio, groups=unit.groups) for unit in inner]
        changes["block"] = base.block.model_copy(update={"body": (*inner, last)})
    # Every part is checked already; what is left is whether they fit together.
    spec = base.model_copy(update=changes)
    for problem in impossible(spec):
        raise problem
    return spec
