"""The model card of a run: the training settings and the measured results."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reszoo.arch.cost import cost
from reszoo.arch.ops import size
from reszoo.arch.plan import plan
from reszoo.arch.spec import NetSpec
from reszoo.training.run_folder import HISTORY, SETTINGS
from reszoo.training.selection import best_of, metric_of

NAMES = {
    "val_accuracy": "validation accuracy",
    "val_map": "validation mean average precision",
    "val_rmse": "validation RMSE",
    "val_loss": "validation loss",
}
"""Metrics by which epochs are compared, in words."""
SHOWN = ("accuracy", "top5", "map", "f1_macro", "auc", "rmse", "mae", "r2")
"""Metrics that a card lists, where a history has them."""


def card(folder: Path, results: Mapping[str, Any]) -> str:
    """Returns the model card of a run folder, as Markdown.

    Args:
        folder: of the run.
        results: `test`, metrics of the final weights on the test part; and `remarks`.
    """
    settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    rows = [json.loads(line) for line in (folder / HISTORY).read_text(encoding="utf-8").splitlines()]
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
        *(f"* {line[0].upper()}{line[1:]}." for line in results.get("remarks", ())),
    ]
    versions = ", ".join(f"{name} {version}" for name, version in settings["versions"].items())
    return "\n".join([*lines, "", f"{versions}, {settings['backend']}. All settings are in `run.json`.", ""])


def _outputs(settings: Mapping[str, Any]) -> str:
    kind = {"regression": "Numbers", "multilabel": "Labels"}.get(settings["data"].get("task", ""), "Classes")
    return f"{kind}: {', '.join(settings['classes'])}"


def _table(rows: list[dict[str, float]], examples: int, test: Mapping[str, float], monitor: str) -> list[str]:
    last, best = rows[-1], best_of(rows, monitor)
    key = metric_of(last, monitor).name
    words = NAMES.get(key, key.replace("_", " "))
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
