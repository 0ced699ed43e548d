"""What of the input and of its class can still be read at every block by linear means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from keras import tree

from reszoo.diagnosis.anatomy import take_apart, untouched
from reszoo.diagnosis.graph import Statistics
from reszoo.diagnosis.measures.result import Level, Result
from reszoo.errors import ReszooError
from reszoo.report.profiles import Panel

_PENALTIES = 10.0 ** np.arange(-6, 3)
"""Ridge penalties to choose from, in units of the mean eigenvalue."""
LEAST = 40
"""Examples below which nothing can be held out."""


class Readable(NamedTuple):
    """What can be read at one place of the network."""

    r2: float
    """Share of the input's variance that ridge regression recovers, on held-out examples."""
    probe: float
    """Accuracy of a linear (ridge) classifier on held-out examples."""
    rank: float
    """Effective rank: exp of the entropy of the covariance's spectrum (Roy 2007)."""
    cka_input: float
    """Linear centred kernel alignment with the input (Kornblith 2019), without bias."""
    cka_labels: float
    """The same with the classes."""


@dataclass(frozen=True, kw_only=True)
class Information(Result):
    """What can be read at h_0, ..., h_N.

    Recoverability, not information: a finite network destroys little, but makes it linearly unreachable.
    """

    title: ClassVar[str] = "information"
    thresholds: ClassVar[str] = "R2 of the input at the last block from 0.4 healthy, from 0.2 strained, below lost"

    places: tuple[int, ...]
    """Which of h_0, ..., h_N were looked at."""
    found: tuple[Readable, ...]

    def panels(self) -> list[Panel]:
        """Returns R2 and probe accuracy over depth, with their controls as lines."""
        ends = (self.places[0], self.places[-1])

        def line(name: str) -> tuple[Sequence[float], Sequence[float]]:
            return ends, [self.control[name]] * 2

        r2 = {self.model: (self.places, [one.r2 for one in self.found]), "random projection": line("r2, random")}
        probe = {
            self.model: (self.places, [one.probe for one in self.found]),
            "random projection": line("probe, random"),
            "labels shuffled": line("probe, labels shuffled"),
        }
        return [Panel("input", "block", "R2, held out", r2), Panel("class", "block", "accuracy, held out", probe)]


