"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.table import Table

SHORT = 16
"""Characters up to which a cell is never broken over lines."""


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """Returns a table whose columns of numbers and short words are right-aligned, but for the first.

    Where the screen is too narrow, sentences go on in the next line, and numbers and short words stay whole.
    """
    cells = [[str(cell) for cell in row] for row in rows]
    made = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        longest = max((len(row[number]) for row in cells), default=0)
        heading = column if len(column) <= longest else column.replace(" ", "\n")
        words = not number or longest > SHORT
        made.add_column(heading, justify="left" if words else "right", no_wrap=longest <= SHORT)
    for row in cells:
        made.add_row(*row)
    return made


def short(number: float) -> str:
    """Returns a number with three or four digits and a unit: 25.6 M, 4.09 G."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {unit}" if number < 999.5 * size else f"{number / size:.0f} {unit}"
    return f"{number:g}"
