"""Positions of norms, activations and dropouts around the weighted layers of a block: a table of the four orders."""

from __future__ import annotations

from typing import Literal, NamedTuple


class Order(NamedTuple):
    """The layers around the weighted layers of a block, and at the two ends of the trunk."""

    stem: tuple[str, ...] = ()
    """After the stem."""
    lead: tuple[str, ...] = ()
    """Before the first unit of a block."""
    between: tuple[str, ...] = ()
    """Between two units."""
    trail: tuple[str, ...] = ()
    """After the last unit and after a projection."""
    after: tuple[str, ...] = ()
    """After the addition."""
    final: tuple[str, ...] = ()
    """After the last block."""
    between_belongs_to: Literal["unit before", "unit after"] = "unit before"
    """The unit that gives the layers between two units their names."""


ORDERS = {
    # He 2015, Fig. 2: x -> conv norm act -> conv norm -> add -> act
    "post": Order(stem=("norm", "act"), between=("norm", "act", "dropout"), trail=("norm",), after=("act",)),
    # The same with a free identity path: x -> conv norm act -> conv norm -> add
    "inner": Order(between=("norm", "act", "dropout"), trail=("norm",)),
    # He 2016, Fig. 1b: x -> norm act conv -> norm act conv -> add
    "pre": Order(
        lead=("norm", "act"),
        between=("norm", "act", "dropout"),
        final=("norm", "act"),
        between_belongs_to="unit after",
    ),
    # Gorishniy 2021, 3.2: x -> norm linear act -> linear -> add
    "norm_first": Order(lead=("norm",), between=("act", "dropout"), final=("norm", "act")),
}
"""Order of a block -> the layers at each position."""
