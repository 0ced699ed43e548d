"""A page that is whole in one file: text, tables, pictures and code, with nothing fetched from anywhere.

The page is built as a tree of elements and written by the standard library: every text is escaped because there is no
way to write it otherwise. Its security policy forbids the browser any address but the page itself.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from reszoo.atomic import renamed_when_whole
from reszoo.report.pictures import Picture, printable

POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
MISSING = "\N{EN DASH}"
LONG = 40


@dataclass(frozen=True)
class Cell:
    """A cell of a table that is more than its text."""

    text: str
    value: float | None = None
    """What the column is sorted by, and shown in full under the pointer."""
    tone: str = ""
    """good, fair, bad or muted: its colour."""


@dataclass(frozen=True)
class Table:
    """A table whose columns are sorted at a click."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell | str | float | None]]
    caption: str = ""
    marked: frozenset[int] = frozenset()
    """Places of rows that stand out, 0 the first."""
    phone: str = "scroll"
    """On a narrow screen: scroll, or stack, which makes a card of every row (for rows of sentences)."""


@dataclass(frozen=True)
class Code:
    """Text to be copied as it is."""

    text: str
    caption: str = ""
    fold: str = "open"
    """open, or closed behind its caption."""


@dataclass(frozen=True)
class Image:
    """A PNG that was drawn already."""

    name: str
    """Its file name without a suffix."""
    caption: str
    png: bytes


@dataclass(frozen=True)
class Gallery:
    """Pictures side by side where there is room."""

    pictures: Sequence[Picture | Image]
    size: str = "small"
    """small: three beside one another on a wide screen; or large: two."""


Content = str | Table | Code | Picture | Image | Gallery


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it: paragraphs (words alone), tables, pictures, code."""

    title: str
    parts: Sequence[Content]


@dataclass(frozen=True)
class Page:
    """A page as plain data; `reszoo.report.write.write` puts it into a folder."""

    title: str
    lead: str
    """A paragraph that says what was found."""
    sections: Sequence[Section]
    facts: Mapping[str, str] = field(default_factory=dict)
    """A few words or numbers to be seen first, by their names."""
    foot: str = ""
    """A line at the end, as versions and machine."""
    file: str = "index.html"
    numbers: Mapping[str, Any] | None = None
    """Everything on the page as plain data for JSON, where it is written beside it."""
    numbers_file: str = "numbers.json"

    @property
    def pictures(self) -> list[Picture | Image]:
        """Returns the pictures of all sections, in order."""
        found: list[Picture | Image] = []
        for part in (part for section in self.sections for part in section.parts):
            shown = part.pictures if isinstance(part, Gallery) else [part]
            found += [one for one in shown if isinstance(one, (Picture, Image))]
        return found


def write_page(
    file: Path,
    *,
    title: str,
    lead: str,
    sections: Sequence[Section],
    facts: Mapping[str, str] | None = None,
    foot: str = "",
) -> Path:
    """Writes a self-contained HTML page and returns its path.

    It follows the reader's light or dark mode, fits a phone and paper, and needs scripts only for sorting, for copying
    and for text under the pointer at once.

    Args:
        file: where to write; its folder is made. It is there whole or not at all.
        title: of the page and the window.
        lead: a paragraph that says what was found.
        sections: the page itself; one without parts is left out.
        facts: a few words or numbers to be seen first, by their names.
        foot: a line at the end, as versions and machine.
    """
    sections = [section for section in sections if section.parts]
    names = [f"section-{number}" for number in range(1, len(sections) + 1)]
    figures = _Figures()
    head = _node("header", _node("h1", title), _node("p", lead, css="lead"))
    if facts:
        head.append(_node("dl", *(_node("div", _node("dt", name), _node("dd", said)) for name, said in facts.items())))
    links = [_node("a", section.title, href=f"#{name}") for section, name in zip(sections, names, strict=True)]
    main = _node("main", head, *([_node("nav", *links)] if len(links) > 2 else []))
    for section, name in zip(sections, names, strict=True):
        main.append(_node("section", _node("h2", section.title), *map(figures.show, section.parts), id=name))
    if foot:
        main.append(_node("footer", foot))
    page = _node("html", _head(title), _node("body", main, _node("script", _source("page.js"))), lang="en")
    text = ElementTree.tostring(page, encoding="unicode", method="html")
    file.parent.mkdir(parents=True, exist_ok=True)
    with renamed_when_whole(file) as temporary:
        temporary.write_bytes(f"<!DOCTYPE html>\n{text}\n".encode())
    return file


def number(value: float) -> str:
    """Returns a number as a table shows it: 269,722 or 0.9542."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _head(title: str) -> Element:
    return _node(
        "head",
        _node("meta", charset="utf-8"),
        _node("meta", **{"http-equiv": "Content-Security-Policy", "content": POLICY}),
        _node("meta", name="viewport", content="width=device-width, initial-scale=1"),
        _node("meta", name="color-scheme", content="light dark"),
        _node("title", title),
        _node("style", _source("page.css")),
    )


