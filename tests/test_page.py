"""Pages: self-contained, escaped, complete, with pictures; also in a browser."""

import base64
import html
import json
import math
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from scipy.stats import f_oneway

from reszoo import files
from reszoo.report import pictures
from reszoo.report.costs import Point, Step, best_so_far, draw_front, draw_progress
from reszoo.report.effects import Sample, draw_effect, draw_interaction, groups, shares
from reszoo.report.lines import Line, draw_lines
from reszoo.report.page import Cell, Code, Gallery, Image, Section, Table, write_page
from reszoo.report.search import search_page
from reszoo.report.trials import Row, scores_at_common_epoch
from reszoo.report.write import write

PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==")
VOID = {"meta", "link", "br", "img", "hr", "input"}
HOSTILE = '<script>alert("1")</script>&amp; $x_{$ _y \\frac\x00'


class Reader(HTMLParser):
    """A parsed page; fails at a closing tag without an opening one."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.attributes, self.texts = [], [], [], {}
        self.feed(page)
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        self.texts.setdefault(self.open[-1] if self.open else "", []).append(data)

    def text(self, *tags):
        return "\n".join(text for tag in tags or self.texts for text in self.texts.get(tag, []))


def read(file):
    return Reader(Path(file).read_text())


def row(number, *, kind="residual", state="complete", score=0.9, depth=2, width=16, **more):
    score = None if score is None else score + number / 1000
    curve = (score / 2, score) if score else ()
    values = {"depth": depth, "width": width}
    costs = {"params": 1_234 * depth * width + number, "macs": 56_789 * depth * width + number}
    fields = {
        "values": values,
        "score": score,
        "epochs": len(curve),
        "curve": curve,
        "yaml": f"net_{number}:\n",
        **costs,
    }
    return Row(number=number, state=state, kind=kind, **{**fields, **more})


ROWS = [
    row(number, kind=kind, depth=depth, width=width, score=0.5 + (0.1 if kind == "residual" else -0.1) * depth / 3)
    for number, (kind, depth, width) in enumerate(
        (kind, depth, width) for kind in ("residual", "plain") for depth in (1, 2, 3) for width in (8, 16)
    )
]
ROWS += [
    row(90, state="pruned", score=0.3, latency=0.00321, curve=(0.3,), epochs=1),
    row(91, state="failed", score=None, note="MemoryError: out of memory"),
    row(92, state="diverged", score=math.nan, curve=(0.2, math.nan)),
]


@pytest.fixture(scope="module")
def search_report(tmp_path_factory):
    """The page of all rows."""
    folder = tmp_path_factory.mktemp("report")
    facts, fronts = {"Feasible draws": "61 %"}, {"params": [0, 4], "macs": [0, 90], "activations": [1]}
    return write(search_page(rows=ROWS, fronts=fronts, facts=facts, foot="versions"), folder)


def test_search_page_is_self_contained(search_report):
    page = read(search_report)
    for tag, name, value in page.attributes:
        if name in ("src", "href", "srcset", "data", "action", "poster"):
            assert value.startswith(("#", "data:")), f"<{tag} {name}={value}>"
        assert "url(" not in (value or "").replace("url(#", ""), f"<{tag} {name}={value}>"
    assert not set(page.tags) & {"link", "iframe", "object", "embed", "base"}
    assert not re.search(r"@import|https?:", page.text())
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids)), "an id twice on the page"
    pointed = re.findall(r"url\(#([^)]*)\)", search_report.read_text()) + [
        value[1:] for _, name, value in page.attributes if name == "href"
    ]
    assert pointed and set(pointed) <= set(ids), "a reference to what is not there"
    pictures = [file for file in search_report.parent.iterdir() if file != search_report]
    assert [file.read_bytes()[:4] for file in pictures] == [b"\x89PNG"] * len(pictures)
    assert {"pareto_macs.png", "interaction_plain.png", "curves_residual.png"} <= {file.name for file in pictures}


def test_page_contains_every_number_of_the_rows(search_report):
    page = read(search_report)
    values = [value for tag, name, value in page.attributes if (tag, name) == ("td", "data-value")]
    for trial in ROWS:
        for number in (trial.number, trial.params, trial.macs, trial.epochs, *trial.values.values()):
            assert repr(number) in values
        if trial.scored:
            assert repr(trial.score) in values and f"{trial.score:.4g}" in page.text("td")
            assert f"trial {trial.number}: {trial.kind}, {trial.state}" in page.text("title")
        else:
            assert not trial.scored and f"trial {trial.number}:" not in page.text("title")
    assert "3.21 ms" in page.text("td") and "MemoryError: out of memory" in page.text("td")
    best = max((trial for trial in ROWS if trial.state == "complete"), key=lambda trial: trial.score)
    assert best.yaml in page.text("code")
    assert f"The best is trial {best.number}, a residual network" in page.text("p")
    assert "Parameters: all trials with a score; on the Pareto front: 2 residual." in page.text("figcaption")
    assert "On a Pareto front: trial 90" in page.text("summary") and "On a Pareto front: trial 1," not in page.text(
        "summary"
    )


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_best_trial_follows_the_direction(tmp_path, direction):
    page = read(write(search_page(rows=ROWS[:3], direction=direction), tmp_path))
    best = (max if direction == "maximize" else min)(ROWS[:3], key=lambda trial: trial.score)
    assert f"The best is trial {best.number}," in page.text("p")


def test_heat_map_of_the_two_axes_that_matter(tmp_path):
    page = read(write(search_page(rows=ROWS), tmp_path))
    assert {"residual: depth and width", "residual: width and depth"} & {*page.text("text").split("\n")}
    rows = [replace(row, values={"width" if row.number % 2 else "height": row.number}) for row in ROWS]
    page = read(write(search_page(rows=rows), tmp_path))
    assert re.search("No trial has both (width and height|height and width).", page.text("p"))


def test_hostile_names_are_escaped(tmp_path):
    rows = [
        replace(
            trial, kind=HOSTILE if trial.kind == "plain" else "_kind", values={HOSTILE: HOSTILE * (place % 2), "_": 1}
        )
        for place, trial in enumerate(ROWS)
    ]
    rows = [replace(trial, state=HOSTILE, note=HOSTILE, yaml=HOSTILE) for trial in rows[:3]] + rows[3:]
    file = write(search_page(rows=rows, title=HOSTILE, score=HOSTILE, facts={HOSTILE: HOSTILE}, foot=HOSTILE), tmp_path)
    page = read(file)
    assert page.tags.count("script") == 1
    shown = HOSTILE.replace("\x00", "\ufffd")
    assert html.escape(shown, quote=False) in file.read_text()
    for tag in ("h1", "dd", "footer", "td", "text", "title", "h2"):
        assert shown.lower() in page.text(tag).lower(), tag


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [row(0)],
        [row(0, values={}, curve=())],
        [row(0, state="failed", score=None), row(1, state="failed", score=None)],
        [row(0, state="pruned", score=0.1)],
        [row(0, score=math.nan), row(1, score=math.inf)],
        [row(0), row(1)],
        [row(0, params=0, macs=0), row(1, params=0, macs=0, latency=0.0)],
        [row(0, score=0.0)],
    ],
    ids=["none", "one", "bare", "failed", "pruned", "diverged", "same", "free", "zero"],
)
def test_nearly_empty_studies(tmp_path, rows):
    page = read(write(search_page(rows=rows), tmp_path))
    assert f"{len(rows)} trials" in page.text("p")
    assert ("No trial has been run." in page.text("p")) == (not rows)
    any_score = any(trial.score is not None and math.isfinite(trial.score) for trial in rows)
    assert ("No trial has a score." in page.text("p")) == (bool(rows) and not any_score)
    assert page.tags.count("tr") == len(rows) + bool(rows)
    assert ("svg" in page.tags) == any_score


def test_front_is_drawn_from_its_numbers():
    points = [Point(number, cost, 0.5, "plain", "") for number, cost in enumerate((3, 1, 2))]
    labels = {"name": "n", "title": "t", "caption": "c", "xlabel": "x", "ylabel": "y"}
    (line,) = [
        line
        for line in draw_front(points, front=[0, 2], **labels).figure.axes[0].lines
        if line.get_label() == "Pareto front"
    ]
    assert [*line.get_xdata()] == [2, 3, 3]
    assert "Pareto front" not in draw_front(points, front=(), **labels).svg()


def test_trials_are_compared_at_a_common_epoch():
    long, short = row(0, curve=(0.1, 0.2, 0.9)), row(1, curve=(0.3,), state="pruned")
    rows, text = scores_at_common_epoch([long, row(2, curve=(0.2, 0.4, 0.8)), short])
    assert [(trial.number, trial.score) for trial in rows] == [(0, 0.9), (2, 0.8)]
    assert "epoch 3, which 2 of 3" in text
    rows, text = scores_at_common_epoch([long, short, short])
    assert [trial.score for trial in rows] == [0.1, 0.3, 0.3]


def test_explained_variance_of_effects():
    clear = [Sample((value,), "plain", value + noise) for value in (1, 2, 3) for noise in (0.01, -0.01)]
    idle = [Sample((value,), "residual", noise) for value in (1, 2, 3) for noise in (0.01, -0.01)]
    explained = shares([*clear, *idle])
    assert explained["plain"] > 0.99 and explained["residual"] == 0
    assert shares([Sample((value,), "plain", value) for value in range(5)]) == {"plain": 0}, (
        "a group for each explains all"
    )
    parts = ((1, 3, 2), (4, 1, 5), (5, 9, 6), (2, 3, 8))
    ratio = f_oneway(*parts).statistic
    samples = [Sample((place,), "plain", score) for place, scores in enumerate(parts) for score in scores]
    assert shares(samples) == {"plain": pytest.approx(3 * (ratio - 1) / (3 * ratio + 8))}
    assert [group.label for group in groups([*clear, Sample(("word",), "plain", 0)])] == ["1", "2", "3", "word"]
    many = [Sample((10**-power,), "plain", power) for power in (place / 10 for place in range(60))]
    parts = groups(many)
    assert [len(part.samples) for part in parts] == [10] * 6
    ends = [end(sample.at for sample in part.samples) for part in parts for end in (min, max)]
    assert ends == sorted(ends)


SAMPLES = [Sample((depth, width), "plain", depth / width) for depth in (1, 2) for width in (3, 4)]
DRAWN = {
    "front": lambda: draw_front(
        [Point(1, 2.0, 3.0, "plain", "a < b")], front=[1], name="n", title="t", caption="c", xlabel="x", ylabel="y"
    ),
    "effect": lambda: draw_effect(SAMPLES, dimension="depth", name="n", ylabel="y"),
    "interaction": lambda: draw_interaction(SAMPLES, dimensions=("a", "b"), name="n", title="t", score="s"),
    "lines": lambda: draw_lines([Line("one", (1, 2))], name="n", title="t", caption="c", xlabel="x", ylabel="y"),
}


@pytest.mark.parametrize("draw", DRAWN.values(), ids=list(DRAWN))
def test_pictures_as_svg_with_hover_text_and_as_png(tmp_path, draw):
    picture = draw()
    picture.save(tmp_path / "one.svg")
    picture.save(tmp_path / "one.png")
    drawn = ElementTree.parse(tmp_path / "one.svg").getroot()
    space = "{http://www.w3.org/2000/svg}"
    assert drawn.tag == f"{space}svg" and drawn.get("viewBox")
    marks = [node for node in drawn.iter() if node.get("class") == "hover"]
    assert marks and all(mark[0].tag == f"{space}title" and mark[0].text for mark in marks)
    assert (tmp_path / "one.png").read_bytes()[:4] == b"\x89PNG"
    assert "currentColor" not in (tmp_path / "one.svg").read_text()
    assert draw().source() == draw().source(), "the same picture twice differs"


def test_legend_shows_families_with_a_leading_underscore():
    points = [Point(1, 2.0, 3.0, "_kind", "text")]
    drawn = draw_front(points, front=[1], name="n", title="t", caption="c", xlabel="x", ylabel="y").svg()
    assert "_kind" in [node.text.strip() for node in drawn.iter("text")]


def test_lines_report_values_that_cannot_be_drawn():
    values = {"vanishing": (1, 1e-20, 0.0), "exploding": (1, math.inf, math.nan), "fine": (1, 2, 3)}
    lines = [Line(name, numbers) for name, numbers in values.items()]
    drawn = draw_lines(lines, name="n", title="t", caption="c", xlabel="block", ylabel="norm", yscale="log").svg()
    titles = "\n".join(node.text for node in drawn.iter("title"))
    assert (
        "vanishing: cannot be drawn at 3 (0)" in titles and "exploding: cannot be drawn at 2 (inf), 3 (nan)" in titles
    )
    assert "\nfine" in titles and "fine:" not in titles
    names = " ".join(" ".join(drawn.itertext()).split())
    assert all(name in names for name in ("vanishing (1 not drawn)", "exploding (2 not drawn)", "fine"))


def test_lines_without_a_kind_have_different_looks():
    kinds = ("", "residual", "", "plain", "", "control", "")
    lines = [Line(f"line {number}", (1, number), kind=kind) for number, kind in enumerate(kinds)]
    picture = draw_lines(lines, name="n", title="t", caption="c", xlabel="x", ylabel="y")
    drawn = [line for line in picture.figure.axes[0].lines if line.get_linewidth() == 1.7]
    assert len({(line.get_color(), line.get_marker()) for line in drawn}) == len(kinds)


def test_text_between_backticks_is_code_and_two_columns_are_no_cards(tmp_path):
    pair = Table(["setting", "value"], [["batch", "what fits"], ["device", None]], phone="stack")
    wide = Table(["class", "F1", "AUC"], [["ant", 0.5, None]], phone="stack")
    file = tmp_path / "a.html"
    write_page(file, title="t", lead="l", sections=[Section("s", ["As `fast` is.", "5` wide", pair, wide])])
    text = file.read_text("utf-8")
    assert "<p>As <code>fast</code> is.</p>" in text and "<p>5` wide</p>" in text
    assert re.findall(r'<table class="([^"]*)"', text) == ["stack", "stack cards"]
    # A column without any value is one of numbers.
    assert re.search("<th [^>]*number[^>]*>AUC<", text) and re.search('<th scope="col">value<', text)


def test_a_page_of_claims(tmp_path):
    lines = [Line(kind, (1, 10, 100), kind=kind, low=(0.5, 5, 50), high=(2, 20, 200)) for kind in pictures.KINDS]
    drawn = draw_lines(
        lines, name="n", title="t", caption="c", xlabel="x", ylabel="y", xscale="log", yscale="log", reference=10
    )
    claims = Table(
        ["claim", "plain", "residual", "control", "published"],
        [["Gradients reach the first block", Cell("2.5e-8", 2.5e-8, "bad"), Cell("1.0", 1.0, "good"), 1.01, None]],
        phone="stack",
    )
    parts = [
        "Words.",
        claims,
        Gallery([drawn, Image("one", "a photograph", PIXEL)], "large"),
        drawn,
        Code("a: 1", "b", "closed"),
    ]
    page = read(
        write_page(
            tmp_path / "new" / "page.html", title="t", lead="l", sections=[Section("s", parts), Section("e", [])]
        )
    )
    assert page.tags.count("svg") == 2 and page.tags.count("img") == 1 and page.tags.count("section") == 1
    assert ("td", "class", "bad number") in page.attributes and "Words." in page.text("p")
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids)), "a picture shown twice has the same ids"


def test_page_is_written_atomically(tmp_path, monkeypatch):
    file = write_page(tmp_path / "page.html", title="first", lead="", sections=[])
    monkeypatch.setattr(files.os, "fsync", lambda _: (_ for _ in ()).throw(OSError("no space left")))
    with pytest.raises(OSError, match="no space"):
        write_page(file, title="second", lead="", sections=[])
    assert "first" in file.read_text() and list(tmp_path.iterdir()) == [file]


@pytest.fixture
def chromium(tmp_path):
    """Runs headless Chromium on a file and returns what it prints and logs."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("not installed: chromium")

    def run(file, *flags):
        command = [
            program,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
        ]
        command += [f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--virtual-time-budget=3000"]
        done = subprocess.run([*command, *flags, file.as_uri()], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]

    return run


PROBE = """<script>
const sizes = [...document.querySelectorAll("figure svg, figure img")].map((one) => one.getBoundingClientRect());
const mark = document.querySelector(".hover");
mark.dispatchEvent(new PointerEvent("pointermove", {clientX: 5, clientY: 5}));
document.querySelectorAll("th button")[3].click();
const trial = () => document.querySelector("tbody tr").cells[0].textContent;
const least = trial();
document.querySelectorAll("th button")[3].click();
document.body.dataset.probe = JSON.stringify({
  sizes: sizes.map((box) => Math.min(box.width, box.height)), tip: document.querySelector("#tip").textContent,
  least, most: trial(), wide: document.documentElement.scrollWidth - innerWidth,
});
</script></body>"""


def test_browser_draws_the_page_without_errors(tmp_path, chromium, search_report):
    probed = tmp_path / "probed.html"
    probed.write_text(search_report.read_text().replace("</body>", PROBE))
    page, errors = chromium(probed, "--dump-dom", "--window-size=500,900")
    assert not errors
    body = dict((name, value) for tag, name, value in Reader(page).attributes if tag == "body")["data-probe"]
    probe = json.loads(body)
    assert len(probe["sizes"]) == len([*search_report.parent.glob("*.png")]) and min(probe["sizes"]) > 100
    assert probe["tip"].startswith("trial ") and probe["wide"] <= 0
    assert (probe["least"], probe["most"]) == ("90", "5 (best)")


def test_browser_reports_errors(tmp_path, chromium):
    file = tmp_path / "broken.html"
    file.write_text('<script>throw Error("seen")</script><img src="http://127.0.0.1:9/none.png">')
    assert "seen" in "".join(chromium(file, "--dump-dom")[1]), "the test above would not see an error"


def test_best_so_far_counts_trials_trained_to_their_end():
    scores = ((0, 0.5, True), (1, 0.9, False), (2, 0.5, True), (3, 0.4, True), (4, 0.7, True))
    steps = [Step(number, 2.0, score, counts, "plain", "") for number, score, counts in scores]
    assert best_so_far(steps, lower=False) == [(2.0, 0.5), (10.0, 0.7)]
    assert best_so_far(steps, lower=True) == [(2.0, 0.5), (8.0, 0.4)]
    assert best_so_far([], lower=True) == []
    drawn = draw_progress(steps[:1], name="n", ylabel="y", yscale="linear", lower=True)
    assert "after 100% of it" in drawn.caption


def test_heat_map_shows_few_networks_as_points():
    samples = [Sample(at, "plain", 0.5) for at in ((1, 3), (1, 3), (1, 3), (2, 4), (2, 4))]
    picture = draw_interaction(samples, dimensions=("a", "b"), name="n", title="t", score="s", limits=(0, 1))
    (axis,) = picture.figure.axes
    assert [text.get_text() for text in axis.texts] == ["0.5\nn=3"] and len(axis.lines) == 2


def test_a_dimension_that_separates_the_families():
    samples = [Sample((word,), word, score) for word, score in (("a", 1), ("a", 2), ("b", 8), ("b", 9))]
    caption = draw_effect(samples, dimension="shortcut", name="n", ylabel="y").caption
    assert "of the variance of all networks, between a and b ones" in caption and "0% of" not in caption


def test_accuracies_are_drawn_as_errors(tmp_path):
    page = read(write(search_page(rows=ROWS, fronts={"macs": [0]}, examples=100, passes=10), tmp_path))
    assert "validation error" in page.text("text") and "validation accuracy" in page.text("text")
    assert "95 % interval" in page.text("p") and "0.436 to 0.628" in page.text("td")
    assert "ended early" in page.text("p")


def test_one_picture_where_parameters_and_macs_agree(tmp_path):
    search_page_ = search_page(rows=ROWS[:6], fronts={"macs": [0], "params": [0]})
    assert {"pareto_macs"} == {picture.name for picture in search_page_.pictures if "pareto" in picture.name}
