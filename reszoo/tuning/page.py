"""A study as a page to look at."""

from __future__ import annotations

from pathlib import Path

import yaml

from reszoo.report.search import SearchPage, search_page
from reszoo.report.trials import Row
from reszoo.tuning.results import Trial
from reszoo.tuning.study import Study


def write_report(study: Study, folder: str | Path | None = None, /) -> SearchPage:
    """Returns the paths of a page about a study, `report.html`, and of its pictures, both just written.

    The page needs no network: fronts of accuracy against every cost, what depth, width and the rest do, learning
    curves, all trials, and the best networks as YAML for a zoo file.

    Args:
        study: begun or finished.
        folder: where to write; by default the study's own.
    """
    plan = study.plan
    told = {"data": str(plan["data"]["name"]), "space": study.space.name, "seed": str(plan["seed"])}
    title = f"A search of {study.space.name} on {told['data']}"
    rows = [_row(trial, study.space.name) for trial in study.trials]
    fronts = {cost: [trial.number for trial in found] for cost, found in study.fronts().items()}
    return search_page(Path(folder or study.folder), rows=rows, fronts=fronts, title=title, facts=told)


def _row(trial: Trial, name: str) -> Row:
    spec = trial.spec.model_dump(mode="json", exclude_defaults=True, exclude={"name"})
    return Row(
        number=trial.number,
        state=trial.state,
        kind="plain" if trial.spec.block.shortcut == "none" else "residual",
        values=trial.point,
        params=int(trial.costs.get("params", 0)),
        macs=int(trial.costs.get("macs", 0)),
        latency=trial.costs.get("latency"),
        score=trial.score,
        epochs=trial.epochs,
        curve=[row["val_accuracy"] for row in trial.history],
        yaml=yaml.safe_dump({f"{name}_{trial.number}": spec}, sort_keys=False, default_flow_style=None),
        note=trial.note.splitlines()[-1] if trial.note else "",
        seconds=trial.costs.get("seconds"),
    )
