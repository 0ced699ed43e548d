"""Findings about each claim: the numbers of every family, a reading, a table and charts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from reszoo.diagnosis.measures.gradient_profile import GradientProfile
from reszoo.diagnosis.measures.information import Information
from reszoo.diagnosis.measures.lesion import LesionStudy
from reszoo.diagnosis.measures.loss_surface import Predictiveness
from reszoo.diagnosis.measures.signal import SignalPropagation
from reszoo.experiments.contestants import Claim, Contestant
from reszoo.experiments.degradation_gap import Gap, best
from reszoo.experiments.trainer import Run
from reszoo.report.lines import Line

TRAINED = 0.95
"""Training accuracy above which a network counts as trained."""
SCORES = {
    "loss": "loss, batch mode",
    "moving_loss": "loss, inference",
    "batch_accuracy": "accuracy, batch mode",
    "moving_accuracy": "accuracy, inference",
}
"""Fields of a run and their column titles."""


class Number(NamedTuple):
    """The result of one family."""

    family: str
    kind: str
    """plain, residual or control."""
    value: float
    text: str

    def __repr__(self) -> str:
        return f"Number({self.family[:40]!r}, {self.kind}: {self.text[:60]})"


class Chart(NamedTuple):
    """Lines, and the arguments of `draw_lines`."""

    lines: tuple[Line, ...]
    settings: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"Chart({len(self.lines)} lines)"


@dataclass(frozen=True)
class Finding:
    """The measurement of one claim."""

    name: str
    claim: Claim
    where: str
    """The measured networks and their budget."""
    numbers: tuple[Number, ...]
    reading: str
    """The interpretation of the numbers, in a sentence."""
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    charts: tuple[Chart, ...]

    def __repr__(self) -> str:
        return f"Finding({self.name!r}: {self.reading[:110]})"

    def of(self, family: str) -> float:
        """Returns the number of a family."""
        return next(number.value for number in self.numbers if number.family == family)


Profiles = Mapping[int, Mapping[Contestant, GradientProfile]]
"""Depth -> network -> profile."""


def gradient_flow(claim: Claim, profiles: Profiles) -> Finding:
    """Returns the finding about activation gradients; the numbers are those of the deepest networks."""
    depths = sorted(profiles)
    deepest = profiles[depths[-1]]
    lines = [Line(c.family, p.rms, at=range(len(p.rms)), kind=_color(c), weight=_weight(c)) for c, p in deepest.items()]
    ratios = {c.family: [_same_family(c, profiles[depth]).ratio for depth in depths] for c in deepest}
    return Finding(
        "gradient flow",
        claim,
        f"dense networks of {depths[-1]} layers",
        tuple(Number(c.family, c.kind, p.ratio, f"{p.ratio:.3g}") for c, p in deepest.items()),
        "factor per block towards the input: " + _listed((c.family, f"{p.gain:.3f}") for c, p in deepest.items()),
        ("network", *(f"ratio, {depth} layers" for depth in depths), "per block", "law", "weight gradients (mislead)"),
        tuple((c.family, *ratios[c.family], p.gain, p.shape, p.weight_ratio) for c, p in deepest.items()),
        (Chart(tuple(lines), claim.chart),),
    )


def degradation(
    claim: Claim, gaps: Sequence[Gap], runs: Sequence[tuple[str, Run]], kinds: Mapping[str, str]
) -> Finding:
    """Returns the finding about the training loss at two depths."""
    charts, rows = [], []
    for number, gap in enumerate(gaps, 1):
        lines = []
        for depth in (gap.shallow, gap.deep):
            same = best([run for family, run in runs if family == gap.family and run.depth == depth])
            medians = [float(np.median([getattr(run, field) for run in same])) for field in SCORES]
            rows.append((gap.family, depth, same[0].params, same[0].rate, *medians))
            label, weight = f"{depth} layers, rate {same[0].rate:g}", "bold" if depth == gap.deep else "normal"
            lines.append(Line(label, _moving_average(same[0].losses), kind=kinds[gap.family], weight=weight))
        titles = {"name": f"{claim.chart['name']}_{number}", "title": gap.family}
        titles["caption"] = f"{gap.family}: {gap.description}. {claim.chart['caption']}"
        charts.append(Chart(tuple(lines), {**claim.chart, **titles}))
    first = gaps[0]
    return Finding(
        "degradation",
        claim,
        f"convolutional networks of {first.shallow} and {first.deep} layers, {first.seeds} seeds",
        tuple(Number(g.family, kinds[g.family], g.gap, f"{g.gap:+.3f} [{g.low:+.3f}, {g.high:+.3f}]") for g in gaps),
        "; ".join(f"{gap.family} {gap.description}" for gap in gaps),
        ("network", "layers", "parameters", "best rate", *SCORES.values()),
        tuple(rows),
        tuple(charts),
    )


def information_flow(
    claim: Claim, depth: int, results: Mapping[Contestant, Information], lesions: Sequence[tuple[str, int, LesionStudy]]
) -> Finding:
    """Returns the finding about the input's recoverability at the last block, and about removed blocks."""
    random = next(iter(results.values())).control["r2, random"]
    lines = [
        Line(c.family, [one.r2 for one in r.readouts], at=r.places, kind=_color(c), weight=_weight(c), marks="each")
        for c, r in results.items()
    ]
    accuracies = _listed(
        (f"{family} of {layers} layers", f"{study.accuracy:.0%} intact and {study.mean:.0%} without one block (mean)")
        for family, layers, study in lesions
    )
    return Finding(
        "information flow",
        claim,
        f"dense networks of {depth} layers; blocks are removed after training",
        tuple(Number(c.family, c.kind, r.readouts[-1].r2, f"{r.readouts[-1].r2:.2f}") for c, r in results.items()),
        f"a random projection of the input gives {random:.2f}; accuracy: {accuracies}",
        ("network", "R2 of the input", "class, linear probe", "effective rank", "R2 before the first block"),
        tuple(
            (c.family, r.readouts[-1].r2, r.readouts[-1].probe, r.readouts[-1].rank, r.readouts[0].r2)
            for c, r in results.items()
        ),
        (Chart(tuple(lines), {**claim.chart, "reference": {"random projection": random}}),),
    )


