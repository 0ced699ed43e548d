"""A page of every kind, from made-up results: structure, and its looks in a browser on a desk and on a phone."""

import html
import json
import re
from xml.etree import ElementTree

import pytest
from pages import PAGES, diagnosis, profile
from test_page import Reader, chromium, read  # noqa: F401

from reszoo.diagnosis.measures.result import control_text
from reszoo.report.page import POLICY, Picture, Table
from reszoo.report.write import write
from reszoo.training.trained import Trained

NAMES = list(PAGES)
COMPLETE = ("trained", "evaluation")


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Name of a kind -> its page as data and its file."""
    written = {}
    for name, page in PAGES.items():
        folder = tmp_path_factory.mktemp(name)
        written[name] = page(folder), folder
    # Only some with a PNG of every picture, which takes most of the time.
    return {
        name: (page, write(page, folder if name in COMPLETE else folder / page.file))
        for name, (page, folder) in written.items()
    }


@pytest.mark.parametrize("name", NAMES)
def test_page_loads_nothing_and_describes_every_picture(name, pages):
    page, file = pages[name]
    text, parsed = file.read_text("utf-8"), read(file)
    assert not re.search(r"https?:", text) and POLICY in html.unescape(text)
    ids = [value for _, key, value in parsed.attributes if key == "id"]
    assert len(ids) == len(set(ids))
    drawn = re.findall(r"<svg .*?</svg>", text, re.DOTALL)
    assert len(drawn) + text.count("<img ") == len(page.pictures)
    assert len([*file.parent.glob("*.png")]) == len(page.pictures) * (name in COMPLETE)
    for source in drawn:
        image = ElementTree.fromstring(source)
        assert image.get("role") == "img" and image.get("aria-label")[-1] == "."
        assert image.get("viewBox") and "width" not in image.attrib
        # No white ground in dark mode, and every color is one of the page.
        assert not re.search(r"(fill|stroke): *(#|white)", source), re.search(r"(fill|stroke): *(#|white).{9}", source)
    assert all(value for tag, key, value in parsed.attributes if (tag, key) == ("img", "alt"))


@pytest.mark.parametrize("name", NAMES)
def test_page_shows_no_nan_and_no_code_words(name, pages):
    parsed = read(pages[name][1])
    shown = parsed.text(*({*parsed.texts} - {"script", "style", "code", "title"}))
    assert not re.search(r"\b[nN]a[nN]\b|\bNone\b|r2, random|log10 ratio|\{|\}", shown), shown
    assert parsed.texts["h1"] and "\n\n" not in parsed.text("h1")


@pytest.mark.parametrize("name", NAMES)
def test_whole_things_have_whole_ticks_and_no_panel_is_empty(name, pages):
    for picture in pages[name][0].pictures:
        if isinstance(picture, Picture):
            for axis in picture.figure.axes:
                picture.figure.draw_without_rendering()
                assert axis.has_data(), picture.name
                low, high = sorted(axis.get_xlim())
                ticks = [tick for tick in axis.get_xticks() if low <= tick <= high]
                if axis.get_xlabel() in ("epoch", "block", "layers", "step", "examples", "activation"):
                    assert ticks and all(float(tick).is_integer() for tick in ticks), (picture.name, ticks)
                names = [label.get_text() for side in (axis.xaxis, axis.yaxis) for label in side.get_ticklabels()]
                assert not any("$" in name or "{" in name for name in names), names


def test_diagnosis_is_led_by_a_sentence(pages):
    lead = pages["diagnosis"][0].lead
    assert "1 of 5 measurements strained: gradient profile; 1 cause of failure: learning rate" in lead
    healthy = profile(0, level="healthy")
    assert control_text(healthy) == "labels shuffled: 0.98; zero-scaled residual blocks: 1"
    assert diagnosis(None).lead == lead


def test_a_dash_has_a_reason(pages):
    _page, file = pages["evidence"]
    assert "\N{EN DASH}" in read(file).text("td") and "\N{EN DASH} undefined" in read(file).text("p")


def test_run_page_continues_the_run(pages):
    _page, file = pages["trained"]
    code = read(file).text("code")
    assert f"reszoo train --continue {file.parent} --epochs 24" in code and "--data digits" in code
    assert file.name == "report.html" and (file.parent / "curves.png").is_file()


@pytest.mark.parametrize(("monitor", "best"), [("auto", 2), ("loss", 1)])
def test_run_page_shows_the_best_epoch_of_the_recipe_s_metric(pages, monitor, best):
    _page, file = pages["trained"]
    row = {"accuracy": 0.5, "loss": 1.0, "penalty": 0.0, "learning_rate": 0.1}
    history = [
        {"epoch": 1, **row, "val_accuracy": 0.5, "val_loss": 0.2},
        {"epoch": 2, **row, "val_accuracy": 0.6, "val_loss": 0.3},
    ]
    page = Trained(file.parent, None, history, None, (), monitor).page()
    assert page.facts["best epoch"] == f"{best} of 2"
    assert {"auto": "validation accuracy", "loss": "validation loss"}[monitor] in page.facts
    assert page.sections[-1].parts[0].marked == {best - 1}


def test_quickstart_page_has_references_and_command(pages):
    parsed = read(pages["quickstart"][1])
    assert "He et al. (2016). Deep Residual Learning for Image Recognition." in parsed.text("p")
    assert "@inproceedings{he2016deep," in parsed.text("code") and "pages = {770--778}" in parsed.text("code")
    assert "reszoo quickstart --depths 20 44 --seed 0" in parsed.text("code")


def test_every_column_of_the_times_holds_what_its_heading_says(pages):
    page, _ = pages["bench"]
    table = next(part for part in page.sections[0].parts if isinstance(part, Table))
    timing = page.numbers["timings"][0]
    assert dict(zip(table.columns, table.rows[0], strict=True)) == {
        "format": timing["format"],
        "batch": timing["batch"],
        "median (ms)": timing["milliseconds"],
        "least (ms)": timing["least"],
        "examples per second": timing["examples_per_second"],
        "load (s)": timing["load_seconds"],
        "memory (MB)": timing["megabytes"],
        "threads": timing["threads"],
    }


def test_an_html_file_is_written_alone(tmp_path, pages):
    page, _ = pages["audit"]
    assert write(page, tmp_path / "new" / "photos.html").name == "photos.html"
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["photos.html"]


PROBE = """<script>
addEventListener("load", () => setTimeout(() => {
  const numbers = (color) => (color.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const over = (top, alpha, below) => top.slice(0, 3).map((value, index) => alpha * value + (1 - alpha) * below[index]);
  const light = (color) => {
    const [r, g, b] = color.map((v) => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const ratio = (a, b) => (Math.max(light(a), light(b)) + .05) / (Math.min(light(a), light(b)) + .05);
  const ground = (element) => {
    let layers = [], one = element;
    for (; one; one = one.parentElement) {
      const [r, g, b, a = 1] = numbers(getComputedStyle(one).backgroundColor);
      if (a) layers.push([[r, g, b], a]);
    }
    return layers.reverse().reduce((below, [color, a]) => over(color, a, below), [255, 255, 255]);
  };
  let least = [99, ""], contrast = [99, ""];
  const walker = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement, text = walker.currentNode.textContent.trim();
    const box = element.getBoundingClientRect();
    if (!text || !box.width || element.closest("style, title")) continue;
    const style = getComputedStyle(element), svg = element.closest("svg");
    let size = parseFloat(style.fontSize), color = numbers(style.color), below = ground(element);
    if (svg) {
      size *= svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
      color = numbers(style.fill);
      for (const cell of svg.querySelectorAll("path")) {
        const place = cell.getBoundingClientRect(), look = getComputedStyle(cell);
        const x = box.x + box.width / 2, y = box.y + box.height / 2;
        const inside = place.left < x && x < place.right && place.top < y && y < place.bottom;
        if (inside && look.fill !== "none" && cell.getAttribute("d").length < 200)
          below = over(numbers(look.fill), Number(look.opacity) * Number(look.fillOpacity), below);
      }
    }
    if (size < least[0]) least = [size, text];
    const seen = ratio(color.slice(0, 3), below);
    if (seen < contrast[0]) contrast = [seen, text];
  }
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const wide = root.scrollWidth - root.clientWidth;
  parent.postMessage({least, contrast, dark, wide, name: NAME, width: innerWidth}, "*");
}, 50));
</script></body>"""

HARNESS = """<!DOCTYPE html><meta name="color-scheme" content="light dark"><body><script>
const results = [];
addEventListener("message", (event) => {
  results.push(event.data);
  document.body.dataset.probe = JSON.stringify(results);
});
for (const width of [1280, 500]) for (const file of FILES) {
  const frame = document.createElement("iframe");
  frame.width = width; frame.height = 900; frame.src = file; frame.style.border = 0;
  document.body.append(frame);
}
</script></body>"""


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_every_page_in_a_browser(mode, tmp_path, chromium, pages):  # noqa: F811
    """No page is wider than the window; letters can be read; nothing is logged."""
    for name, (_, file) in pages.items():
        text = file.read_text("utf-8").replace("</body>", PROBE.replace("NAME", json.dumps(name)))
        (tmp_path / f"{name}.html").write_text(text, "utf-8")
    harness = tmp_path / "all.html"
    harness.write_text(HARNESS.replace("FILES", json.dumps([f"{name}.html" for name in pages])))
    scheme = f"--blink-settings=preferredColorScheme={int(mode == 'light')}"
    page, errors = chromium(harness, "--dump-dom", "--window-size=1300,900", scheme)
    assert not errors
    body = {name: value for tag, name, value in Reader(page).attributes if tag == "body"}
    results = json.loads(body["data-probe"])
    assert {(one["name"], one["width"]) for one in results} == {
        (name, width) for name in pages for width in (1280, 500)
    }
    for one in results:
        where = f"{one['name']} at {one['width']}, {mode}"
        assert one["dark"] == (mode == "dark"), where
        assert one["wide"] <= 0, f"{where}: {one['wide']} px too wide"
        assert one["least"][0] >= 10, f"{where}: {one['least']}"
        assert one["contrast"][0] >= 4.5, f"{where}: {one['contrast']}"
