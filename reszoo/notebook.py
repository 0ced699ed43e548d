"""Small tables in HTML for notebooks: what the `_repr_html_` of results is made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


def html_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "", note: str = "") -> str:
    """Returns a table as HTML, everything in it escaped.

    Example:
        >>> from reszoo.notebook import html_table
        >>> html_table(["name", "params"], [["resnet18", 11]])[:26]
        '<table><thead><tr><th>name'

    Args:
        columns: heads of the columns; none at all leaves the head out.
        rows: cells of every row; numbers are aligned to the right.
        title: above the table.
        note: below it.
    """
    head = "".join(f"<th>{escape(str(column))}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    caption = f"<caption>{escape(title)}</caption>" if title else ""
    foot = f"<p>{escape(note)}</p>" if note else ""
    return f"<table>{caption}{f'<thead><tr>{head}</tr></thead>' if head else ''}<tbody>{body}</tbody></table>{foot}"


def _cell(value: object) -> str:
    align = ' style="text-align:right"' if isinstance(value, (int, float)) else ""
    shown = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    return f"<td{align}>{escape(shown)}</td>"
