"""The page of a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from reszoo.report.page import Page
from reszoo.report.search import search_page
from reszoo.report.trials import Row
from reszoo.tuning.results import ACCURACY, Trial, fronts


def study_page(trials: Sequence[Trial], *, space: str, settings: Mapping[str, Any]) -> Page:
    """Returns the page of a study.

    It shows Pareto fronts of accuracy and cost, the effect of every axis, learning curves, all trials, and the best
    networks as YAML for a zoo file.

    Args:
        trials: of the study, in any state.
        space: name of the search space.
        settings: of the study.
    """
    facts = {"data": str(settings["data"]["name"]), "space": space, "seed": str(settings["seed"])}
    rows = [_row(trial, space) for trial in trials]
    numbers = {cost: [trial.number for trial in front] for cost, front in fronts(trials).items()}
    measure = trials[0].measure if trials else ACCURACY
    return search_page(
        rows=rows,
        fronts=numbers,
        title=f"Search of {space} on {facts['data']}",
        score=measure.name.replace("val_", "validation ").replace("_", " "),
        direction="maximize" if measure.sign > 0 else "minimize",
        facts=facts,
    )


def _row(trial: Trial, name: str) -> Row:
    spec = trial.spec.model_dump(mode="json", exclude_defaults=True, exclude={"name"})
    return Row(
        number=trial.number,
        # The state in the database: a page is the same on every machine.
        state=trial.outcome or trial.state,
        kind="plain" if trial.spec.block.shortcut == "none" else "residual",
        values=trial.point,
        params=int(trial.costs.get("params", 0)),
        macs=int(trial.costs.get("macs", 0)),
        latency=trial.costs.get("latency"),
        score=trial.score,
        epochs=trial.epochs,
        curve=[row[trial.measure.name] for row in trial.history],
        yaml=yaml.safe_dump({f"{name}_{trial.number}": spec}, sort_keys=False, default_flow_style=None),
        note=trial.note.splitlines()[-1] if trial.note else "",
        seconds=trial.costs.get("seconds"),
    )
