"""The profile of the gradient from the loss to the input: gradients of activations, not of weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from reszoo.diagnosis.anatomy import Anatomy, preserve_variables, take_apart
from reszoo.diagnosis.graph import Statistics
from reszoo.diagnosis.measures.result import Level, Result, level_of
from reszoo.diagnosis.objective import Loss
from reszoo.report.lines import Panel
from reszoo.types import Array, KerasModel, KerasVariable, Tensor


@dataclass(frozen=True, kw_only=True, repr=False)
class GradientProfile(Result):
    """Gradients of the loss with respect to h_0, ..., h_N: the input of the first block and the output of every block.

    Ratios of *weight* gradients mislead: in networks without norms the forward and the backward decay cancel in them,
    and they stay near 1 while activation gradients vanish by fifteen decades. `weight_ratio` shows this.
    """

    title: ClassVar[str] = "gradient profile"
    thresholds: ClassVar[str] = (
        "gradient at the first block over that at the last: within a factor of 100 healthy, within 10,000 strained, "
        "beyond vanishing or exploding"
    )

    blocks: tuple[str, ...]
    norms: tuple[float, ...]
    """Frobenius norm at h_0, ..., h_N."""
    rms: tuple[float, ...]
    """Root mean square at h_0, ..., h_N."""
    ratio: float
    """rms at h_0 over rms at h_N; if all shapes are equal, this is the ratio of norms."""
    gain: float
    """Factor per block towards the input, from a linear fit of the logarithms."""
    decades: float
    """log10 of the greatest rms over the smallest."""
    shape: str
    """Which law fits better, with its R2: exponential in the depth, or a power law."""
    by_part: Mapping[str, float]
    """The ratio within every stage, in which all shapes are equal."""
    weight_ratio: float
    """Norm of the kernel gradient of the first block over that of the last: secondary, see above."""
    loss: float

    def panels(self) -> list[Panel]:
        """Returns the root mean square over depth."""
        depth = range(len(self.rms))
        return [
            Panel(
                "gradient of the loss at each block", "block", "root mean square", {"network": (depth, self.rms)}, "log"
            )
        ]


def gradient_profile(
    model: KerasModel | Anatomy,
    x: Tensor,
    y: Tensor,
    *,
    loss: Loss | str | None = None,
    statistics: Statistics = "batch",
    seed: int = 0,
) -> GradientProfile:
    """Returns the norms of the activation gradients of every block (He 2016, equation 5; Yang 2019).

    Controls: the ratio with shuffled labels, which hardly differs at initialization; and 1, the exact ratio of a
    network of zero-scaled residual blocks.

    Example:
        >>> import numpy as np, reszoo
        >>> model = reszoo.create("residual_mlp18", input_shape=(8,), width_multiplier=1 / 32, norm="none", classes=2)
        >>> x = np.random.default_rng(0).normal(size=(16, 8)).astype("float32")
        >>> round(reszoo.diagnosis.gradient_profile(model, x, np.arange(16) % 2).ratio, 3)
        1.0

    Args:
        model: a Keras model or its `Anatomy`.
        x: a batch of inputs.
        y: what the compiled loss takes; class indices for a model without one.
        loss: a function of true values and outputs, instead of the compiled loss (without one, cross-entropy).
        statistics: which statistics batch norms use: `batch` as in training, or `moving`.
        seed: random seed of the shuffled labels.

    Raises:
        ReszooError: the model cannot be analyzed, or the data do not fit it.
    """
    network = take_apart(model)
    labels = network.targets(y, loss)
    kernels = _kernels(network)
    settings: dict[str, Any] = {"at": network.trunk, "loss": loss, "statistics": statistics}
    with preserve_variables(network.graph.model):
        value, slopes = network.gradients(x, labels, variables=kernels, **settings)
        shuffled = np.random.default_rng(seed).permutation(labels)
        _, shuffled_slopes = network.gradients(x, shuffled, **settings)
    count = len(network.trunk)
    norms, rms = zip(*map(sizes, slopes[:count]), strict=True)
    ratio = ratio_of(rms)
    control = ratio_of([sizes(slope)[1] for slope in shuffled_slopes])
    parts = {part: ratio_of([rms[at[0] + 1], rms[at[-1] + 1]]) for part, at in network.parts.items()}
    weight_norms = [sizes(slope)[0] for slope in slopes[count:]]
    gain, shape = _fit(rms)
    level, verdict = _verdict(network, rms, ratio, gain)
    return GradientProfile(
        model=network.name,
        level=level,
        verdict=verdict,
        control={"labels shuffled": control, "zero-scaled residual blocks": 1.0},
        blocks=tuple(block.name for block in network.blocks),
        norms=norms,
        rms=rms,
        ratio=ratio,
        gain=gain,
        decades=_decades(rms),
        shape=shape,
        by_part=parts,
        weight_ratio=ratio_of(weight_norms) if len(weight_norms) == 2 else float("nan"),
        loss=value,
    )


def block_gradients(
    network: Anatomy, x: Tensor, y: Tensor, *, loss: Loss | str | None = None, statistics: Statistics = "batch"
) -> tuple[float, ...]:
    """Returns the gradient at h_0, ..., h_N (root mean square) and no more, for a look while a model trains."""
    with preserve_variables(network.graph.model):
        _, slopes = network.gradients(x, network.targets(y, loss), at=network.trunk, loss=loss, statistics=statistics)
    return tuple(sizes(slope)[1] for slope in slopes)


def _kernels(network: Anatomy) -> list[KerasVariable]:
    """Returns the first kernel of the first and of the last block; nothing if one has no kernel."""
    kernels: list[KerasVariable] = []
    for block in (network.blocks[0], network.blocks[-1]):
        steps = network.graph.between([block.input, *network.graph.inputs], [block.output])
        variables = [v for step in steps for v in getattr(step.layer, "trainable_weights", ()) if len(v.shape) > 1]
        kernels += variables[:1]
    return kernels if len(kernels) == 2 else []


def sizes(value: Array) -> tuple[float, float]:
    """Returns norm and root mean square, scaled first and summed in float64: squares of small gradients underflow."""
    greatest = float(np.abs(value).max(initial=0.0))
    if not np.isfinite(greatest) or greatest == 0:
        return greatest, greatest
    norm = greatest * float(np.sqrt(((value / greatest) ** 2).sum(dtype="float64")))
    return norm, norm / float(np.sqrt(value.size))


def ratio_of(values: Sequence[float]) -> float:
    """Returns the first value over the last: infinity if the last is zero, NaN if both are."""
    if values[-1]:
        return float(values[0] / values[-1])
    return float("inf") if values[0] else float("nan")


def _decades(values: Sequence[float]) -> float:
    positive = [value for value in values if np.isfinite(value) and value > 0]
    return float(np.log10(max(positive) / min(positive))) if positive else float("nan")


def _fit(rms: Sequence[float]) -> tuple[float, str]:
    """Returns the gain per block towards the input, and which of two laws in the depth fits better."""
    values = np.array(rms)
    valid = np.isfinite(values) & (values > 0)
    depth, logs = np.arange(len(values))[valid], np.log(values[valid])
    if len(logs) < 3:
        gain = float(np.exp(logs[0] - logs[1])) if len(logs) == 2 else float("nan")
        return gain, "too few blocks for a fit"
    fits = {}
    for name, coordinate in (("exponential", depth), ("power law", np.log(depth + 1.0))):
        slope, intercept = np.polyfit(coordinate, logs, 1)
        residuals = ((logs - slope * coordinate - intercept) ** 2).sum()
        total = ((logs - logs.mean()) ** 2).sum()
        fits[name] = slope, (1 - residuals / total if total > 1e-8 else 1.0)
    gain = float(np.exp(-fits["exponential"][0]))
    if logs.max() - logs.min() < 1e-3:
        return gain, "constant"
    best = max(fits, key=lambda name: fits[name][1])
    return gain, f"{best} (R2 {fits[best][1]:.3f})"


def _verdict(network: Anatomy, rms: Sequence[float], ratio: float, gain: float) -> tuple[Level, str]:
    invalid = [block for block, value in enumerate(rms) if not np.isfinite(value) or value == 0]
    if invalid:
        # The gradient comes from the end: it is lost at the last invalid block.
        event = "underflows to zero" if rms[invalid[-1]] == 0 else "overflows"
        return (
            "broken",
            f"the gradient {event} at block {invalid[-1]} of {len(network.blocks)}, on its way to the input",
        )
    level = level_of(float(np.log10(ratio)))
    outcomes = {
        "healthy": "it reaches the first block",
        "strained": "it is strained",
        "broken": "it vanishes" if ratio < 1 else "it explodes",
    }
    numbers = f"the gradient at the first block is {ratio:.3g} times that at the last, {gain:.3f} per block"
    return level, f"{numbers}: {outcomes[level]}"
