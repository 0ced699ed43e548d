"""Small HTML tables for notebooks: the parts of every `_repr_html_`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape


def html_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "", note: str = "") -> str:
    """Returns a table as HTML with all texts escaped.

    Example:
        >>> from reszoo.notebook import html_table
        >>> html_table(["name", "params"], [["resnet18", 11]])[:26]
        '<table><thead><tr><th>name'

    Args:
        columns: column headings; empty for a table without a heading row.
        rows: cells of every row; numbers are aligned to the right.
        title: caption above the table.
        note: text below the table.
    """
    headings = "".join(f"<th>{escape(str(column))}</th>" for column in columns)
    head = f"<thead><tr>{headings}</tr></thead>" if headings else ""
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    caption = f"<caption>{escape(title)}</caption>" if title else ""
    foot = f"<p>{escape(note)}</p>" if note else ""
    return f"<table>{caption}{head}<tbody>{body}</tbody></table>{foot}"


def html_fields(data: Mapping[str, object], *, title: str = "") -> str:
    """Returns nested settings as an HTML table with a row per field, such as `block.order`.

    Example:
        >>> from reszoo.notebook import html_fields
        >>> "stem.width" in html_fields({"stem": {"width": 64}})
        True

    Args:
        data: settings by name; dicts and lists of dicts are opened.
        title: caption above the table.
    """
    return html_table(("field", "value"), field_rows(data), title=title)


def field_rows(data: Mapping[str, object], prefix: str = "") -> Iterable[tuple[str, object]]:
    """Yields dotted name and value of every field of nested settings; dicts and lists of dicts are opened."""
    for name, value in data.items():
        if isinstance(value, (list, tuple)) and value and isinstance(value[0], Mapping):
            value = dict(zip(map(str, range(len(value))), value, strict=True))
        if isinstance(value, Mapping):
            yield from field_rows(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _cell(value: object) -> str:
    align = ' style="text-align:right"' if isinstance(value, (int, float)) else ""
    text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    return f"<td{align}>{escape(text)}</td>"
