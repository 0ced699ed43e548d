"""The leaderboard of a study: its trials, best first, and what their scores are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reszoo.notebook import html_table
from reszoo.report.tables import short
from reszoo.report.trials import interval
from reszoo.tuning.results import Trial, ranked


@dataclass(frozen=True, repr=False)
class Leaderboard:
    """The finished trials of a study, best first, with 95 % intervals of their scores."""

    trials: tuple[Trial, ...]
    space: str
    examples: int
    """For validation."""
    looks: int
    """Epochs after which a network was validated, over all trials: the best score is the largest of so many."""
    measure: str = "accuracy"
    """What the score is, on the validation examples."""

    @property
    def note(self) -> str:
        """What the best score is worth, in a sentence."""
        extreme = "smallest" if self.trials and self.trials[0].measure.sign < 0 else "largest"
        return (
            f"{self.measure} of {self.examples:,} validation examples; the best is the {extreme} of {self.looks:,} "
            "evaluations on them, and therefore optimistic"
        )

    def interval(self, trial: Trial) -> tuple[float, float] | None:
        """Returns the 95 % interval of a trial's score; None where the score is no accuracy."""
        if self.measure != "accuracy" or trial.score is None:
            return None
        return interval(trial.score, self.examples)

    def columns(self) -> list[str]:
        """Returns the headings of `rows`."""
        measured = [name for name in ("test", "latency") if self._has(name)]
        names = {"test": "test, measured once", "latency": "latency, ms"}
        headings = ["trial", "network", self.measure, "95 %", *(names[name] for name in measured)]
        return [*headings, "params", "MACs", "epochs"]

    def rows(self) -> list[tuple[object, ...]]:
        """Returns the cells of a table, one row per trial."""
        return [self._row(trial) for trial in self.trials]

    def to_dict(self) -> dict[str, object]:
        """Returns the leaderboard as plain data."""
        trials = [
            {
                "number": trial.number,
                "network": network(trial),
                "score": trial.score,
                "interval": self.interval(trial),
                **({"test": getattr(trial, "test", None)} if self._has("test") else {}),
                "epochs": trial.epochs,
                "values": dict(trial.point),
                "costs": dict(trial.costs),
                "weights": str(trial.weights) if trial.weights.exists() else None,
            }
            for trial in self.trials
        ]
        facts = {"space": self.space, "measure": self.measure, "validation_examples": self.examples}
        return {**facts, "looks": self.looks, "note": self.note, "trials": trials}

    def __repr__(self) -> str:
        best = f", best {self.trials[0].score:.4f} (trial {self.trials[0].number})" if self.trials else ""
        return f"Leaderboard({self.space!r}: {len(self.trials)} finished trials{best}, {self.examples:,} examples)"

    def _repr_html_(self) -> str:
        return html_table(self.columns(), self.rows(), title=f"Leaderboard of {self.space}", note=self.note)

    def _row(self, trial: Trial) -> tuple[object, ...]:
        edges, costs = self.interval(trial), trial.costs
        test = getattr(trial, "test", None)
        measured = [*(["" if test is None else f"{test:.4f}"] if self._has("test") else [])]
        measured += [f"{1e3 * costs['latency']:.3g}"] if self._has("latency") and "latency" in costs else []
        return (
            trial.number,
            network(trial),
            f"{trial.score:.4f}",
            "" if edges is None else f"{edges[0]:.3f}-{edges[1]:.3f}",
            *measured,
            short(costs["params"]),
            short(costs["macs"]),
            trial.epochs,
        )

    def _has(self, name: str) -> bool:
        if name == "test":
            return any(getattr(trial, "test", None) is not None for trial in self.trials)
        return bool(self.trials) and all(name in trial.costs for trial in self.trials)


def leaderboard(trials: Sequence[Trial], settings: Mapping[str, Any]) -> Leaderboard:
    """Returns the leaderboard of a study.

    Args:
        trials: of the study, in any state.
        settings: of the study.
    """
    return Leaderboard(
        trials=tuple(ranked(trials)),
        space=str(settings["space"]["name"]),
        examples=int(settings["data"]["validation"]),
        looks=sum(trial.epochs for trial in trials),
        measure=str(settings["objective"][0]),
    )


def network(trial: Trial) -> str:
    """Returns a trial's network in words: its kind, and depth and width of every stage."""
    kind = "plain" if trial.spec.block.shortcut == "none" else "residual"
    depths, widths = ("-".join(str(getattr(stage, name)) for stage in trial.spec.stages) for name in ("depth", "width"))
    return f"{kind} {depths} x {widths}"
