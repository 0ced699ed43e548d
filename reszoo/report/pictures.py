"""Creating and writing pictures: PNG for files, SVG with hover text for pages."""

from __future__ import annotations

import re
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from reszoo.atomic import atomic_write

# The color of text and axes; the SVG of a page has `currentColor` instead, to follow dark mode.
INK = "#0a0b0c"
PALETTE = ("#7b61c9", "#c2518f", "#8a8d2c", "#3aa3a0", "#8c6d4f", "#c9564b")
KINDS = {"residual": ("#2f7fd6", "o"), "plain": ("#e0792b", "s"), "control": ("#4c9a52", "D")}
HOVER = "hover: "
CONTROL = re.compile(r"[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def figure(width: float, height: float) -> Any:
    """Returns an empty Matplotlib figure of a size in inches, which needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(drawing)
    return drawing


def save(drawing: Any, file: Path, *, dots: int = 120) -> None:
    """Writes a figure as PNG with a resolution in dots per inch."""
    with atomic_write(file) as temporary:
        temporary.write_bytes(png(drawing, dots=dots))


def png(drawing: Any, *, dots: int = 120) -> bytes:
    """Returns a figure as PNG with a resolution in dots per inch."""
    stream = BytesIO()
    drawing.savefig(stream, dpi=dots, format="png", facecolor="white")
    return stream.getvalue()


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
            with atomic_write(file) as temporary:
                temporary.write_bytes(self.source().replace(b"currentColor", INK.encode()))
        else:
            save(self.figure, file, dots=180)

    def source(self) -> bytes:
        """Returns the standalone SVG, with hover text as `<title>` elements."""
        image = self.svg()
        image.set("xmlns", "http://www.w3.org/2000/svg")
        return ElementTree.tostring(image, encoding="utf-8")

    def svg(self, prefix: str = "") -> ElementTree.Element:
        """Returns the SVG as an element of a page, without namespaces; `prefix` makes its ids unique on the page."""
        import matplotlib

        stream = BytesIO()
        with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": self.name}):
            self.figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
        text = stream.getvalue().decode().replace(INK, "currentColor").replace("'DejaVu Sans', ", "")
        image = ElementTree.fromstring(text)
        for node in image.iter():
            _simplify(node, prefix)
        for metadata in image.findall("metadata"):  # it contains URLs of licenses
            image.remove(metadata)
        for size in ("width", "height", "version"):  # the page decides the width; the viewBox keeps the aspect ratio
            image.attrib.pop(size, None)
        image.set("style", f"max-width: {self.figure.get_figwidth() * 115:.0f}px")
        image.set("role", "img")
        image.set("aria-label", printable(self.caption))
        return image


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


def style(kind: str, index: int = 0) -> tuple[str, str]:
    """Returns color and marker of a family of networks: residual, plain and control look the same in every picture."""
    return KINDS.get(kind) or (PALETTE[index % len(PALETTE)], "o")


def panel(title: str, *, ylabel: str, xlabel: str = "", width: float = 4.4, height: float = 3.3) -> Any:
    """Returns the axes of a figure with one panel, in the colors of the page; its `.figure` is the figure."""
    axis = figure(width, height).subplots()
    axis.set_title(literal(title), color=INK, fontsize=11, loc="left", fontweight="bold")
    axis.set_xlabel(literal(xlabel), color=INK)
    axis.set_ylabel(literal(ylabel), color=INK)
    axis.tick_params(colors=INK, which="both", labelsize=9)
    axis.grid(color=INK, alpha=0.13, linewidth=0.8)
    axis.set_axisbelow(True)
    for side, spine in axis.spines.items():
        spine.set_edgecolor(INK)
        spine.set_alpha(0.5)
        spine.set_visible(side in ("left", "bottom"))
    return axis


def legend(axis: Any) -> None:
    """Adds a legend to a panel with labels: inside it, or below it where the labels need more space."""
    handles, labels = axis.get_legend_handles_labels()
    options = {"frameon": False, "labelcolor": INK, "fontsize": 9}
    if len(labels) > 4 or any(len(label) > 20 for label in labels):
        width, height = axis.figure.get_size_inches()
        axis.figure.set_size_inches(width, height + 0.2 * len(labels))
        axis.figure.legend(handles, labels, loc="outside lower left", **options)
    elif labels:
        axis.legend(**options)
