"""What linear models can recover of the input and of its class at every block."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from keras import tree

from reszoo.diagnosis.anatomy import Anatomy, preserve_variables, take_apart
from reszoo.diagnosis.graph import Statistics
from reszoo.diagnosis.measures.result import Level, Result
from reszoo.diagnosis.program import is_norm
from reszoo.errors import ReszooError
from reszoo.report.lines import Panel
from reszoo.types import Array, KerasModel, Tensor

_PENALTIES = 10.0 ** np.arange(-6, 3)
"""Ridge penalties to choose from, in units of the mean eigenvalue."""
PERMUTATIONS = 19
"""Permutations of the null: the greatest of 19 is exceeded by chance once in 20."""
KEPT = 0.1
"""Share of the first block's advantage over chance that the last block has to keep."""
LEAST = 40
"""Least number of examples: half of them are held out."""


class Readout(NamedTuple):
    """What linear models recover at one block."""

    r2: float
    """Share of the input's variance that ridge regression recovers, on held-out examples."""
    probe: float
    """Accuracy of a linear (ridge) classifier on held-out examples."""
    rank: float
    """Effective rank: exp of the entropy of the covariance's spectrum (Roy 2007)."""
    cka_input: float
    """Linear centered kernel alignment (CKA) with the input (Kornblith 2019), unbiased."""
    cka_labels: float
    """Linear centered kernel alignment (CKA) with the classes, unbiased."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Information(Result):
    """What can be recovered at h_0, ..., h_N.

    This measures recoverability, not information: a finite network destroys little, but makes it linearly unreachable.
    """

    title: ClassVar[str] = "information"
    thresholds: ClassVar[str] = (
        "whether a linear probe reads the class at the last block better than probes of shuffled labels do (19 "
        "permutations, p = 0.05), by a tenth of what the first block is better; broken where it does not and no norm "
        "keeps the inputs apart, so that training could find it again. R2 of the input has no threshold: a trained "
        "classifier loses the input (Alain 2016)"
    )

    control_names: ClassVar[Mapping[str, str]] = {
        "r2, random": "R2 of the input from a random projection of it",
        "probe, random": "accuracy of a linear probe on that projection",
        "probe, labels shuffled": "of one for shuffled labels",
        "probe, greatest of 19 shuffles": "greatest of 19 of those",
    }

    places: tuple[int, ...]
    """Indices i of the measured h_i."""
    readouts: tuple[Readout, ...]
    """One for every place."""

    def panels(self) -> list[Panel]:
        """Returns R2 and probe accuracy over depth, with their controls as horizontal lines."""
        r2 = {"network": (self.places, [one.r2 for one in self.readouts])}
        probe = {"network": (self.places, [one.probe for one in self.readouts])}
        random = {"random projection": self.control["r2, random"]}
        others = {
            "random projection": self.control["probe, random"],
            "labels shuffled": self.control["probe, labels shuffled"],
        }
        return [
            Panel("the input, recovered", "block", "R2, held out", r2, controls=random),
            Panel("the class, by a linear probe", "block", "accuracy, held out", probe, controls=others),
        ]


def information(
    model: KerasModel | Anatomy,
    x: Tensor,
    y: Tensor,
    *,
    statistics: Statistics = "batch",
    places: int = 13,
    seed: int = 0,
) -> Information:
    """Returns what ridge regression recovers of the input and the class at every block (Alain 2016; Kornblith 2019).

    Half of the examples are held out; the penalty is chosen on the others. Controls: a random projection of the input
    to the width of the last block, and a probe trained on shuffled labels, which must be at chance.

    Example:
        >>> import numpy as np, reszoo
        >>> model = reszoo.create("residual_mlp18", input_shape=(8,), width_multiplier=1 / 32, norm="none", classes=2)
        >>> x = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
        >>> reszoo.diagnosis.information(model, x, (x[:, 0] > 0).astype(int), places=3).places
        (0, 4, 8)

    Args:
        model: a Keras model or its `Anatomy`.
        x: a batch of inputs, at least 40.
        y: class indices.
        statistics: which statistics batch norms use: `batch` as in training, or `moving`.
        places: number of blocks to measure, evenly spread, first and last included.
        seed: random seed of the split, the projection and the shuffled labels.

    Raises:
        ReszooError: too few examples, or the model cannot be analyzed.
    """
    network = take_apart(model)
    labels = np.asarray(network.labels(y))[:, 0]
    if len(labels) < LEAST:
        raise ReszooError("information", got=f"{len(labels)} examples", expected=f"at least {LEAST}")
    indices = np.unique(np.linspace(0, len(network.blocks), min(places, len(network.blocks) + 1)).round().astype(int))
    with preserve_variables(network.graph.model):
        values = network.graph.read(x, outputs=[network.trunk[i] for i in indices], statistics=statistics)
    random = np.random.default_rng(seed)
    order = random.permutation(len(labels))
    raw = np.concatenate([np.reshape(part, (len(labels), -1)) for part in tree.flatten(x)], axis=1).astype("float64")
    one_hot = np.eye(labels.max() + 1)[labels]
    targets = _Targets(raw, one_hot, labels, train=order[len(order) // 2 :], test=order[: len(order) // 2])
    readouts = tuple(_readout(values[network.trunk[i]].reshape(len(labels), -1), targets) for i in indices)
    last = values[network.trunk[indices[-1]]].reshape(len(labels), -1)
    projected = _readout(raw @ random.normal(size=(raw.shape[1], min(last.shape[1], 4096))), targets)
    mixed = random.permutation(len(labels))
    shuffled = _readout(last, targets._replace(labels=labels[mixed], classes=one_hot[mixed]))
    r2, probe = readouts[-1].r2, readouts[-1].probe
    chance = _chance(last, targets, random)
    first = values[network.trunk[indices[0]]].reshape(len(labels), -1)
    advantage = readouts[0].probe - _chance(first, targets, random)
    lost = advantage > 0 and not probe - chance > KEPT * advantage
    normed = any(is_norm(step.layer) for step in network.graph.steps)
    level: Level = "healthy" if not lost else "unknown" if normed else "broken"
    return Information(
        model=network.name,
        level=level,
        verdict=f"at the last block a linear model recovers {r2:.2f} of the input's variance and the class of "
        f"{probe:.0%} of held-out examples (from a random projection: {projected.r2:.2f} and {projected.probe:.0%}; by "
        f"chance up to {chance:.0%})",
        control={
            "r2, random": projected.r2,
            "probe, random": projected.probe,
            "probe, labels shuffled": shuffled.probe,
            "probe, greatest of 19 shuffles": chance,
        },
        places=tuple(map(int, indices)),
        readouts=readouts,
    )


class _Targets(NamedTuple):
    """What is to be recovered, and the split of the examples."""

    inputs: Array
    classes: Array
    """One-hot."""
    labels: Array
    train: Array
    test: Array


def _readout(value: Array, targets: _Targets) -> Readout:
    rows = value.astype("float64")
    if not np.isfinite(rows).all():
        nan = float("nan")
        return Readout(r2=nan, probe=nan, rank=nan, cka_input=nan, cka_labels=nan)
    rows = rows - rows[targets.train].mean(axis=0)
    kernel = rows @ rows.T
    recovered = _ridge(kernel, targets.inputs, targets)
    residuals = ((targets.inputs[targets.test] - recovered) ** 2).sum()
    total = ((targets.inputs[targets.test] - targets.inputs[targets.train].mean(axis=0)) ** 2).sum()
    predictions = _ridge(kernel, targets.classes, targets).argmax(axis=1)
    spectrum = np.clip(np.linalg.eigvalsh(_centered(kernel)), 0, None)
    shares = spectrum[spectrum > spectrum.max(initial=0.0) * 1e-12]
    shares = shares / shares.sum() if len(shares) else np.ones(1)
    return Readout(
        r2=float(1 - residuals / total),
        probe=float((predictions == targets.labels[targets.test]).mean()),
        rank=float(np.exp(-(shares * np.log(shares)).sum())),
        cka_input=_cka(kernel, targets.inputs @ targets.inputs.T),
        cka_labels=_cka(kernel, targets.classes @ targets.classes.T),
    )


def _chance(value: Array, targets: _Targets, random: np.random.Generator) -> float:
    """Returns the greatest accuracy of probes trained and tested on 19 permutations of the labels."""
    rows = value.astype("float64")
    if not np.isfinite(rows).all():
        return float("nan")
    rows = rows - rows[targets.train].mean(axis=0)
    orders = [random.permutation(len(rows)) for _ in range(PERMUTATIONS)]
    classes = np.concatenate([targets.classes[order] for order in orders], axis=1)
    scores = _ridge(rows @ rows.T, classes, targets).reshape(len(targets.test), PERMUTATIONS, -1)
    true = np.stack([targets.labels[order][targets.test] for order in orders], axis=1)
    return float((scores.argmax(axis=2) == true).mean(axis=0).max())


def _ridge(kernel: Array, target: Array, targets: _Targets) -> Array:
    """Returns held-out predictions of ridge regression in dual form; generalized cross-validation sets the penalty."""
    mean = target[targets.train].mean(axis=0)
    values, vectors = np.linalg.eigh(kernel[np.ix_(targets.train, targets.train)])
    values = np.clip(values, 0, None)
    if not values.max(initial=0.0):
        return np.broadcast_to(mean, target[targets.test].shape)
    rotated = vectors.T @ (target[targets.train] - mean)

    def error(penalty: float) -> float:
        residual = penalty / (values + penalty)
        return float(((residual[:, None] * rotated) ** 2).sum() / residual.sum() ** 2)

    # In units of the mean eigenvalue, so that the penalty does not depend on the size of the signal.
    penalty = min(_PENALTIES * values.mean(), key=error)
    coefficients = vectors @ (rotated / (values + penalty)[:, None])
    return np.asarray(kernel[np.ix_(targets.test, targets.train)] @ coefficients + mean)


def _centered(kernel: Array) -> Array:
    return np.asarray(kernel - kernel.mean(axis=0) - kernel.mean(axis=1, keepdims=True) + kernel.mean())


def _cka(a: Array, b: Array) -> float:
    """Returns linear CKA from the unbiased estimate of HSIC (Song 2012, equation 5)."""

    def hsic(a: Array, b: Array) -> float:
        n = len(a)
        a, b = a - np.diag(np.diag(a)), b - np.diag(np.diag(b))
        total = (a * b).sum() + a.sum() * b.sum() / ((n - 1) * (n - 2)) - 2 * (a.sum(axis=0) @ b.sum(axis=0)) / (n - 2)
        return float(total / (n * (n - 3)))

    size = hsic(a, a) * hsic(b, b)
    return hsic(a, b) / float(np.sqrt(size)) if size > 0 else float("nan")
