"""The page of a study with the importance of its axes, and its trials as a table of comma-separated values."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import optuna

from reszoo.errors import ReszooError
from reszoo.report.page import Page
from reszoo.report.search import COMPARED, search_page
from reszoo.report.tables import short
from reszoo.report.trials import Row, common_epoch
from reszoo.tuning.budget import Budget, Feasible
from reszoo.tuning.production import network_yaml, recipe_yaml
from reszoo.tuning.results import ACCURACY, Trial, fronts
from reszoo.tuning.space import Space
from reszoo.tuning.storage import quiet


def study_page(trials: Sequence[Trial], *, space: Space, settings: Mapping[str, Any], folder: Path) -> Page:
    """Returns the page of a study.

    It shows Pareto fronts of accuracy and cost, the best score so far by compute, the effect of every axis, learning
    curves, all trials, and the best networks with their recipe as YAML.

    Args:
        trials: of the study, in any state.
        space: of the study.
        settings: of the study.
        folder: of the study, for the commands on the page.
    """
    data = settings["data"]
    rows = [_row(trial, space.name) for trial in trials]
    numbers = {cost: [trial.number for trial in front] for cost, front in fronts(trials).items()}
    scored = [row for row in rows if row.scored]
    measure = trials[0].measure if trials else ACCURACY
    where = shlex.quote(str(folder))
    commands = [f"reszoo search best {where} --output best", f"reszoo search best {where} --output refit --refit"]
    return search_page(
        rows=rows,
        fronts=numbers,
        title=f"Search of {space.name} on {data['name']}",
        score=measure.name.replace("val_", "validation ").replace("_", " "),
        direction="maximize" if measure.sign > 0 else "minimize",
        facts=_facts(trials, space, settings),
        examples=int(data["validation"]) if measure == ACCURACY else None,
        passes=int(data["train"]),
        importances=importances(trials, space, epoch=common_epoch(scored, share=COMPARED)),
        commands="\n".join(commands),
        foot=_versions(),
    )


def _facts(trials: Sequence[Trial], space: Space, settings: Mapping[str, Any]) -> dict[str, str]:
    data, recipe = settings["data"], settings["recipe"]
    limits = {name: limit for name, limit in settings["budget"].items() if limit is not None}
    compute = sum(3 * trial.costs.get("macs", 0) * trial.epochs * int(data["train"]) for trial in trials)
    seconds = sum(trial.costs.get("seconds", 0.0) for trial in trials)
    return {
        "Data": str(data["name"]),
        "Training examples": f"{data['train']:,}",
        "Validation examples": f"{data['validation']:,}",
        "Space": space.name,
        "Budget": ", ".join(f"{name} {limit:g}" for name, limit in limits.items()) or "none",
        "Draws within the budget": _fraction(space, limits),
        "Epochs": f"{recipe['epochs']}",
        "Sampler": f"{settings['sampler']}, pruning {settings['pruning']}",
        "Seed": str(settings["seed"]),
        "Training": f"{short(compute)} MACs" + (f", {seconds / 60:.3g} min" if seconds else ""),
    }


def _fraction(space: Space, limits: Mapping[str, float]) -> str:
    """The share of random draws that are networks within the counted limits."""
    counted = {name: limit for name, limit in limits.items() if name != "latency"}
    try:
        return f"{Feasible(space, Budget(**counted)).fraction():.0%}"
    except ReszooError:
        return "unknown"


def _versions() -> str:
    """The versions installed here."""
    texts = []
    for name in ("reszoo", "keras", "optuna"):
        try:
            texts.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return f"Written by {', '.join(texts)}."


def _row(trial: Trial, name: str) -> Row:
    entry = f"{name}_{trial.number}"
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
        curve=trial.curve,
        yaml=network_yaml(trial, entry),
        note=trial.note.splitlines()[-1] if trial.note else "",
        seconds=trial.costs.get("seconds"),
        recipe=recipe_yaml(trial, entry) if trial.recipe is not None else "",
        weights=str(trial.weights) if trial.weights.exists() else "",
        test=getattr(trial, "test", None),
    )


def trials_csv(trials: Sequence[Trial]) -> str:
    """Returns all trials as comma-separated values: number, state, score, epochs, costs, the value of every axis."""
    costs = list(dict.fromkeys(name for trial in trials for name in trial.costs))
    axes = list(dict.fromkeys(name for trial in trials for name in trial.point))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["number", "state", "score", "epochs", *costs, *axes, "note"])
    for trial in trials:
        values = [*(trial.costs.get(name, "") for name in costs), *(trial.point.get(name, "") for name in axes)]
        score = "" if trial.score is None else trial.score
        writer.writerow([trial.number, trial.state, score, trial.epochs, *values, trial.note])
    return stream.getvalue()


MIN_TRIALS = 10
"""Trials below which nothing is said."""


def importances(trials: Sequence[Trial], space: Space, *, epoch: int) -> dict[str, float]:
    """Returns axis -> share of the variance of the scores after an epoch, which trials that ended early reached, too.

    The shares add up to 1, whatever part of the variance is chance. Axes that apply to some trials only, and those with
    one value, are left out. Empty for fewer than ten trials.

    Args:
        trials: of a study, in any state.
        space: of the study.
        epoch: at which the trials are compared, from 1.
    """
    from reszoo.tuning.proposals import distribution

    measured = [trial for trial in trials if trial.score is not None and trial.epochs >= epoch > 0]
    axes = {name: distribution(axis) for name, axis in space.axes.items()}
    axes = {name: axis for name, axis in axes.items() if all(name in trial.point for trial in measured)}
    axes = {name: axis for name, axis in axes.items() if len({trial.point[name] for trial in measured}) > 1}
    if len(measured) < MIN_TRIALS or not axes:
        return {}
    scores = [trial.curve[epoch - 1] for trial in measured]
    if max(scores) == min(scores):
        return {}
    with quiet:
        study = optuna.create_study(direction="maximize")
        for trial, score in zip(measured, scores, strict=True):
            params = {name: trial.point[name] for name in axes}
            study.add_trial(optuna.create_trial(params=params, distributions=axes, value=score))
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: float(share) for name, share in shares.items()}
