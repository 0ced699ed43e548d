"""The page of a run: curves, results with their worth, recipe, data, and the commands that go on from here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any

from reszoo.arch.cost import cost
from reszoo.arch.ops import size
from reszoo.arch.plan import plan
from reszoo.arch.spec import NetSpec
from reszoo.report.lines import Line, draw_lines
from reszoo.report.page import Code, Content, Gallery, Page, Section, Table
from reszoo.report.pictures import Picture
from reszoo.training.card import NAMES
from reszoo.training.recipes import Recipe
from reszoo.training.run_folder import BEST, SETTINGS
from reszoo.training.selection import best_of, metric_of

Row = Mapping[str, float]


def run_page(
    folder: Path, *, lead: str, history: Sequence[dict[str, float]], test: float | None, remarks: Sequence[str]
) -> Page:
    """Returns the page of a finished run.

    Args:
        folder: of the run.
        lead: the result in a sentence.
        history: metrics of every epoch.
        test: test accuracy of the final weights.
        remarks: what the results are worth.
    """
    settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    spec = NetSpec.model_validate_json(json.dumps(settings["spec"]))
    total, data = cost(plan(spec)), settings["data"]
    best = best_of(history)
    name = metric_of(best).name
    facts = {NAMES[name]: f"{best[name]:.4f}"} | ({} if test is None else {"test accuracy": f"{test:.4f}"})
    facts |= {"best epoch": f"{best['epoch']:.0f} of {len(history)}", "parameters": f"{total.params:,}"}
    facts |= {"multiply-accumulates": f"{total.macs:,}", "input": str(size(spec.input_shape))}
    versions = ", ".join(f"{library} {version}" for library, version in settings["versions"].items())
    return Page(
        title=f"{spec.name} on {data['name']}",
        lead=lead,
        sections=[
            Section("What the result is worth", [f"{text[0].upper()}{text[1:]}." for text in remarks]),
            Section("Curves", [Gallery(_pictures(history, best), "large")]),
            Section("Data", _data(settings)),
            Section("Recipe", _recipe(settings)),
            Section("Continue from here", _commands(folder, settings, len(history))),
            Section("Every epoch", [_table(history, best)]),
        ],
        facts=facts,
        foot=f"{versions}, {settings['backend']}. All settings are in run.json.",
        file="report.html",
    )


def _pictures(history: Sequence[Row], best: Row) -> list[Picture]:
    """The losses as `curves`, and the metrics that have a value for training and for validation."""
    names = [name for name in history[0] if f"val_{name}" in history[0] and name != "loss"]
    main = metric_of(dict(best)).name.removeprefix("val_")
    names.sort(key=lambda name: name != main)
    pictures = [_picture(history, "loss", name="curves", label="loss, without the L2 penalty", scale="log")]
    pictures += [_picture(history, name, name=name, label=name.replace("_", " "), scale="linear") for name in names[:3]]
    if all("learning_rate" in row for row in history) and len(history) > 1:
        rates = Line("learning rate", [row["learning_rate"] for row in history])
        caption = "Learning rate after the last step of every epoch."
        title = "learning rate"
        pictures.append(
            draw_lines([rates], name="learning_rate", title=title, caption=caption, xlabel="epoch", ylabel=title)
        )
    return pictures


def _picture(history: Sequence[Row], metric: str, *, name: str, label: str, scale: str) -> Picture:
    words = {"training": metric, "validation": f"val_{metric}"}
    lines = [Line(word, [row.get(key, float("nan")) for row in history]) for word, key in words.items()]
    title = "loss" if metric == "loss" else label
    caption = f"{title.capitalize()} of every epoch; training values are means over the epoch, with augmentation."
    return draw_lines(lines, name=name, title=title, caption=caption, xlabel="epoch", ylabel=label, yscale=scale)


def _data(settings: Mapping[str, Any]) -> list[Content]:
    data, classes = settings["data"], settings["classes"]
    parts = [(part, data[part]) for part in ("train", "validation", "test") if data.get(part)]
    kind = {"regression": "outputs", "multilabel": "labels"}.get(data.get("task", ""), "classes")
    shown = ", ".join(classes[:40]) + (f" and {len(classes) - 40} more" if len(classes) > 40 else "")
    return [Table(("part", "examples"), parts), f"{len(classes)} {kind}: {shown}."]


def _recipe(settings: Mapping[str, Any]) -> list[Content]:
    recipe, weights = settings["recipe"], settings["weights"]
    plan = Recipe.model_validate_json(json.dumps(recipe))
    changed = plan.model_dump(mode="json", exclude_defaults=True, exclude={"name", "ref"})
    fields = [(name, str(value)) for name, value in _fields(changed, "")]
    start = "random weights" if weights is None else str(weights)
    legs = "".join(f" The run was {leg['note']}." for leg in settings.get("legs", ()))
    text = f"Recipe {recipe['name']} ({recipe['ref']}), seed {settings['seed']}, from {start}.{legs}"
    return [text, Table(("setting", "value"), fields, caption="Settings that have their default are not listed.")]


def _fields(record: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from _fields(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _commands(folder: Path, settings: Mapping[str, Any], epochs: int) -> list[Content]:
    run, source = quote(str(folder)), (settings.get("source") or {}).get("data")
    data = quote(str(source)) if source else "DATA"
    best = quote(str(folder / BEST))
    lines = [
        f"reszoo train --continue {run} --epochs {2 * epochs}",
        f"reszoo evaluate {best} --data {data} --output {quote(str(folder / 'evaluation'))}",
        f"reszoo predict {best} NEW_EXAMPLES",
        f"reszoo deploy {run} --to onnx",
    ]
    return [
        Code("\n".join(lines), "More epochs; the measures of every class; predictions; a file for another runtime:")
    ]


def _table(history: Sequence[Row], best: Row) -> Table:
    columns = [*history[0]]
    rows = [[int(row[name]) if name == "epoch" else row.get(name) for name in columns] for row in history]
    marked = frozenset(index for index, row in enumerate(history) if row["epoch"] == best["epoch"])
    return Table([name.replace("_", " ") for name in columns], rows, "Highlighted: the best epoch.", marked)
