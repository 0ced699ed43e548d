"""Objectives: measures of the validation examples, and costs to minimize."""

from __future__ import annotations

from collections.abc import Sequence

from reszoo.errors import ReszooError, UnknownNameError
from reszoo.training.recipes import MONITORS, Metric, metric_of
from reszoo.tuning.budget import COUNTED_COSTS

OBJECTIVE_COSTS = (*COUNTED_COSTS, "latency")
FURTHER = ("balanced_accuracy", "f1_macro", "auc", "top5")
"""Measures that a history has where the recipe lists them."""
ALIASES = {"f1": "f1_macro", "f1_score": "f1_macro", "acc": "accuracy", "bacc": "balanced_accuracy", "roc_auc": "auc"}


def objectives_of(objective: str | Sequence[str] | None, task: str) -> tuple[str, ...]:
    """Returns the names of the objectives: a measure of the task, then further measures and costs.

    Example:
        >>> objectives_of(["val_f1", "macs"], "classification")
        ('f1_macro', 'macs')

    Args:
        objective: names as users write them, also with `val_`; None for the first measure of the task.
        task: of the data.

    Raises:
        ReszooError: a name that does not exist, that belongs to another task, or that is there twice; a cost first.
    """
    if not isinstance(objective, (str, Sequence, type(None))):
        raise ReszooError("objective", got=repr(objective), expected="the name of a measure, or a list of names")
    objective = MONITORS[task][:1] if objective is None else objective
    words = (objective,) if isinstance(objective, str) else tuple(objective)
    plain = [word.removeprefix("val_") if isinstance(word, str) else word for word in words]
    names = tuple(ALIASES.get(word, word) for word in plain)
    known = {*MONITORS[task], *OBJECTIVE_COSTS}
    for word, name in zip(words, names, strict=True):
        if name in known:
            continue
        if any(name in measures for measures in MONITORS.values()):
            expected = ", ".join(MONITORS[task])
            raise ReszooError("objective", got=f"{word!r} for {task}", expected=expected)
        raise UnknownNameError("objective", got=word, known=(*known, "f1"))
    if not names or names[0] in OBJECTIVE_COSTS or len(set(names)) < len(names):
        expected = f"a measure ({', '.join(MONITORS[task])}), then further ones and costs, each once"
        raise ReszooError("objective", got=[*words], expected=expected)
    return names


def monitor_of(objectives: Sequence[str], task: str) -> str:
    """Returns the metric by which a recipe selects epochs: that of the first objective."""
    return "auto" if objectives[0] == MONITORS[task][0] else objectives[0]


def metric(name: str) -> Metric:
    """Returns the column of the history of a measure, and whether more of it is better."""
    return metric_of({}, name)


def directions(objectives: Sequence[str]) -> list[str]:
    """Returns Optuna's direction of every objective."""
    more = [name not in OBJECTIVE_COSTS and metric(name).sign > 0 for name in objectives]
    return ["maximize" if each else "minimize" for each in more]
