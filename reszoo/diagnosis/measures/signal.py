"""The forward signal by depth: its size, the size of the branches, and how similar different inputs become."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from keras import tree

from reszoo.diagnosis.anatomy import Anatomy, preserve_variables, take_apart
from reszoo.diagnosis.graph import Statistics
from reszoo.diagnosis.measures.gradient_profile import sizes
from reszoo.diagnosis.measures.result import Level, Result, level_of
from reszoo.report.lines import Panel
from reszoo.types import Array, KerasModel, Tensor


@dataclass(frozen=True, kw_only=True, repr=False)
class SignalPropagation(Result):
    """Size of h_0, ..., h_N, and of every branch relative to its shortcut."""

    title: ClassVar[str] = "signal propagation"
    thresholds: ClassVar[str] = (
        "signal at the last block over that at the first: within a factor of 100 healthy, within 10,000 strained, "
        "beyond broken"
    )

    blocks: tuple[str, ...]
    squared_mean: tuple[float, ...]
    """Mean over channels of the squared channel mean."""
    variance: tuple[float, ...]
    """Mean over channels of the channel variance."""
    rms: tuple[float, ...]
    """Root mean square."""
    growth: float
    """rms at h_N over rms at h_0."""
    responses: tuple[float, ...]
    """Standard deviation of every branch output, of a plain block's output (He 2015, Fig. 7)."""
    branch_ratio: tuple[float, ...]
    """rms(F) / rms(x) of every residual block; NaN for a plain one."""

    def panels(self) -> list[Panel]:
        """Returns the size and the branch ratio over depth."""
        numbers = range(1, len(self.blocks) + 1)
        reference = [1 / np.sqrt(number) for number in numbers]
        ratio = {"branch / shortcut": (numbers, self.branch_ratio), "1 / sqrt(block)": (numbers, reference)}
        return [
            Panel("the signal", "block", "root mean square", {"network": (range(len(self.rms)), self.rms)}, "log"),
            Panel("branches beside their shortcuts", "block", "ratio of sizes", ratio, "log"),
        ]


def signal_propagation(
    model: KerasModel | Anatomy, x: Tensor, *, statistics: Statistics = "batch", seed: int = 0
) -> SignalPropagation:
    """Returns the size of the signal at every block, and of the branches (Brock 2021; He 2015, Fig. 7).

    Control: the growth for noise with the mean and standard deviation of the inputs. A branch is smaller than its
    shortcut only with batch norm (about 1/sqrt(block)) or with scaled or zero-scaled branches; by default
    initialization it is as large.

    Example:
        >>> import numpy as np, reszoo
        >>> model = reszoo.create("residual_mlp18", input_shape=(8,), width_multiplier=1 / 32, norm="none", classes=2)
        >>> x = np.random.default_rng(0).normal(size=(16, 8)).astype("float32")
        >>> max(reszoo.diagnosis.signal_propagation(model, x).branch_ratio)
        0.0

    Args:
        model: a Keras model or its `Anatomy`.
        x: a batch of inputs.
        statistics: which statistics batch norms use: `batch` as in training, or `moving`.
        seed: random seed of the noise.

    Raises:
        ReszooError: the model cannot be analyzed, or the data do not fit it.
    """
    network = take_apart(model)
    pairs = [slot for block in network.blocks if block.residual for slot in (block.branch, block.shortcut)]
    slots = {*network.trunk, *filter(None, pairs)}
    with preserve_variables(network.graph.model):
        values = network.graph.read(x, outputs=slots, statistics=statistics)
        control = network.graph.read(_noise(x, seed), outputs=network.trunk, statistics=statistics)
    trunk = [values[slot] for slot in network.trunk]
    lengths = [sizes(value)[1] for value in trunk]
    noise = [sizes(control[slot])[1] for slot in (network.trunk[0], network.trunk[-1])]
    channels = [value.reshape(-1, value.shape[-1]).astype("float64") for value in trunk]
    ratio = tuple(
        sizes(values[block.branch])[1] / sizes(values[block.shortcut])[1] if block.residual else float("nan")  # type: ignore[index]
        for block in network.blocks
    )
    growth = lengths[-1] / lengths[0] if lengths[0] else float("nan")
    level, verdict = _signal_verdict(lengths, growth, ratio)
    return SignalPropagation(
        model=network.name,
        level=level,
        verdict=verdict,
        control={"growth for noise": noise[1] / noise[0] if noise[0] else float("nan")},
        blocks=tuple(block.name for block in network.blocks),
        squared_mean=tuple(float((value.mean(axis=0) ** 2).mean()) for value in channels),
        variance=tuple(float(value.var(axis=0).mean()) for value in channels),
        rms=tuple(lengths),
        growth=growth,
        responses=tuple(
            float(values[block.branch if block.branch is not None else block.output].std(dtype="float64"))
            for block in network.blocks
        ),
        branch_ratio=ratio,
    )


