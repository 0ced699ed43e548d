"""A finished run, its model card, and its page: curves, results with their worth, recipe, data, and how to continue."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from shlex import quote
from typing import Any

from reszoo.arch.cost import cost
from reszoo.arch.ops import size
from reszoo.arch.plan import plan
from reszoo.arch.spec import NetSpec
from reszoo.notebook import field_rows, html_table
from reszoo.report.lines import Line, draw_lines
from reszoo.report.page import Code, Content, Gallery, Page, Section, Table
from reszoo.report.pictures import Picture
from reszoo.report.write import Presentable
from reszoo.training.recipes import Recipe, best_of, metric_of
from reszoo.training.run_folder import (
    BEST,
    CARD,
    FINAL,
    Settings,
    check_same,
    is_stopped,
    read_history,
    read_settings,
)
from reszoo.types import KerasModel


@dataclass(frozen=True)
class Trained(Presentable):
    """A finished run."""

    folder: Path
    network: KerasModel | None
    """The network where this process trained it; use `model`."""
    history: list[dict[str, float]]
    """Metrics of every epoch. Losses do not include the L2 penalty, which is listed beside them."""
    test_accuracy: float | None
    """Of the final weights, where the data has a test part and classes."""
    remarks: tuple[str, ...] = ()
    """What the results are worth: the share of the largest class, classes never predicted, and the like."""
    monitor: str = "auto"
    """The metric by which epochs are compared, as in the recipe."""

    @cached_property
    def model(self) -> KerasModel:
        """The trained network; read from `model.keras` if the run had finished before."""
        if self.network is not None:
            return self.network
        import keras

        return keras.models.load_model(self.folder / FINAL)

    @property
    def best(self) -> dict[str, float]:
        """Metrics of the epoch whose network is `best.keras`: the first one with the best validation result."""
        return best_of(self.history, self.monitor)

    @property
    def summary(self) -> str:
        """The result in a sentence: `best validation accuracy 95.80% after epoch 3 of 3; test accuracy ... 89.97%`."""
        best, metric = self.best, metric_of(self.best, self.monitor).name
        value = f"{best[metric]:.2%}" if metric == "val_accuracy" else f"{best[metric]:.4g}"
        words = f"best validation {metric.removeprefix('val_')} {value} after epoch {best['epoch']:.0f}"
        test = self.test_accuracy
        test_text = "" if test is None else f"; test accuracy of the last weights {test:.2%}"
        return f"{words} of {len(self.history)}{test_text}"

    def page(self) -> Page:
        """Returns the run as a page: curves, what the result is worth, data, recipe, and how to continue."""
        settings, best, test = read_settings(self.folder), self.best, self.test_accuracy
        spec = NetSpec.model_validate_json(json.dumps(settings["spec"]))
        total, name = cost(plan(spec)), metric_of(best, self.monitor).name
        facts = {_words(name): f"{best[name]:.4f}"} | ({} if test is None else {"test accuracy": f"{test:.4f}"})
        facts |= {"best epoch": f"{best['epoch']:.0f} of {len(self.history)}", "parameters": f"{total.params:,}"}
        facts |= {"multiply-accumulates": f"{total.macs:,}", "input": str(size(spec.input_shape))}
        versions = ", ".join(f"{library} {version}" for library, version in settings["versions"].items())
        return Page(
            title=f"{spec.name} on {settings['data']['name']}",
            lead=f"{_capitalized(self.summary)}. The best epoch is chosen by this value: it is optimistic.",
            sections=[
                Section("What the result is worth", [f"{_capitalized(text)}." for text in self.remarks]),
                Section("Curves", [Gallery(_pictures(self.history, name.removeprefix("val_")), "large")]),
                Section("Data", _data(settings)),
                Section("Recipe", _recipe(settings)),
                Section("Continue from here", _commands(self.folder, settings, len(self.history))),
                Section("Every epoch", [_epochs_table(self.history, best)]),
            ],
            facts=facts,
            foot=f"{versions}, {settings['backend']}. All settings are in run.json.",
            file="report.html",
        )

    def __repr__(self) -> str:
        test = "" if self.test_accuracy is None else f", test accuracy {self.test_accuracy:.4f}"
        best = "no epochs"
        if self.history:
            name = metric_of(self.best, self.monitor).name
            best = f"best {name} {self.best[name]:.4f}"
        name = self.folder.name if self.network is None else self.network.name
        return f"Trained({name[:40]!r}: {len(self.history)} epochs, {best}{test}, in {str(self.folder)[-60:]!r})"

    def _repr_html_(self) -> str:
        """Metrics of every epoch."""
        columns = [*self.history[0]] if self.history else []
        rows = [[_short(row.get(name)) for name in columns] for row in self.history]
        return html_table(columns, rows, title=repr(self), note="; ".join(self.remarks))


def _short(value: float | None) -> object:
    return round(value, 4) if isinstance(value, float) else value


def finished(folder: Path, settings: Settings | None = None) -> Trained | None:
    """Returns the run in a folder if all of its epochs are finished and its files are written; writes nothing.

    Args:
        folder: a run folder.
        settings: of the call; without them the recorded ones count.

    Raises:
        ReszooError: the folder holds another run.
    """
    before = read_settings(folder)
    if not before or not (folder / FINAL).exists() or not (folder / CARD).exists():
        return None
    if settings is not None:
        check_same(folder, before, settings)
    recipe = (settings or before)["recipe"]
    history = read_history(folder)
    whole = len(history) >= recipe["epochs"] or is_stopped(history, recipe, before)
    if not whole or recipe["epochs"] != before["recipe"]["epochs"] or ("digest" in before and "results" not in before):
        return None
    results = before.get("results") or {"test_accuracy": _test_accuracy(folder), "remarks": []}
    monitor = recipe.get("monitor", "auto")
    return Trained(folder, None, history, results["test_accuracy"], tuple(results["remarks"]), monitor)


def _test_accuracy(folder: Path) -> float | None:
    """The test accuracy in the card of a run whose `run.json` has no results."""
    match = re.search(r"test accuracy of .*\| ([\d.]+) \|", (folder / CARD).read_text(encoding="utf-8"))
    return float(match[1]) if match else None


Row = Mapping[str, float]


def _pictures(history: Sequence[Row], main: str) -> list[Picture]:
    """The losses as `curves`, and the metrics that have a value for training and for validation."""
    names = [name for name in history[0] if f"val_{name}" in history[0] and name != "loss"]
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
    fields = [(name, str(value)) for name, value in field_rows(changed)]
    start = "random weights" if weights is None else str(weights)
    legs = "".join(f" The run was {leg['note']}." for leg in settings.get("legs", ()))
    text = f"Recipe {recipe['name']} ({recipe['ref']}), seed {settings['seed']}, from {start}.{legs}"
    return [text, Table(("setting", "value"), fields, caption="Settings that have their default are not listed.")]


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


def _epochs_table(history: Sequence[Row], best: Row) -> Table:
    columns = [*history[0]]
    rows = [[int(row[name]) if name == "epoch" else row.get(name) for name in columns] for row in history]
    marked = frozenset(index for index, row in enumerate(history) if row["epoch"] == best["epoch"])
    return Table([name.replace("_", " ") for name in columns], rows, "Highlighted: the best epoch.", marked)


NAMES = {
    "val_accuracy": "validation accuracy",
    "val_map": "validation mean average precision",
    "val_rmse": "validation RMSE",
    "val_loss": "validation loss",
}
"""Metrics by which epochs are compared, in words."""
SHOWN = ("accuracy", "top5", "map", "f1_macro", "auc", "rmse", "mae", "r2")
"""Metrics that a card lists, where a history has them."""


def _words(metric: str) -> str:
    return NAMES.get(metric, metric.replace("_", " "))


def _capitalized(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}"


def card(folder: Path, results: Mapping[str, Any]) -> str:
    """Returns the model card of a run folder, as Markdown.

    Args:
        folder: of the run.
        results: `test`, metrics of the final weights on the test part; and `remarks`.
    """
    settings, rows = read_settings(folder), read_history(folder)
    spec = NetSpec.model_validate_json(json.dumps(settings["spec"]))
    total, data, recipe = cost(plan(spec)), settings["data"], settings["recipe"]
    start = "random weights" if settings["weights"] is None else settings["weights"]
    legs = "".join(f" The run was {leg['note']}." for leg in settings.get("legs", ()))
    early = f" It ended early, after epoch {len(rows)}." if len(rows) < recipe["epochs"] else ""
    lines = [
        f"# {spec.name} on {data['name']}",
        "",
        f"{total.params:,} parameters, {total.macs:,} multiply-accumulates at {size(spec.input_shape)}, "
        f"{total.depth} weighted layers. {_outputs(settings)}.",
        "",
        f"Trained on {data['train']:,} examples by the recipe `{recipe['name']}` ({recipe['ref']}), "
        f"{recipe['epochs']} epochs, batch {recipe['batch']}, seed {settings['seed']}, from {start}.{legs}{early}",
        "",
        *_table(rows, data["validation"], results.get("test") or {}, recipe.get("monitor", "auto")),
        "",
        *(f"* {_capitalized(line)}." for line in results.get("remarks", ())),
    ]
    versions = ", ".join(f"{name} {version}" for name, version in settings["versions"].items())
    return "\n".join([*lines, "", f"{versions}, {settings['backend']}. All settings are in `run.json`.", ""])


def _outputs(settings: Mapping[str, Any]) -> str:
    kind = {"regression": "Numbers", "multilabel": "Labels"}.get(settings["data"].get("task", ""), "Classes")
    return f"{kind}: {', '.join(settings['classes'])}"


def _table(rows: list[dict[str, float]], examples: int, test: Mapping[str, float], monitor: str) -> list[str]:
    last, best = rows[-1], best_of(rows, monitor)
    key = metric_of(last, monitor).name
    words = _words(key)
    lines = [
        "| measured | value |",
        "|--|--|",
        f"| {words}, last epoch ({examples:,} examples) | {last[key]:.4f} |",
        f"| {words}, best epoch ({best['epoch']}, `best.keras`; selected by this value, so optimistic) | "
        f"{best[key]:.4f} |",
    ]
    training = key.removeprefix("val_")
    lines.append(f"| training {training}, last epoch (with augmentation and dropout) | {last[training]:.4f} |")
    others = [name for name in SHOWN if f"val_{name}" in last and f"val_{name}" != key]
    lines += [f"| validation {name}, best epoch | {best[f'val_{name}']:.4f} |" for name in others]
    return lines + [
        f"| test {name} of `model.keras`, measured once | {test[name]:.4f} |" for name in SHOWN if name in test
    ]
