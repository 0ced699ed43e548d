"""The model card of a run: what was trained how, and what was measured. Nothing in it is a guess."""

from __future__ import annotations

import json
from pathlib import Path

from reszoo.arch.cost import cost
from reszoo.arch.ops import size
from reszoo.arch.plan import plan
from reszoo.arch.spec import NetSpec


def card(folder: Path, *, test_accuracy: float | None = None) -> str:
    """Returns the model card of a run folder, as Markdown."""
    told = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    rows = [json.loads(line) for line in (folder / "history.jsonl").read_text(encoding="utf-8").splitlines()]
    spec = NetSpec.model_validate_json(json.dumps(told["spec"]))
    counted, last = cost(plan(spec)), rows[-1]
    best = max(rows, key=lambda row: row["val_accuracy"])
    data, recipe = told["data"], told["recipe"]
    lines = [
        f"# {spec.name} on {data['name']}",
        "",
        f"{counted.params:,} parameters, {counted.macs:,} multiply-accumulates at {size(spec.input_shape)}, "
        f"{counted.depth} weighted layers. Classes: {', '.join(told['classes'])}.",
        "",
        f"Trained on {data['train']:,} examples by the recipe `{recipe['name']}` ({recipe['ref']}), "
        f"{recipe['epochs']} epochs, batch {recipe['batch']}, seed {told['seed']}, "
        f"{'from random weights' if told['weights'] is None else 'from ' + told['weights']}.",
        "",
        "| measured | value |",
        "|--|--|",
        f"| validation accuracy, last epoch ({data['validation']:,} examples held out) | {last['val_accuracy']:.4f} |",
        f"| validation accuracy, best epoch ({best['epoch']}, `best.keras`; chosen by it, so optimistic) | "
        f"{best['val_accuracy']:.4f} |",
        f"| training accuracy, last epoch, augmented images, dropout on | {last['accuracy']:.4f} |",
    ]
    if test_accuracy is not None:
        lines.append(f"| test accuracy of `model.keras`, measured once | {test_accuracy:.4f} |")
    versions = ", ".join(f"{name} {version}" for name, version in told["versions"].items())
    return "\n".join([*lines, "", f"{versions}, {told['backend']}. Every setting is in `run.json`.", ""])
