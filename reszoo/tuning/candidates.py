"""The networks of a search space: size from a few values, recipe and cost; networks and costs are cached."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from itertools import islice
from typing import Any, NamedTuple

from reszoo.arch.cost import Cost, Tally
from reszoo.arch.plan import lower
from reszoo.arch.spec import NetSpec, Stage, Unit, impossible, replace
from reszoo.config import merge
from reszoo.errors import ReszooError, UnknownNameError
from reszoo.training.recipes import Recipe
from reszoo.tuning.axes import Axis, Point

GRAIN = 8
"""Channels that processors compute at a time: tensor cores in half precision, XNNPACK, vectors of 256 bits."""


class Size(NamedTuple):
    """Depth and width of every stage."""

    depths: tuple[int, ...]
    widths: tuple[int, ...]
    ratio: float | None = None
    """Inner width of a block divided by its output width; None keeps that of the base."""
    grain: int = 1
    """Widths of stages and stem are multiples of it."""

    def rounded(self, grain: int) -> Size:
        """Returns the size with stages of the nearest multiples of `grain`, at least `grain`."""
        return self._replace(widths=tuple(multiple(width, grain) for width in self.widths), grain=grain)


def multiple(width: float, grain: int) -> int:
    """Returns the nearest multiple of `grain`, and at least `grain`.

    Example:
        >>> multiple(45, 8), multiple(3, 8), multiple(45, 1)
        (48, 8, 45)
    """
    return max(grain, grain * round(width / grain))


class Kind(NamedTuple):
    """One parametrization of depth and width."""

    axes: tuple[str, ...]
    """Names of its axes; `depths` and `widths` become one axis per stage, such as `stage1.depth`."""
    size: Callable[[NetSpec, Mapping[str, Any]], Size | None]
    """Base and values -> size; None where they do not give as many stages as the base has."""
    needs: tuple[str, ...] = ()


def _compound(base: NetSpec, values: Mapping[str, Any]) -> Size:
    """Tan & Le 2019, 3.3: depth and width as factors, or both as powers of one `phi`."""
    depth, width = values.get("depth", 1), values.get("width", 1)
    if "phi" in values:
        depth, width = (
            values.get("depth_growth", 1.2) ** values["phi"],
            values.get("width_growth", 1.1) ** values["phi"],
        )
    return Size(
        tuple(max(1, round(stage.depth * depth)) for stage in base.stages),
        tuple(max(1, round(stage.width * width)) for stage in base.stages),
    )


def _regnet(base: NetSpec, values: Mapping[str, Any]) -> Size | None:
    """Radosavovic et al. 2020, 3.3, eq. 2 to 4: block j has width w0 + wa j, rounded to w0 times a power of wm."""
    w0, wa, wm, grain = values["w0"], values["wa"], values["wm"], values.get("multiple", 8)
    depths: list[int] = []
    widths: list[int] = []
    start = power = 0
    if wm <= 1 or wa < 0:
        return None
    while start < values["depth"] and len(depths) <= len(base.stages):
        # Blocks share this power until 1 + wa j / w0 is closer to the next one (on a logarithmic scale).
        turn = math.ceil((wm ** (power + 0.5) - 1) * w0 / wa) if wa else values["depth"]
        end = min(max(turn, start), values["depth"])
        width = multiple(w0 * wm**power, grain)
        if widths[-1:] == [width]:
            depths[-1] += end - start
        elif end > start:
            depths, widths = [*depths, end - start], [*widths, width]
        start, power = end, power + 1
    if len(depths) != len(base.stages):
        return None
    return Size(tuple(depths), tuple(widths), values.get("ratio"))


def _stages(base: NetSpec, values: Mapping[str, Any]) -> Size:
    """Every stage separately, or all stages by the same factor."""
    depths, widths = [], []
    for number, stage in enumerate(base.stages, 1):
        depths.append(values.get(f"stage{number}.depth", values.get("depth", stage.depth)))
        widths.append(values.get(f"stage{number}.width", max(1, round(stage.width * values.get("width", 1)))))
    return Size(tuple(depths), tuple(widths), values.get("ratio"))


def _tabular(base: NetSpec, values: Mapping[str, Any]) -> Size:
    """Gorishniy et al. 2021, appendix: number of blocks, their width, and their inner width relative to it."""
    return Size((values["depth"],), (values["width"],), values.get("ratio"))


KINDS: dict[str, Kind] = {
    "compound": Kind(("depth", "width", "phi", "depth_growth", "width_growth"), _compound),
    "regnet": Kind(("depth", "w0", "wa", "wm", "multiple", "ratio"), _regnet, needs=("depth", "w0", "wa", "wm")),
    "stages": Kind(("depth", "width", "depths", "widths", "ratio"), _stages),
    "tabular": Kind(("depth", "width", "ratio"), _tabular, needs=("depth", "width")),
}
"""Name -> kind."""


def grain_of(kind: str, size: Mapping[str, Axis | int | float], base: NetSpec) -> int:
    """Returns the number whose multiples the widths of a space are, where the space does not say it.

    It is 8, or a smaller power of two where widths, or factors that give whole ones, are listed one by one; 1 where all
    widths are those of the base network.

    Args:
        kind: of the space.
        size: its axes and constants.
        base: its network.
    """
    if not {"width", "widths", "phi", "w0"} & {*size}:
        return 1
    factors, widths, multiples = (_listed(size.get(name, ())) for name in ("width", "widths", "multiple"))
    bases = [1] if kind == "tabular" else [stage.width for stage in base.stages]
    listed = [*widths, *multiples, *(factor * width for factor in factors for width in bases)]
    whole = [int(width) for width in listed if width == int(width)]
    return math.gcd(GRAIN, *whole) if len(whole) == len(listed) else GRAIN


def _listed(axis: Axis | int | float | tuple[()]) -> tuple[Any, ...]:
    """The values of an axis that are listed one by one, or a constant value."""
    if isinstance(axis, Axis):
        return axis.values
    return axis if isinstance(axis, tuple) else (axis,)


@cache
def _stage(depth: int, width: int, stride: int, dilation: int) -> Stage:
    return Stage(depth=depth, width=width, stride=stride, dilation=dilation)


def resize(base: NetSpec, size: Size) -> NetSpec:
    """Returns a network in another size; the width of the stem scales with that of the first stage.

    Raises:
        ReszooError: the fields of the result contradict each other.
    """
    stages = tuple(
        _stage(depth, width, stage.stride, stage.dilation)
        for stage, depth, width in zip(base.stages, size.depths, size.widths, strict=True)
    )
    changes: dict[str, Any] = {"stages": stages}
    if size.widths[0] != base.stages[0].width:
        factor = size.widths[0] / base.stages[0].width
        *first, width = (multiple(each * factor, size.grain) for each in base.stem.widths)
        first_widths = tuple(first) if base.stem.first_widths else ()
        changes["stem"] = base.stem.model_copy(update={"width": width, "first_widths": first_widths})
    if size.ratio is not None:
        *inner, last = base.block.body
        inner = [Unit(kernel=unit.kernel, ratio=size.ratio, groups=unit.groups) for unit in inner]
        changes["block"] = base.block.model_copy(update={"body": (*inner, last)})
    # Every field is already checked; only their combination is not.
    spec = base.model_copy(update=changes)
    for problem in impossible(spec):
        raise problem
    return spec


Parts = tuple[tuple[str, Any], ...]
"""Values of the axes of `net`: pairs of axis and value, in order."""

MAX_CHECKED = 50
"""Values of an axis that are checked when a space is made."""


class CostTable:
    """Networks and costs of a space by parts and size, cached: points that differ only in the recipe share them.

    A space has few combinations of parts, so all are cached; it has many sizes, so their cache is limited.
    """

    def __init__(self, root: NetSpec, net: Mapping[str, Axis], *, where: str):
        self._root = root
        self._net = net
        self._where = where
        self.variant = cache(self._variant)
        self.cost = lru_cache(maxsize=1 << 16)(self._cost)
        self._tally = lru_cache(maxsize=256)(self._new_tally)

    def spec(self, parts: Parts, size: Size) -> NetSpec | None:
        """Returns the network of some parts in a size, or None where they contradict each other."""
        try:
            return resize(self.variant(parts), size)
        except ValueError:
            return None

    def _variant(self, parts: Parts) -> NetSpec:
        """The base network with the values of some parts."""
        changes: dict[str, Any] = {}
        for name, answer in parts:
            merge(changes, nested(name, self._net[name].meaning(answer)))
        return replace(self._root, changes, where=self._where) if changes else self._root

    def _cost(self, parts: Parts, size: Size) -> Cost | None:
        """The cost of some parts in a size, or None where they contradict each other."""
        try:
            return self._tally(parts, size.ratio, size.grain).cost(size.depths, size.widths)
        except ValueError:
            return None

    def _new_tally(self, parts: Parts, ratio: float | None, grain: int) -> Tally:
        """The costs of all sizes of the same parts."""
        variant = self.variant(parts)
        return Tally(lambda depths, widths: lower(resize(variant, Size(depths, widths, ratio, grain))))


def check_parts(root: NetSpec, net: Mapping[str, Axis]) -> None:
    """Checks the axes of `net`: their fields and words exist. Impossible combinations are left out of the proposals.

    Raises:
        ReszooError: a field or word that does not exist, or an axis none of whose values is possible.
    """
    for name, axis in net.items():
        answers = [*islice(axis.answers or (axis.low, axis.high), MAX_CHECKED)]
        problems = []
        for answer in answers:
            try:
                replace(root, nested(name, axis.meaning(answer)), where="net")
            except ReszooError as error:
                problems.append(error)
        wrong = [each for each in problems if isinstance(each, UnknownNameError) or each.hint.startswith("did you")]
        if wrong or (len(problems) == len(answers) and not axis.when):
            raise (wrong or problems)[0]


def nested(path: str, value: Any) -> dict[str, Any]:
    """Returns a value under a dotted path: `block.dropout` gives `{"block": {"dropout": value}}`."""
    for key in reversed(path.split(".")):
        value = {key: value}
    return dict(value)


def dotted(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Returns the dotted names of nested values.

    Example:
        >>> dotted({"epochs": 3, "optimizer": {"momentum": 0.9}})
        ['epochs', 'optimizer.momentum']
    """
    names = []
    for name, value in values.items():
        path = f"{prefix}{name}"
        names += dotted(value, f"{path}.") if isinstance(value, Mapping) and value else [path]
    return names


@dataclass(frozen=True)
class Candidate:
    """One network of a space and its recipe."""

    point: Point
    spec: NetSpec
    recipe: Recipe
    weights: str | None = None
    """Pretrained weights to start from."""

    @cached_property
    def key(self) -> str:
        """A digest of network, recipe and weights: equal candidates have equal keys, whatever their points."""
        spec = self.spec.model_dump(mode="json", exclude={"name"})
        recipe = self.recipe.model_dump(mode="json", exclude={"name", "ref"})
        text = json.dumps([spec, recipe, self.weights], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
