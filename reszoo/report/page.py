"""A self-contained HTML page: text, tables, pictures and code in one file, with no external resources.

The page is built as a tree of elements that the standard library serializes, so that every text is escaped. Its content
security policy forbids the browser to load anything else.
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

from reszoo.files import write_file
from reszoo.notebook import html_table
from reszoo.report.pictures import Picture, printable

POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
MISSING = "\N{EN DASH}"
LONG = 40
"""Characters beyond which the text of a cell wraps."""


@dataclass(frozen=True)
class Cell:
    """A table cell with a sort value or a color."""

    text: str
    value: float | None = None
    """The number by which the column is sorted; the hover text shows it in full."""
    tone: str = ""
    """good, fair, bad or muted: its color."""


@dataclass(frozen=True)
class Table:
    """A table; a click on a heading sorts it."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell | str | float | None]] = field(repr=False)
    caption: str = ""
    marked: frozenset[int] = frozenset()
    """Indices of highlighted rows, from 0."""
    phone: str = "scroll"
    """On a narrow screen: scroll, or stack, which shows every row as a card (for rows of sentences)."""
    dash: str = ""
    """Why a cell has no number: a note below the table, if any cell shows a dash."""


@dataclass(frozen=True)
class Code:
    """A block of code with a button that copies it."""

    text: str = field(repr=False)
    caption: str = ""
    fold: str = "open"
    """open, or closed: collapsed under its caption."""


@dataclass(frozen=True)
class Image:
    """A PNG image."""

    name: str
    """File name without a suffix."""
    caption: str
    png: bytes = field(repr=False)


@dataclass(frozen=True)
class Gallery:
    """Pictures side by side where the screen is wide enough."""

    pictures: Sequence[Picture | Image]
    size: str = "small"
    """On a wide screen: small for three in a row, large for two."""


Content = str | Table | Code | Picture | Image | Gallery


@dataclass(frozen=True)
class Section:
    """A heading with its contents: paragraphs (strings), tables, pictures, code."""

    title: str
    parts: Sequence[Content] = field(repr=False)


@dataclass(frozen=True, repr=False)
class Page:
    """A page as plain data; `reszoo.report.write.write` writes it into a folder.

    Example:
        >>> from reszoo.report.page import Page, Section
        >>> Page("Results", "Two networks.", [Section("Scores", ["0.91 and 0.93"])])
        Page('Results', 1 section, 0 pictures)
    """

    title: str
    lead: str
    """An introductory paragraph with the main result."""
    sections: Sequence[Section]
    facts: Mapping[str, str] = field(default_factory=dict)
    """Name -> value of a few key figures at the top."""
    foot: str = ""
    """A line at the end, such as versions and machine."""
    file: str = "index.html"
    numbers: Mapping[str, Any] | None = None
    """The contents as plain data, to be written as JSON beside the page; None writes nothing."""
    numbers_file: str = "numbers.json"

    def __repr__(self) -> str:
        sections = f"{len(self.sections)} section{'s' * (len(self.sections) != 1)}"
        pictures = f"{len(self.pictures)} picture{'s' * (len(self.pictures) != 1)}"
        return f"Page({self.title!r}, {sections}, {pictures})"

    def _repr_html_(self) -> str:
        rows = [*self.facts.items(), *(("section", section.title) for section in self.sections if section.parts)]
        return html_table((), rows, title=self.title, note=self.lead)

    @property
    def pictures(self) -> list[Picture | Image]:
        """The pictures of all sections, in order."""
        pictures: list[Picture | Image] = []
        for part in (part for section in self.sections for part in section.parts):
            contents = part.pictures if isinstance(part, Gallery) else [part]
            pictures += [content for content in contents if isinstance(content, (Picture, Image))]
        return pictures