def _signal_verdict(sizes: list[float], growth: float, ratio: Sequence[float]) -> tuple[Level, str]:
    invalid = next((block for block, size in enumerate(sizes) if not np.isfinite(size) or size == 0), None)
    if invalid is not None:
        return "broken", f"the signal {'becomes zero' if sizes[invalid] == 0 else 'overflows'} at block {invalid}"
    shares = [value for value in ratio if np.isfinite(value)]
    verdict = f"the signal after the last block is {growth:.3g} times its size before the first"
    if shares:
        verdict += f"; a branch is {np.median(shares):.3g} times its shortcut (median)"
        verdict += ", so every block starts as the identity" if max(shares) == 0 else ""
    return level_of(float(np.log10(growth))), verdict


@dataclass(frozen=True, kw_only=True, repr=False)
class Correlation(Result):
    """How similar different inputs are at h_0, ..., h_N."""

    title: ClassVar[str] = "correlation"
    thresholds: ClassVar[str] = (
        "distance of inputs (1 - mean cosine) at the last block relative to that at the first: from 1e-2 healthy, from "
        "1e-4 strained, below broken"
    )

    cosines: tuple[float, ...]
    """Mean cosine of pairs of different inputs."""
    distinct: tuple[float, ...]
    """Share of the mean square that differs between inputs: variance over mean square, a centered measure."""
    tokens: tuple[float, ...]
    """Of sequences: mean cosine of pairs of tokens of one example (Dong 2021, Noci 2022); else empty."""
    same_class: tuple[float, ...]
    """Mean cosine of pairs of the same class; empty without classes."""
    depth_scale: float
    """Blocks over which the distance to the last cosine falls to 1/e (Schoenholz 2017); NaN if it does not fall."""
    noise: tuple[float, ...]
    """Mean cosine of pairs of noise inputs."""

    def panels(self) -> list[Panel]:
        """Returns the cosines over depth."""
        depth = range(len(self.cosines))
        curves = {"pairs of inputs": (depth, self.cosines), "noise": (depth, self.noise)}
        if self.same_class:
            curves["pairs of the same class"] = (depth, self.same_class)
        return [Panel("similarity of inputs", "block", "mean cosine", curves)]


