"""How every picture is made and written: PNG for files, SVG with hover text for pages."""

from __future__ import annotations

import re
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from reszoo.atomic import renamed_when_whole

# Text and axes are drawn in this near-black; a page's SVG gets `currentColor` in its place, to follow dark mode.
INK = "#0a0b0c"
PALETTE = ("#7b61c9", "#c2518f", "#8a8d2c", "#3aa3a0", "#8c6d4f", "#c9564b")
KINDS = {"residual": ("#2f7fd6", "o"), "plain": ("#e0792b", "s"), "control": ("#4c9a52", "D")}
HOVER = "hover: "
CONTROL = re.compile(r"[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def figure(width: float, height: float) -> Any:
    """Returns an empty figure of so many inches, drawn without a screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(made)
    return made


def save(made: Any, file: Path, *, dots: int = 120) -> None:
    """Writes a figure as PNG of so many dots an inch."""
    with renamed_when_whole(file) as temporary:
        temporary.write_bytes(png(made, dots=dots))


def png(made: Any, *, dots: int = 120) -> bytes:
    """Returns a figure as PNG of so many dots an inch."""
    stream = BytesIO()
    made.savefig(stream, dpi=dots, format="png", facecolor="white")
    return stream.getvalue()


@dataclass(frozen=True)
class Picture:
    """A picture for a page: it becomes an SVG that follows the page's colours, and a PNG beside it."""

    name: str
    """Its file name without a suffix."""
    caption: str
    """What is to be seen, in a sentence."""
    figure: Any
    """The matplotlib figure."""

    def save(self, file: Path) -> None:
        """Writes the picture as `.svg` or as PNG, by the name of the file."""
        if file.suffix == ".svg":
            with renamed_when_whole(file) as temporary:
                temporary.write_bytes(self.source().replace(b"currentColor", INK.encode()))
        else:
            save(self.figure, file, dots=180)

    def source(self) -> bytes:
        """Returns the SVG by itself, with its hover text as `<title>` elements."""
        drawn = self.svg()
        drawn.set("xmlns", "http://www.w3.org/2000/svg")
        return ElementTree.tostring(drawn, encoding="utf-8")

    def svg(self, prefix: str = "") -> ElementTree.Element:
        """Returns the SVG as an element for a page, free of namespaces; ids begin with `prefix`: a page has several."""
        import matplotlib

        stream = BytesIO()
        with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": self.name}):
            self.figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
        text = stream.getvalue().decode().replace(INK, "currentColor").replace("'DejaVu Sans', ", "")
        drawn = ElementTree.fromstring(text)
        for node in drawn.iter():
            _simplify(node, prefix)
        for unwanted in drawn.findall("metadata"):  # licence terms as addresses of the network
            drawn.remove(unwanted)
        for size in ("width", "height", "version"):  # the page's width decides; the viewBox keeps the shape
            drawn.attrib.pop(size, None)
        drawn.set("style", f"max-width: {self.figure.get_figwidth() * 115:.0f}px")
        drawn.set("role", "img")
        drawn.set("aria-label", printable(self.caption))
        return drawn


def _simplify(node: ElementTree.Element, prefix: str) -> None:
    """Takes the namespaces off a node, makes its references the page's own, turns a hover id into a `<title>`."""
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
    """Gives something drawn a text to be shown under the pointer."""
    artist.set_gid(HOVER + printable(text).replace("\n", "\u2028"))  # an attribute cannot hold a line break


def printable(text: str) -> str:
    """Returns a text without the characters that XML has no way to write."""
    return CONTROL.sub("\ufffd", text)


def literal(text: object) -> str:
    """Returns a text that matplotlib draws as it is: no formula between dollars, no label hidden by an underscore."""
    plain = printable(str(text)).replace("$", r"\$")
    return f" {plain}" if plain.startswith("_") else plain


def style(kind: str, place: int = 0) -> tuple[str, str]:
    """Returns colour and mark of a family of nets: residual, plain and control look the same on every picture."""
    return KINDS.get(kind) or (PALETTE[place % len(PALETTE)], "o")


def panel(title: str, *, ylabel: str, xlabel: str = "", width: float = 4.4, height: float = 3.3) -> Any:
    """Returns the axes of a figure of one panel, in the colours of the page; the figure is its `.figure`."""
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
    """Names what is labelled on a panel, where anything is: inside it, or below where the names need the room."""
    handles, labels = axis.get_legend_handles_labels()
    looks = {"frameon": False, "labelcolor": INK, "fontsize": 9}
    if len(labels) > 4 or any(len(label) > 20 for label in labels):
        wide, high = axis.figure.get_size_inches()
        axis.figure.set_size_inches(wide, high + 0.2 * len(labels))
        axis.figure.legend(handles, labels, loc="outside lower left", **looks)
    elif labels:
        axis.legend(**looks)
