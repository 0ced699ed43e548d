"""How the signal changes on its way from the input: its size, the share of the branches, how alike inputs become."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from reszoo.diagnosis.anatomy import Anatomy, take_apart, untouched
from reszoo.diagnosis.graph import Statistics
from reszoo.diagnosis.measures.result import Level, Result, level_of
from reszoo.report.profiles import Panel


@dataclass(frozen=True, kw_only=True)
class SignalPropagation(Result):
    """Size of h_0, ..., h_N, and of every branch beside its shortcut."""

    title: ClassVar[str] = "signal propagation"
    thresholds: ClassVar[str] = "|log10 growth| below 2 healthy, to 4 strained, beyond broken"

    blocks: tuple[str, ...]
    squared_mean: tuple[float, ...]
    """Mean over channels of the squared channel mean."""
    variance: tuple[float, ...]
    """Mean over channels of the channel variance."""
    rms: tuple[float, ...]
    """Root mean square."""
    growth: float
    """Of the rms from h_0 to h_N."""
    responses: tuple[float, ...]
    """Standard deviation of every branch as it is added, of a plain block its output (He 2015, Fig. 7)."""
    branch_ratio: tuple[float, ...]
    """rms(F) / rms(x) of every residual block; NaN of a plain one."""

    def panels(self) -> list[Panel]:
        """Returns size and branch ratio over depth."""
        numbers = range(1, len(self.blocks) + 1)
        reference = [1 / np.sqrt(number) for number in numbers]
        ratio = {"branch / shortcut": (numbers, self.branch_ratio), "1 / sqrt(block)": (numbers, reference)}
        return [
            Panel("forward", "block", "root mean square", {self.model: (range(len(self.rms)), self.rms)}, "log"),
            Panel("branches", "block", "ratio", ratio, "log"),
        ]


def signal_propagation(model: Any, x: Any, *, statistics: Statistics = "batch", seed: int = 0) -> SignalPropagation:
    """Returns how large the signal is at every block, and what the branches add (Brock 2021; He 2015, Fig. 7).

    Control: the growth for noise of the mean and spread of the inputs. A branch is small beside its shortcut only with
    batch norm (about 1/sqrt(block)), scaled or zero-scaled branches; by default initialisation it is as large.

    Args:
        model: a Keras model, or one taken apart.
        x: a batch of inputs.
        statistics: of batch norms: `batch` as in training, or `moving`.
        seed: of the noise.

    Raises:
        ReszooError: the model cannot be taken apart, or the data are not what it takes.
    """
    network = take_apart(model)
    pairs = [slot for block in network.blocks if block.residual for slot in (block.branch, block.shortcut)]
    wanted = {*network.trunk, *filter(None, pairs)}
    with untouched(network.graph.model):
        found = network.graph.read(x, wanted=wanted, statistics=statistics)
        control = network.graph.read(_noise(x, seed), wanted=network.trunk, statistics=statistics)
    trunk = [found[slot] for slot in network.trunk]
    sizes = [_rms(value) for value in trunk]
    noise = [_rms(control[slot]) for slot in (network.trunk[0], network.trunk[-1])]
    channels = [value.reshape(-1, value.shape[-1]).astype("float64") for value in trunk]
    ratio = tuple(
        _rms(found[block.branch]) / _rms(found[block.shortcut]) if block.residual else float("nan")  # type: ignore[index]
        for block in network.blocks
    )
    growth = sizes[-1] / sizes[0] if sizes[0] else float("nan")
    level, verdict = _signal_verdict(network, sizes, growth, ratio)
    return SignalPropagation(
        model=network.name,
        level=level,
        verdict=verdict,
        control={"growth for noise": noise[1] / noise[0] if noise[0] else float("nan")},
        blocks=tuple(block.name for block in network.blocks),
        squared_mean=tuple(float((value.mean(axis=0) ** 2).mean()) for value in channels),
        variance=tuple(float(value.var(axis=0).mean()) for value in channels),
        rms=tuple(sizes),
        growth=growth,
        responses=tuple(
            float(found[block.branch if block.branch is not None else block.output].std(dtype="float64"))
            for block in network.blocks
        ),
        branch_ratio=ratio,
    )


def _signal_verdict(network: Anatomy, sizes: list[float], growth: float, ratio: Any) -> tuple[Level, str]:
    bad = next((number for number, size in enumerate(sizes) if not np.isfinite(size) or size == 0), None)
    if bad is not None:
        return "broken", f"the signal {'dies out' if sizes[bad] == 0 else 'overflows'} at block {bad}"
    shares = [value for value in ratio if np.isfinite(value)]
    told = f"the signal leaves the last block at {growth:.3g} times its size before the first"
    if shares:
        told += f"; a branch is {np.median(shares):.3g} times its shortcut (median)"
        told += ", so every block starts as the identity" if max(shares) == 0 else ""
    return level_of(float(np.log10(growth))), told


@dataclass(frozen=True, kw_only=True)
class Correlation(Result):
    """How alike two inputs look at h_0, ..., h_N."""

    title: ClassVar[str] = "correlation"
    thresholds: ClassVar[str] = "mean cosine at the last block up to 0.9 healthy, to 0.98 strained, above broken"

    cosines: tuple[float, ...]
    """Mean cosine of pairs of different inputs."""
    same_class: tuple[float, ...]
    """Of pairs of one class, where classes are given."""
    depth_scale: float
    """Blocks in which the distance to the last cosine falls to 1/e (Schoenholz 2017); NaN where it does not fall."""
    noise: tuple[float, ...]
    """Mean cosine of pairs of noise inputs."""

    def panels(self) -> list[Panel]:
        """Returns cosines over depth."""
        depth = range(len(self.cosines))
        curves = {"pairs of inputs": (depth, self.cosines), "noise": (depth, self.noise)}
        if self.same_class:
            curves["pairs of one class"] = (depth, self.same_class)
        return [Panel("how alike inputs look", "block", "mean cosine", curves)]


def correlation(model: Any, x: Any, y: Any = None, *, statistics: Statistics = "batch", seed: int = 0) -> Correlation:
    """Returns the mean cosine between inputs at every block (Schoenholz 2017).

    Near 1 all inputs look the same and no later layer can tell them apart. Near 0 they are orthogonal, as in plain
    networks with batch norm: alike and unlike then look the same too, so read this beside `information`. Control:
    pairs of noise inputs.

    Args:
        model: a Keras model, or one taken apart.
        x: a batch of inputs.
        y: their class numbers, where there are any.
        statistics: of batch norms: `batch` as in training, or `moving`.
        seed: of the noise.

    Raises:
        ReszooError: the model cannot be taken apart, or the data are not what it takes.
    """
    network = take_apart(model)
    labels = None if y is None else network.labels(y)[:, 0]
    with untouched(network.graph.model):
        found = network.graph.read(x, wanted=network.trunk, statistics=statistics)
        control = network.graph.read(_noise(x, seed), wanted=network.trunk, statistics=statistics)
    maps = [_cosines(found[slot]) for slot in network.trunk]
    apart = ~np.eye(len(maps[0]), dtype=bool)
    cosines = [float(value[apart].mean()) for value in maps]
    same = apart & (labels[:, None] == labels) if labels is not None else apart
    noise = [float(_cosines(control[slot])[apart].mean()) for slot in network.trunk]
    last = cosines[-1]
    level: Level = "broken" if not last <= 0.98 else "strained" if last > 0.9 else "healthy"
    told = f"the mean cosine between inputs goes from {cosines[0]:.3f} to {last:.4f}"
    if level != "healthy":
        told += ": all inputs come to look the same"
    elif last < 0.05 < cosines[0] - 0.1:
        told += ": inputs become orthogonal, alike or not; see information"
    return Correlation(
        model=network.name,
        level=level,
        verdict=told,
        control={"noise at the last block": noise[-1]},
        cosines=tuple(cosines),
        same_class=tuple(float(value[same].mean()) for value in maps) if labels is not None and same.any() else (),
        depth_scale=_depth_scale(cosines),
        noise=tuple(noise),
    )


def _cosines(value: Any) -> Any:
    rows = value.reshape(len(value), -1).astype("float64")
    norms = np.sqrt((rows**2).sum(axis=1, keepdims=True))
    rows = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
    return rows @ rows.T


def _depth_scale(cosines: list[float]) -> float:
    distance = np.abs(np.array(cosines) - cosines[-1])[: max(len(cosines) // 2, 2)]
    if len(distance) < 3 or not (distance > 1e-6).all():
        return float("nan")
    slope = np.polyfit(np.arange(len(distance)), np.log(distance), 1)[0]
    return float(-1 / slope) if slope < 0 else float("nan")


def _noise(x: Any, seed: int) -> Any:
    """Normal noise of the mean and the spread of the inputs."""
    from keras import tree

    random = np.random.default_rng(seed)
    return tree.map_structure(
        lambda array: random.normal(np.mean(array), np.std(array) or 1.0, np.shape(array)).astype("float32"), x
    )


def _rms(value: Any) -> float:
    greatest = float(np.abs(value).max(initial=0.0))
    if not np.isfinite(greatest) or greatest == 0:
        return greatest
    return greatest * float(np.sqrt(np.mean((value / greatest) ** 2, dtype="float64")))
