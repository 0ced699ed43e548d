"""Positions of norms, activations and dropouts around the weighted layers of a block: a table of the orders."""

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
    first_lead: bool = True
    """Whether the first block of the network has the layers of `lead`; if not, those of the stem take their place."""
    projection_reads: Literal["input", "lead"] = "input"
    """What a projection reads: the input of the block, or that after the layers of `lead`."""
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
        projection_reads="lead",
        between_belongs_to="unit after",
    ),
    # The same, but the shortcut of a block that changes the shape is x -> conv
    "pre_unshared": Order(
        lead=("norm", "act"),
        between=("norm", "act", "dropout"),
        final=("norm", "act"),
        between_belongs_to="unit after",
    ),
    # Keras' example ResNet v2: stem -> norm act -> conv -> norm act conv -> add, and so on
    "pre_raw": Order(
        stem=("norm", "act"),
        lead=("norm", "act"),
        between=("norm", "act", "dropout"),
        final=("norm", "act"),
        first_lead=False,
        between_belongs_to="unit after",
    ),
    # Gorishniy 2021, 3.2: x -> norm linear act -> linear -> add
    "norm_first": Order(lead=("norm",), between=("act", "dropout"), final=("norm", "act")),
}
"""Order of a block -> the layers at each position."""