def optimization(
    claim: Claim, depth: int, results: Mapping[Contestant, tuple[Predictiveness, SignalPropagation]]
) -> Finding:
    """Returns the finding about the gradient's predictiveness and the size of branches relative to shortcuts."""
    lines = [
        Line(c.family, p.cosines, at=p.steps, kind=_color(c), weight=_weight(c), marks="each")
        for c, (p, _) in results.items()
    ]
    steps = next(iter(results.values()))[0].steps
    shares = {c.family: _median(s.branch_ratio) for c, (_, s) in results.items()}
    return Finding(
        "optimisation",
        claim,
        f"dense networks of {depth} layers",
        tuple(Number(c.family, c.kind, p.cosines[0], f"{p.cosines[0]:.3f}") for c, (p, _) in results.items()),
        "a branch over its shortcut, median: " + _listed((f, f"{r:.2g}") for f, r in shares.items() if np.isfinite(r)),
        ("network", *(f"cosine, step {step:g}" for step in steps), "loss change, last step", "branch / shortcut"),
        tuple((c.family, *p.cosines, p.loss_changes[-1], shares[c.family]) for c, (p, _) in results.items()),
        (Chart(tuple(lines), claim.chart),),
    )


def depth_limit(
    claim: Claim, budget: str, runs: Mapping[Contestant, Mapping[int, Sequence[Run]]], chance: float
) -> Finding:
    """Returns the finding about the training accuracy at every depth, in inference mode."""
    lines, rows, numbers, limits = [], [], [], []
    for contestant, by_depth in runs.items():
        shares = {depth: sorted(run.moving_accuracy for run in group) for depth, group in by_depth.items()}
        middle = {depth: float(np.median(values)) for depth, values in shares.items()}
        band: dict[str, Any] = {
            "low": [values[0] for values in shares.values()],
            "high": [values[-1] for values in shares.values()],
        }
        style: dict[str, Any] = {"kind": _color(contestant), "weight": _weight(contestant), "marks": "each"}
        lines.append(Line(contestant.family, [*middle.values()], at=[*middle], **style, **band))
        deepest, passed = max(middle), [depth for depth, value in middle.items() if value >= TRAINED]
        numbers.append(Number(contestant.family, contestant.kind, middle[deepest], f"{middle[deepest]:.1%}"))
        limits.append((contestant.family, f"{'at least ' * (deepest in passed)}{max(passed)}" if passed else "none"))
        rows.append((contestant.family, *(", ".join(f"{value:.3f}" for value in values) for values in shares.values())))
    depths = sorted(next(iter(runs.values())))
    return Finding(
        "depth limit",
        claim,
        f"dense networks of {depths[-1]} layers; {budget}",
        tuple(numbers),
        f"deepest of {', '.join(map(str, depths))} layers that reaches {TRAINED:.0%}: " + _listed(limits),
        ("network", *(f"{depth} layers, every seed" for depth in depths)),
        tuple(rows),
        (Chart(tuple(lines), {**claim.chart, "reference": {"largest class": chance}}),),
    )


def _color(contestant: Contestant) -> str:
    """The three main networks have the colors of their kinds, further ones separate colors."""
    return contestant.kind if contestant.family in ("residual", "plain twin", "plain, looks-linear") else ""


def _weight(contestant: Contestant) -> str:
    """Bold for residual networks, so that the line stays visible under a line that covers it."""
    return "bold" if contestant.kind == "residual" else "normal"


def _same_family(contestant: Contestant, among: Mapping[Contestant, GradientProfile]) -> GradientProfile:
    """The profile of the same family at another depth."""
    return next(profile for other, profile in among.items() if other.family == contestant.family)


def _listed(pairs: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{name} {value}" for name, value in pairs)


def _median(values: Sequence[float]) -> float:
    finite = [value for value in values if np.isfinite(value)]
    return float(np.median(finite)) if finite else float("nan")


def _moving_average(losses: Sequence[float], window: int = 5) -> list[float]:
    """Moving average: the loss of single batches is noisy."""
    return [float(np.mean(losses[max(0, i - window + 1) : i + 1])) for i in range(len(losses))]
