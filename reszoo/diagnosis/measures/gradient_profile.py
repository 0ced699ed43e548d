"""How the gradient changes on its way from the loss to the input: by activations, not by weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from reszoo.diagnosis.anatomy import Anatomy, Loss, take_apart, untouched
from reszoo.diagnosis.graph import Statistics
from reszoo.diagnosis.measures.result import Level, Result, level_of
from reszoo.report.profiles import Panel


@dataclass(frozen=True, kw_only=True)
class GradientProfile(Result):
    """Gradients of the loss with respect to h_0, ..., h_N: what the first block reads and what every block puts out.

    Ratios of *weight* gradients mislead: in networks without norms the forward and the backward decay cancel in them,
    and they stay near 1 while activation gradients vanish by fifteen decades. `weight_ratio` is there to show it.
    """

    title: ClassVar[str] = "gradient profile"
    thresholds: ClassVar[str] = "|log10 ratio| below 2 healthy, to 4 strained, beyond vanishing or exploding"

    blocks: tuple[str, ...]
    norms: tuple[float, ...]
    """Frobenius norm at h_0, ..., h_N."""
    rms: tuple[float, ...]
    """The same per number: root mean square."""
    ratio: float
    """Of the rms at h_0 to that at h_N; where all shapes are equal that is the ratio of norms."""
    gain: float
    """Factor per block towards the input, from a straight line through the logarithms."""
    decades: float
    """Between the greatest and the smallest rms."""
    shape: str
    """Whether the logarithm follows depth (exponential) or its logarithm (power law), and how well (R2)."""
    by_part: Mapping[str, float]
    """The ratio within every stage, where shapes are equal."""
    weight_ratio: float
    """Of the norms of the first and the last block's kernel gradients: secondary, see above."""
    loss: float

    def panels(self) -> list[Panel]:
        """Returns norms over depth."""
        depth = range(len(self.rms))
        return [Panel("dL/dh, root mean square", "block", "gradient", {self.model: (depth, self.rms)}, "log")]


def gradient_profile(
    model: Any, x: Any, y: Any, *, loss: Loss | None = None, statistics: Statistics = "batch", seed: int = 0
) -> GradientProfile:
    """Returns the norms of the activation gradients of every block (He 2016, equation 5; Yang 2019).

    Control: the ratio with the labels shuffled, which at initialisation hardly differs; and 1, what a network of
    zero-scaled residual blocks has exactly.

    Args:
        model: a Keras model, or one taken apart.
        x: a batch of inputs.
        y: their classes, or what `loss` takes.
        loss: a function of true values and outputs, other than cross-entropy.
        statistics: of batch norms: `batch` as in training, or `moving`.
        seed: of the shuffled labels.

    Raises:
        ReszooError: the model cannot be taken apart, or the data are not what it takes.
    """
    network = take_apart(model)
    labels = network.labels(y, loss)
    kernels = _kernels(network)
    settings: dict[str, Any] = {"at": network.trunk, "loss": loss, "statistics": statistics}
    with untouched(network.graph.model):
        value, slopes = network.slopes(x, labels, variables=kernels, **settings)
        shuffled = np.random.default_rng(seed).permutation(labels)
        _, other = network.slopes(x, shuffled, **settings)
    count = len(network.trunk)
    norms, rms = zip(*map(_sizes, slopes[:count]), strict=True)
    ratio, control = ratio_of(rms), ratio_of([_sizes(slope)[1] for slope in other])
    parts = {part: ratio_of([rms[at[0] + 1], rms[at[-1] + 1]]) for part, at in network.parts.items()}
    weights = [_sizes(slope)[0] for slope in slopes[count:]]
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
        weight_ratio=ratio_of(weights) if len(weights) == 2 else float("nan"),
        loss=value,
    )


def block_gradients(
    network: Anatomy, x: Any, y: Any, *, loss: Loss | None = None, statistics: Statistics = "batch"
) -> tuple[float, ...]:
    """Returns the gradient at h_0, ..., h_N (root mean square) and no more, for a look while a model trains."""
    with untouched(network.graph.model):
        _, slopes = network.slopes(x, network.labels(y, loss), at=network.trunk, loss=loss, statistics=statistics)
    return tuple(_sizes(slope)[1] for slope in slopes)


def _kernels(network: Anatomy) -> list[Any]:
    """The first kernel of the first and of the last block."""
    found = []
    for block in (network.blocks[0], network.blocks[-1]):
        steps = network.graph.needed([block.output], [block.input, *network.graph.inputs])
        variables = [v for step in steps for v in getattr(step.layer, "trainable_weights", ()) if len(v.shape) > 1]
        found += variables[:1]
    return found if len(found) == 2 else []


def _sizes(slope: Any) -> tuple[float, float]:
    """Norm and root mean square, scaled first and summed in float64: squares of small gradients underflow."""
    greatest = float(np.abs(slope).max(initial=0.0))
    if not np.isfinite(greatest) or greatest == 0:
        return greatest, greatest
    norm = greatest * float(np.sqrt(((slope / greatest) ** 2).sum(dtype="float64")))
    return norm, norm / float(np.sqrt(slope.size))


def ratio_of(values: Any) -> float:
    """Returns the first of some sizes over the last."""
    return float(values[0] / values[-1]) if values[-1] else float("nan") if not values[0] else float("inf")


def _decades(values: Any) -> float:
    good = [value for value in values if np.isfinite(value) and value > 0]
    return float(np.log10(max(good) / min(good))) if good else float("nan")


def _fit(rms: Any) -> tuple[float, str]:
    """Gain per block towards the input; and which of two laws in the depth, from the input on, fits better."""
    values = np.array(rms)
    good = np.isfinite(values) & (values > 0)
    depth, logs = np.arange(len(values))[good], np.log(values[good])
    if len(logs) < 3:
        return (float(np.exp(logs[0] - logs[1])) if len(logs) == 2 else float("nan")), "too few blocks to say"
    fits = {}
    for name, over in (("exponential", depth), ("power law", np.log(depth + 1.0))):
        slope, start = np.polyfit(over, logs, 1)
        spread = ((logs - logs.mean()) ** 2).sum()
        fits[name] = slope, (1 - ((logs - slope * over - start) ** 2).sum() / spread if spread > 1e-8 else 1.0)
    gain = float(np.exp(-fits["exponential"][0]))
    if logs.max() - logs.min() < 1e-3:
        return gain, "constant"
    best = max(fits, key=lambda name: fits[name][1])
    return gain, f"{best} (R2 {fits[best][1]:.3f})"


def _verdict(network: Anatomy, rms: Any, ratio: float, gain: float) -> tuple[Level, str]:
    bad = [number for number, value in enumerate(rms) if not np.isfinite(value) or value == 0]
    if bad:
        # The gradient comes from the end: the last bad place is where it was lost.
        word = "underflows to zero" if rms[bad[-1]] == 0 else "overflows"
        return "broken", f"the gradient {word} at block {bad[-1]} of {len(network.blocks)}, on its way to the input"
    level = level_of(float(np.log10(ratio)))
    told = f"the gradient at the first block is {ratio:.3g} times that at the last, {gain:.3f} per block"
    lost = "it vanishes" if ratio < 1 else "it explodes"
    words = {"healthy": "it reaches the first block", "strained": "it is strained"}
    return level, f"{told}: {words.get(level, lost)}"
