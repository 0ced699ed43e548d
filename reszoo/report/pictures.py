"""The style of every picture, and writing one: SVG that follows the colors of a page, PNG for files.

Colors are those of Okabe and Ito (2008), which color-blind readers can tell apart, darkened where a thin line would be
too light on white; a page replaces them by CSS variables with lighter ones for dark mode (page.css).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from reszoo.files import write_file

INK = "#0a0b0c"
"""The color of text and axes; the SVG of a page has `currentColor` instead."""
COLORS = {
    "blue": "#0072b2",
    "vermilion": "#d55e00",
    "green": "#009470",
    "purple": "#b85c8e",
    "orange": "#b07a00",
    "sky": "#3a96cc",
    "gray": "#6b7480",
}
"""Name of a CSS variable -> color on white."""
SIZE = 10
"""Points of the smallest letters. A picture of `WIDTH` is shown at 1.1 pixels a point or more."""
WIDTH, HEIGHT = 4.4, 3.2
HOVER = "hover: "
CONTROL = re.compile(r"[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Style(NamedTuple):
    """How a family of networks is drawn."""

    color: str
    marker: str
    dashes: Any = "solid"


_LONG, _MIXED, _DOTS = (0, (4, 1.6)), (0, (5, 1.5, 1, 1.5)), (0, (1, 1.4))
KINDS = {
    "residual": Style(COLORS["blue"], "o"),
    "plain": Style(COLORS["vermilion"], "s", _LONG),
    "control": Style(COLORS["green"], "D", _MIXED),
}
PALETTE = (
    Style(COLORS["purple"], "^"),
    Style(COLORS["orange"], "v", _LONG),
    Style(COLORS["sky"], "P", _MIXED),
    Style(COLORS["gray"], "X", _DOTS),
)


def style(kind: str, index: int = 0) -> Style:
    """Returns the style of a family of networks: residual, plain and control look the same in every picture."""
    return KINDS.get(kind) or PALETTE[index % len(PALETTE)]


@dataclass(frozen=True)
class Picture:
    """A picture for a page: an SVG that follows the colors of the page, and a PNG file beside it."""

    name: str
    """Its file name without a suffix."""
    caption: str
    """One sentence that says what the picture shows."""
    figure: Any
    """The Matplotlib figure."""

    def save(self, file: Path) -> None:
        """Writes the picture as SVG or PNG, by the suffix of the file."""
        if file.suffix == ".svg":
            write_file(file, self.source())
        else:
            save(self.figure, file)

    def source(self) -> bytes:
        """Returns the standalone SVG, with hover text as `<title>` elements."""
        image = self._element("")
        image.set("xmlns", "http://www.w3.org/2000/svg")
        return ElementTree.tostring(image, encoding="utf-8")

    def svg(self, prefix: str = "") -> ElementTree.Element:
        """Returns the SVG as an element of a page, without namespaces; `prefix` makes its ids unique on the page."""
        image = self._element(prefix)
        variables = {color: f"var(--{name})" for name, color in COLORS.items()} | {INK: "currentColor"}
        for node in image.iter():
            for key in ("style", "fill", "stroke"):
                if value := node.get(key):
                    node.set(key, _COLOR.sub(lambda match: variables.get(match[0], match[0]), value))
        width = self.figure.get_figwidth()
        # A wide picture scrolls on a narrow screen: its letters would be too small.
        least = f"min-width: {width * 80:.0f}px; " if width > 5.6 else ""
        image.set("style", f"{least}max-width: {width * 115:.0f}px")
        return image

    def _element(self, prefix: str) -> ElementTree.Element:
        import matplotlib

        stream = BytesIO()
        with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": self.name}):
            self.figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
        image = ElementTree.fromstring(stream.getvalue().decode().replace("'DejaVu Sans', ", ""))
        for node in image.iter():
            _simplify(node, prefix)
        for metadata in image.findall("metadata"):  # it contains URLs of licenses
            image.remove(metadata)
        for size in ("width", "height", "version"):  # the page decides the width; the viewBox keeps the aspect ratio
            image.attrib.pop(size, None)
        image.set("role", "img")
        image.set("aria-label", printable(self.caption))
        return image


_COLOR = re.compile(r"#[0-9a-f]{6}\b")


def _simplify(node: ElementTree.Element, prefix: str) -> None:
    """Removes the namespaces of a node, prefixes its ids and references, and turns a hover id into a `<title>`."""
    node.tag = node.tag.rpartition("}")[2]
    for key, value in list(node.attrib.items()):
        del node.attrib[key]
        key = key.rpartition("}")[2]
        if key == "id" and value.startswith(HOVER):
            title = ElementTree.Element("title")
            title.text = value.removeprefix(HOVER).replace("\u2028", "\n")
            node.insert(0, title)
            key, value = "class", "hover"
        elif key == "id" or (key == "href" and value.startswith("#")):
            value = f"#{prefix}{value[1:]}" if key == "href" else prefix + value
        node.set(key, value.replace("url(#", f"url(#{prefix}"))


def figure(width: float, height: float) -> Any:
    """Returns an empty Matplotlib figure of a size in inches, which needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(drawing)
    return drawing


def save(drawing: Any, file: Path) -> None:
    """Writes a figure as PNG."""
    stream = BytesIO()
    drawing.savefig(stream, dpi=180, format="png", facecolor="white")
    write_file(file, stream.getvalue())


def hover(artist: Any, text: str) -> None:
    """Sets the hover text of a Matplotlib artist."""
    artist.set_gid(HOVER + printable(text).replace("\n", "\u2028"))  # an attribute cannot hold a line break


def printable(text: str) -> str:
    """Returns a text with the characters that XML cannot represent replaced by U+FFFD."""
    return CONTROL.sub("\ufffd", text)


def literal(text: object) -> str:
    """Returns a text that Matplotlib draws literally: no math between dollars, no label hidden by an underscore."""
    escaped = printable(str(text)).replace("$", r"\$")
    return f" {escaped}" if escaped.startswith("_") else escaped
