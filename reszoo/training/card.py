"""The model card of a run: the training settings and the measured results."""

from __future__ import annotations

import json
from pathlib import Path

from reszoo.arch.cost import cost
from reszoo.arch.ops import size
from reszoo.arch.plan import plan
from reszoo.arch.spec import NetSpec
from reszoo.training.run_folder import HISTORY, SETTINGS


def card(folder: Path, *, test_accuracy: float | None = None) -> str:
    """Returns the model card of a run folder, as Markdown."""
    settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    rows = [json.loads(line) for line in (folder / HISTORY).read_text(encoding="utf-8").splitlines()]
    spec = NetSpec.model_validate_json(json.dumps(settings["spec"]))
    total, last = cost(plan(spec)), rows[-1]
    best = max(rows, key=lambda row: row["val_accuracy"])
    data, recipe = settings["data"], settings["recipe"]
    lines = [
        f"# {spec.name} on {data['name']}",
        "",
        f"{total.params:,} parameters, {total.macs:,} multiply-accumulates at {size(spec.input_shape)}, "
        f"{total.depth} weighted layers. Classes: {', '.join(settings['classes'])}.",
        "",
        f"Trained on {data['train']:,} examples by the recipe `{recipe['name']}` ({recipe['ref']}), "
        f"{recipe['epochs']} epochs, batch {recipe['batch']}, seed {settings['seed']}, "
        f"{'from random weights' if settings['weights'] is None else 'from ' + settings['weights']}.",
        "",
        "| measured | value |",
        "|--|--|",
        f"| validation accuracy, last epoch ({data['validation']:,} examples) | {last['val_accuracy']:.4f} |",
        f"| validation accuracy, best epoch ({best['epoch']}, `best.keras`; selected by this value, so optimistic) | "
        f"{best['val_accuracy']:.4f} |",
        f"| training accuracy, last epoch (with augmentation and dropout) | {last['accuracy']:.4f} |",
    ]
    if test_accuracy is not None:
        lines.append(f"| test accuracy of `model.keras`, measured once | {test_accuracy:.4f} |")
    versions = ", ".join(f"{name} {version}" for name, version in settings["versions"].items())
    return "\n".join([*lines, "", f"{versions}, {settings['backend']}. All settings are in `run.json`.", ""])
