"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

MAX_UNWRAPPED = 16
"""Characters up to which a cell is never wrapped."""


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Group:
    """Returns a table under its title; columns of numbers and short words are right-aligned, except the first.

    The title is as wide as the screen, not as the table. On a narrow screen sentences wrap, while numbers and short
    words do not. Texts are shown as they are, brackets included; a cell may be a styled `rich.text.Text`.
    """
    cells = [[cell if isinstance(cell, Text) else Text(str(cell)) for cell in row] for row in rows]
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        longest = max((len(row[number]) for row in cells), default=0)
        heading = column if len(column) <= longest else column.replace(" ", "\n")
        words = not number or longest > MAX_UNWRAPPED
        grid.add_column(Text(heading), justify="left" if words else "right", no_wrap=longest <= MAX_UNWRAPPED)
    for row in cells:
        grid.add_row(*row)
    return Group(Text(title, style="table.title"), grid)


def short(number: float) -> str:
    """Returns a number with three or four digits and a prefix: 25.6 M, 4.09 G."""
    for size, unit in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {unit}" if number < 999.5 * size else f"{number / size:.0f} {unit}"
    return f"{number:g}"