def information(
    model: Any, x: Any, y: Any, *, statistics: Statistics = "batch", places: int = 13, seed: int = 0
) -> Information:
    """Returns what ridge regression recovers of the input and the class at every block (Alain 2016; Kornblith 2019).

    Half of the examples are held out; the penalty is chosen on the others. Controls: a random projection of the input
    to the width of the last block, and a probe for shuffled labels, which has to be at chance.

    Args:
        model: a Keras model, or one taken apart.
        x: a batch of inputs, at least 40.
        y: their class numbers.
        statistics: of batch norms: `batch` as in training, or `moving`.
        places: of a deep network, at how many blocks to look, first and last included.
        seed: of the split, the projection and the shuffled labels.

    Raises:
        ReszooError: too few examples, or the model cannot be taken apart.
    """
    network = take_apart(model)
    labels = network.labels(y)[:, 0]
    if len(labels) < LEAST:
        raise ReszooError("information", got=f"{len(labels)} examples", expected=f"at least {LEAST}")
    at = np.unique(np.linspace(0, len(network.blocks), min(places, len(network.blocks) + 1)).round().astype(int))
    with untouched(network.graph.model):
        values = network.graph.read(x, wanted=[network.trunk[i] for i in at], statistics=statistics)
    random = np.random.default_rng(seed)
    order = random.permutation(len(labels))
    raw = np.concatenate([np.reshape(part, (len(labels), -1)) for part in tree.flatten(x)], axis=1).astype("float64")
    asked = _Asked(raw, np.eye(labels.max() + 1)[labels], labels, order[len(order) // 2 :], order[: len(order) // 2])
    found = tuple(_read(values[network.trunk[i]].reshape(len(labels), -1), asked) for i in at)
    last = values[network.trunk[at[-1]]].reshape(len(labels), -1)
    projected = _read(raw @ random.normal(size=(raw.shape[1], min(last.shape[1], 4096))), asked)
    mixed = random.permutation(len(labels))
    shuffled = _read(last, asked._replace(labels=labels[mixed], classes=asked.classes[mixed]))
    r2, probe = found[-1].r2, found[-1].probe
    level: Level = "healthy" if r2 >= 0.4 else "strained" if r2 >= 0.2 else "broken"
    told = f"at the last block {r2:.2f} of the input's variance can be read linearly, and the class of {probe:.0%}"
    return Information(
        model=network.name,
        level=level,
        verdict=f"{told} of held-out examples (a random projection: {projected.r2:.2f} and {projected.probe:.0%})",
        control={
            "r2, random": projected.r2,
            "probe, random": projected.probe,
            "probe, labels shuffled": shuffled.probe,
        },
        places=tuple(map(int, at)),
        found=found,
    )


class _Asked(NamedTuple):
    """What is to be recovered, and from whom to learn it."""

    inputs: Any
    classes: Any
    labels: Any
    train: Any
    test: Any


def _read(value: Any, asked: _Asked) -> Readable:
    rows = value.astype("float64")
    if not np.isfinite(rows).all():
        return Readable(*[float("nan")] * 5)
    rows = rows - rows[asked.train].mean(axis=0)
    kernel = rows @ rows.T
    recovered = _ridge(kernel, asked.inputs, asked)
    left = ((asked.inputs[asked.test] - recovered) ** 2).sum()
    spread = ((asked.inputs[asked.test] - asked.inputs[asked.train].mean(axis=0)) ** 2).sum()
    taken = _ridge(kernel, asked.classes, asked).argmax(axis=1)
    spectrum = np.clip(np.linalg.eigvalsh(_centred(kernel)), 0, None)
    shares = spectrum[spectrum > spectrum.max(initial=0.0) * 1e-12]
    shares = shares / shares.sum() if len(shares) else np.ones(1)
    return Readable(
        r2=float(1 - left / spread),
        probe=float((taken == asked.labels[asked.test]).mean()),
        rank=float(np.exp(-(shares * np.log(shares)).sum())),
        cka_input=_cka(kernel, asked.inputs @ asked.inputs.T),
        cka_labels=_cka(kernel, asked.classes @ asked.classes.T),
    )


def _ridge(kernel: Any, target: Any, asked: _Asked) -> Any:
    """Held-out predictions of ridge regression in its dual form; the penalty by generalised cross-validation."""
    mean = target[asked.train].mean(axis=0)
    values, vectors = np.linalg.eigh(kernel[np.ix_(asked.train, asked.train)])
    values = np.clip(values, 0, None)
    if not values.max(initial=0.0):
        return np.broadcast_to(mean, target[asked.test].shape)
    turned = vectors.T @ (target[asked.train] - mean)

    def error(penalty: float) -> float:
        left = penalty / (values + penalty)
        return float(((left[:, None] * turned) ** 2).sum() / left.sum() ** 2)

    # The mean eigenvalue: the penalty does not depend on the size of the signal.
    penalty = min(_PENALTIES * values.mean(), key=error)
    return kernel[np.ix_(asked.test, asked.train)] @ (vectors @ (turned / (values + penalty)[:, None])) + mean


def _centred(kernel: Any) -> Any:
    return kernel - kernel.mean(axis=0) - kernel.mean(axis=1, keepdims=True) + kernel.mean()


def _cka(a: Any, b: Any) -> float:
    """Linear CKA from the unbiased estimate of HSIC (Song 2012, equation 5)."""

    def hsic(a: Any, b: Any) -> float:
        n = len(a)
        a, b = a - np.diag(np.diag(a)), b - np.diag(np.diag(b))
        found = (a * b).sum() + a.sum() * b.sum() / ((n - 1) * (n - 2)) - 2 * (a.sum(axis=0) @ b.sum(axis=0)) / (n - 2)
        return float(found / (n * (n - 3)))

    size = hsic(a, a) * hsic(b, b)
    return hsic(a, b) / float(np.sqrt(size)) if size > 0 else float("nan")