def correlation(
    model: KerasModel | Anatomy,
    x: Tensor,
    y: Tensor | None = None,
    *,
    statistics: Statistics = "batch",
    seed: int = 0,
) -> Correlation:
    """Returns the mean cosine between inputs at every block (Schoenholz 2017).

    Near 1 all inputs look the same and no later layer can distinguish them. Near 0 they are orthogonal, as in plain
    networks with batch norm: similar and different inputs then look equally different, so read this together with
    `information`. Control: pairs of noise inputs.

    Example:
        >>> import numpy as np, reszoo
        >>> model = reszoo.create("residual_mlp18", input_shape=(8,), width_multiplier=1 / 32, classes=2)
        >>> x = np.random.default_rng(0).normal(size=(16, 8)).astype("float32")
        >>> len(reszoo.diagnosis.correlation(model, x).cosines)
        9

    Args:
        model: a Keras model or its `Anatomy`.
        x: a batch of inputs.
        y: class indices, if there are any.
        statistics: which statistics batch norms use: `batch` as in training, or `moving`.
        seed: random seed of the noise.

    Raises:
        ReszooError: the model cannot be analyzed, or the data do not fit it.
    """
    network = take_apart(model)
    labels = None if y is None else np.asarray(network.labels(y))[:, 0]
    with preserve_variables(network.graph.model):
        values = network.graph.read(x, outputs=network.trunk, statistics=statistics)
        control = network.graph.read(_noise(x, seed), outputs=network.trunk, statistics=statistics)
    maps = [_cosines(values[slot]) for slot in network.trunk]
    pairs = ~np.eye(len(maps[0]), dtype=bool)
    cosines = [float(value[pairs].mean()) for value in maps]
    same = pairs & (labels[:, None] == labels) if labels is not None else pairs
    noise = [float(_cosines(control[slot])[pairs].mean()) for slot in network.trunk]
    last = cosines[-1]
    level, verdict = _similarity(network, cosines)
    if level != "healthy":
        verdict += ": all inputs become similar"
    elif last < 0.05 < cosines[0] - 0.1:
        verdict += ": inputs become orthogonal, similar ones too; see information"
    return Correlation(
        model=network.name,
        level=level,
        verdict=verdict,
        control={"noise at the last block": noise[-1]},
        cosines=tuple(cosines),
        distinct=tuple(_distinct(values[slot]) for slot in network.trunk),
        tokens=_tokens([values[slot] for slot in network.trunk]),
        same_class=tuple(float(value[same].mean()) for value in maps) if labels is not None and same.any() else (),
        depth_scale=_depth_scale(cosines),
        noise=tuple(noise),
    )


def _similarity(network: Anatomy, cosines: Sequence[float]) -> tuple[Level, str]:
    """Returns the level, and the verdict: inputs that are similar from the start are no fault of the network."""
    first, last = 1 - cosines[0], 1 - cosines[-1]
    verdict = f"the mean cosine between inputs goes from {cosines[0]:.3f} to {cosines[-1]:.4f}"
    if not np.isfinite(first) or not np.isfinite(last) or first <= 1e-6:
        return "unknown", f"{verdict}; the inputs are equal from the start"
    return level_of(min(0.0, float(np.log10(max(last, 1e-9) / first)))), verdict


def _distinct(value: Array) -> float:
    rows = value.reshape(len(value), -1).astype("float64")
    total = float((rows**2).mean())
    return float(rows.var(axis=0).mean() / total) if total else 0.0


def _tokens(values: Sequence[Array]) -> tuple[float, ...]:
    """Returns the mean cosine between the tokens of an example at every block, if all are sequences of tokens."""
    if any(value.ndim != 3 or value.shape[1] < 2 for value in values):
        return ()
    pairs = ~np.eye(values[0].shape[1], dtype=bool)
    # 32 examples are enough for a mean over all pairs.
    return tuple(
        float(np.mean([_cosines(one)[pairs].mean() for one in value[:32]]))
        if value.shape[1] == len(pairs)
        else float("nan")
        for value in values
    )


def _cosines(value: Array) -> Array:
    rows = value.reshape(len(value), -1).astype("float64")
    norms = np.sqrt((rows**2).sum(axis=1, keepdims=True))
    rows = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
    return np.asarray(rows @ rows.T)


def _depth_scale(cosines: list[float]) -> float:
    distance = np.abs(np.array(cosines) - cosines[-1])[: max(len(cosines) // 2, 2)]
    if len(distance) < 3 or not (distance > 1e-6).all():
        return float("nan")
    slope = np.polyfit(np.arange(len(distance)), np.log(distance), 1)[0]
    return float(-1 / slope) if slope < 0 else float("nan")


def _noise(x: Tensor, seed: int) -> Tensor:
    """Returns normal noise with the mean and deviation of the inputs; whole numbers are only mixed."""
    random = np.random.default_rng(seed)

    def noise(array: Array) -> Array:
        array = np.asarray(array)
        if array.dtype.kind != "f" or (array == np.round(array)).all():
            # Numbers of tokens or categories, of which there are no others.
            return random.permutation(array.reshape(-1)).reshape(array.shape)
        return random.normal(np.mean(array), np.std(array) or 1.0, array.shape).astype("float32")

    return tree.map_structure(noise, x)
