"""Cached networks and costs of a search space."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, lru_cache
from itertools import islice
from typing import Any

from reszoo.arch.cost import Cost, Tally
from reszoo.arch.plan import lower
from reszoo.arch.spec import NetSpec, replace
from reszoo.config import merge
from reszoo.errors import ReszooError, UnknownNameError
from reszoo.tuning.axes import Axis
from reszoo.tuning.sizes import Size, resize

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