def write_page(
    file: Path,
    *,
    title: str,
    lead: str,
    sections: Sequence[Section],
    facts: Mapping[str, str] | None = None,
    foot: str = "",
) -> Path:
    """Returns the path of a self-contained HTML page after writing it atomically.

    The page follows the reader's light or dark mode, fits phones and paper, and needs scripts only for sorting, copying
    and immediate hover text.

    Args:
        file: path of the page; its folder is created.
        title: of the page and the browser window.
        lead: an introductory paragraph with the main result.
        sections: the contents; empty sections are left out.
        facts: name -> value of a few key figures at the top.
        foot: a line at the end, such as versions and machine.
    """
    sections = [section for section in sections if section.parts]
    names = [f"section-{number}" for number in range(1, len(sections) + 1)]
    renderer = _Renderer()
    head = _node("header", _node("h1", title), _node("p", lead, css="lead"))
    if facts:
        head.append(
            _node("dl", *(_node("div", _node("dt", name), _node("dd", value)) for name, value in facts.items()))
        )
    links = [_node("a", section.title, href=f"#{name}") for section, name in zip(sections, names, strict=True)]
    main = _node("main", head, *([_node("nav", *links)] if len(links) > 2 else []))
    for section, name in zip(sections, names, strict=True):
        main.append(_node("section", _node("h2", section.title), *map(renderer.element, section.parts), id=name))
    if foot:
        main.append(_node("footer", foot))
    page = _node("html", _head(title), _node("body", main, _node("script", _source("page.js"))), lang="en")
    text = ElementTree.tostring(page, encoding="unicode", method="html")
    write_file(file, f"<!DOCTYPE html>\n{text}\n")
    return file


def number(value: float) -> str:
    """Returns a number as text for a table: 269,722 or 0.9542."""
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
    return files("reszoo.report").joinpath(name).read_text(encoding="utf-8")


def _node(tag: str, *inside: Element | str, css: str = "", **attributes: str) -> Element:
    """An element that contains texts and elements."""
    element = Element(tag, {name: printable(value) for name, value in attributes.items()})
    if css:
        element.set("class", css)
    for item in inside:
        if isinstance(item, Element):
            element.append(item)
        elif len(element):
            element[-1].tail = (element[-1].tail or "") + printable(item)
        else:
            element.text = (element.text or "") + printable(item)
    return element


class _Renderer:
    """Turns contents into elements; numbers the pictures, whose ids must be unique."""

    def __init__(self) -> None:
        self.count = 0

    def element(self, part: Content) -> Element:
        match part:
            case str():
                return _paragraph(part)
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
            image = part.svg(f"picture{self.count}-")
        else:
            data = base64.b64encode(part.png).decode()
            image = _node("img", src=f"data:image/png;base64,{data}", alt=part.caption)
        return _node("figure", image, _node("figcaption", part.caption))


def _paragraph(text: str) -> Element:
    """A paragraph; what stands between backticks is code."""
    pieces = text.split("`")
    if len(pieces) % 2 == 0:
        return _node("p", text)
    return _node("p", *(_node("code", piece) if index % 2 else piece for index, piece in enumerate(pieces)))


def _table(part: Table) -> Element:
    rows = [[_cell(content) for content in row] for row in part.rows]
    columns = [[row[index] for row in rows] for index in range(len(part.columns))]
    # A column without any value is one of numbers that could not be had.
    numeric = [
        any(cell.value is not None for cell in cells) or all(cell.text == MISSING for cell in cells)
        for cells in columns
    ]
    heads = [
        _node("th", column, css="number" if right else "", scope="col")
        for column, right in zip(part.columns, numeric, strict=True)
    ]
    body = _node("tbody")
    for index, row in enumerate(rows):
        data = map(_data, part.columns, row, numeric)
        body.append(_node("tr", *data, css="marked" if index in part.marked else ""))
    title = [_node("caption", part.caption)] if part.caption else []
    # Two columns of sentences fit a phone.
    phone = "stack cards" if part.phone == "stack" and len(part.columns) > 2 else part.phone
    table = _node("div", _node("table", *title, _node("thead", _node("tr", *heads)), body, css=phone), css="table")
    has_dash = any(cell.text == MISSING for row in rows for cell in row)
    return _node("div", table, _node("p", f"{MISSING} {part.dash}", css="note")) if part.dash and has_dash else table


def _cell(content: Cell | str | float | None) -> Cell:
    if isinstance(content, Cell):
        return content
    if content is None or (isinstance(content, float) and math.isnan(content)):
        return Cell(MISSING)
    return Cell(content) if isinstance(content, str) else Cell(number(content), content)


def _data(column: str, cell: Cell, numeric: bool) -> Element:
    attributes = {"data-column": column}
    if cell.value is not None and math.isfinite(cell.value):
        attributes |= {"data-value": repr(cell.value), "title": f"{cell.value:,}"}
    shape = "long" if len(cell.text) > LONG else ""
    if numeric:
        shape = "number"
    return _node("td", cell.text, css=" ".join(filter(None, (cell.tone, shape))), **attributes)


def _code(part: Code) -> Element:
    block = _node("pre", _node("code", part.text))
    if part.fold == "closed":
        return _node("details", _node("summary", part.caption), block)
    return _node("div", *([_node("p", part.caption, css="caption")] if part.caption else []), block)