def _source(name: str) -> str:
    return files("reszoo.report").joinpath(name).read_text()


def _node(tag: str, *inside: Element | str, css: str = "", **attributes: str) -> Element:
    """Returns an element of texts and elements."""
    made = Element(tag, {name: printable(value) for name, value in attributes.items()})
    if css:
        made.set("class", css)
    for item in inside:
        if isinstance(item, Element):
            made.append(item)
        elif len(made):
            made[-1].tail = (made[-1].tail or "") + printable(item)
        else:
            made.text = (made.text or "") + printable(item)
    return made


class _Figures:
    """Turns parts into elements; counts the pictures, whose ids must differ."""

    def __init__(self) -> None:
        self.count = 0

    def show(self, part: Content) -> Element:
        match part:
            case str():
                return _node("p", part)
            case Table():
                return _table(part)
            case Code():
                return _code(part)
            case Gallery():
                return _node("div", *map(self.picture, part.pictures), css=f"gallery {part.size}")
            case Picture() | Image():
                return self.picture(part)

    def picture(self, part: Picture | Image) -> Element:
        self.count += 1
        if isinstance(part, Picture):
            drawn = part.svg(f"picture{self.count}-")
        else:
            data = base64.b64encode(part.png).decode()
            drawn = _node("img", src=f"data:image/png;base64,{data}", alt=part.caption)
        return _node("figure", drawn, _node("figcaption", part.caption))


def _table(part: Table) -> Element:
    rows = [[_cell(got) for got in row] for row in part.rows]
    numeric = [any(row[place].value is not None for row in rows) for place in range(len(part.columns))]
    heads = [
        _node("th", column, css="number" if right else "", scope="col")
        for column, right in zip(part.columns, numeric, strict=True)
    ]
    body = _node("tbody")
    for place, row in enumerate(rows):
        data = map(_data, part.columns, row, numeric)
        body.append(_node("tr", *data, css="marked" if place in part.marked else ""))
    title = [_node("caption", part.caption)] if part.caption else []
    table = _node("table", *title, _node("thead", _node("tr", *heads)), body, css=part.phone)
    return _node("div", table, css="table")


def _cell(got: Cell | str | float | None) -> Cell:
    if isinstance(got, Cell):
        return got
    if got is None:
        return Cell(MISSING)
    return Cell(got) if isinstance(got, str) else Cell(number(got), got)


def _data(column: str, cell: Cell, right: bool) -> Element:
    said = {"data-column": column}
    if cell.value is not None and math.isfinite(cell.value):
        said |= {"data-value": repr(cell.value), "title": f"{cell.value:,}"}
    shape = "number" if right else "long" if len(cell.text) > LONG else ""
    return _node("td", cell.text, css=" ".join(filter(None, (cell.tone, shape))), **said)


def _code(part: Code) -> Element:
    block = _node("pre", _node("code", part.text))
    if part.fold == "closed":
        return _node("details", _node("summary", part.caption), block)
    return _node("div", *([_node("p", part.caption, css="caption")] if part.caption else []), block)
