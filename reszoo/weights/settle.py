"""Settles what a checkpoint does not tell about its network: the alternatives are tried against outputs of examples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from reszoo.arch.plan import plan
from reszoo.arch.spec import NetSpec
from reszoo.errors import ReszooError
from reszoo.types import Array
from reszoo.weights import messages, questions
from reszoo.weights.alternatives import NOISE, TOLERANCE, Alternatives, Fit, difference
from reszoo.weights.formats.checkpoint import Tensor
from reszoo.weights.forward import UNCHANGED, check_shapes
from reszoo.weights.origin import open_weights
from reszoo.weights.translate import LayerNames, Translated

Check: TypeAlias = tuple[Array, Array]
"""Examples, channels last, and the outputs for them."""

DISTINCT = 10.0
"""Another network that fits is no tie if it differs this many times as much as the best, and by more than noise."""


@dataclass(frozen=True, repr=False)
class Settled:
    """The network of a checkpoint whose outputs are the expected ones."""

    spec: NetSpec
    answers: Mapping[str, Any]
    """What differs from the assumed network, as arguments of `from_checkpoint`; empty if nothing does."""
    inputs: str
    """What was done to the inputs: `unchanged`, `channels reversed`, ..."""
    difference: float
    """Largest difference of the outputs, relative to the largest output."""
    tried: int
    """Number of networks that were compared."""
    ties: tuple[str, ...] = ()
    """Other answers and inputs, in words, that give the same outputs on these examples."""

    def __repr__(self) -> str:
        ties = f"; equally: {' or '.join(self.ties[:4])}" if self.ties else ""
        counts = f"difference {self.difference:.1e}, {self.tried} tried"
        return f"Settled({_words(self.answers, self.inputs)}; {counts}{ties})"


def settle(
    source: str | Path,
    inputs: Array,
    outputs: Array,
    /,
    *,
    names: LayerNames | None = None,
    key: str | None = None,
    prefix: str | None = None,
    **changes: object,
) -> Settled:
    """Returns the network of a checkpoint that gives these outputs for these inputs.

    A file of weights does not tell strides, epsilon, activation, shortcuts without weights and groups of norms. The
    network with the usual answers is tried first, then those with one and two other answers; inputs also with
    reversed channels and other scaling. Four images suffice, as long as they differ.

    Example:
        >>> import numpy as np, reszoo
        >>> source = reszoo.record("resnet20_cifar.fashion_mnist").packaged
        >>> x = np.random.default_rng(0).random((2, 28, 28, 1), "float32")
        >>> reszoo.settle(source, x, np.asarray(reszoo.from_checkpoint(source).model(x))).answers
        {}

    Args:
        source: see `load_weights`.
        inputs: examples as the file's own code reads them, but with channels last.
        outputs: what that code returns for them: logits or probabilities.
        names: see `load_weights`.
        key: see `load_weights`.
        prefix: see `load_weights`.
        changes: answers that are known, as in `from_checkpoint`.

    Raises:
        ReszooError: no network has these outputs; the nearest one is not taken.
    """
    opened = open_weights(source, names=names, key=key, prefix=prefix)
    return settled(opened.translated, inputs, outputs, changes)


def settled(
    translated: Translated, inputs: Array, outputs: Array, changes: Mapping[str, Any], *, transforms: bool = True
) -> Settled:
    """Returns the same as `settle` for an opened checkpoint.

    Args:
        translated: the file.
        inputs: examples.
        outputs: what the network returns for them.
        changes: answers that are known.
        transforms: whether changed inputs are tried too.
    """
    alternatives = Alternatives(translated, inputs, outputs, changes, transforms=transforms)
    fits = alternatives.fits()
    if not fits:
        got = f"outputs that none of {alternatives.tried} networks gives; nearest: off by {alternatives.nearest:.2g}"
        hint = "other preprocessing of the inputs, or a network that no spec describes"
        raise ReszooError(translated.checkpoint.path.name, got=got, expected=f"at most {TOLERANCE:g}", hint=hint)
    best = fits[0]
    limit = max(DISTINCT * best.difference, NOISE)
    others = [fit for fit in fits[1:] if fit.difference <= limit and not _is_same(fit, best)]
    ties = tuple(_words(fit.answers, fit.inputs) for fit in others)
    result = Settled(best.spec, best.answers, best.inputs, best.difference, alternatives.tried, ties)
    if ties:
        words = " or ".join((_words(best.answers, best.inputs), *ties[:4]))
        message = f"several networks give these outputs: {words}"
        messages.warn(f"{translated.checkpoint.path.name}: {message}; more different examples decide")
    return result


def check_outputs(spec: NetSpec, tensors: Mapping[str, Tensor], check: Check, *, where: str) -> None:
    """Checks that a network with the tensors of a file gives these outputs.

    Raises:
        ReszooError: it gives others, or some of its weights are not in the file.
    """
    import numpy as np

    inputs, outputs = map(np.asarray, check)
    missing = [name for name in plan(spec).variables if name not in tensors]
    if missing:
        hint = "check= needs a file with all weights"
        raise ReszooError(f"{where}: check", got=f"no weights for {missing[0]}", expected="all weights", hint=hint)
    check_shapes(spec, inputs, outputs, where)
    weights = {name: tensor.read().astype("float32") for name, tensor in tensors.items()}
    distance = difference(spec, weights, inputs, outputs)
    if not distance <= TOLERANCE:
        hint = "reszoo.settle(file, inputs, outputs) finds the network that gives them"
        got = f"outputs that differ by {distance:.2g} of the largest"
        raise ReszooError(f"{where} into {spec.name}: check", got=got, expected=f"at most {TOLERANCE:g}", hint=hint)


def _words(answers: Mapping[str, Any], inputs: str) -> str:
    words = questions.as_text(answers) or "as assumed"
    return words if inputs == UNCHANGED else f"{words}, inputs with {inputs}"


def _is_same(one: Fit, other: Fit) -> bool:
    """Whether two networks are the same operations: at stride 1 all paddings are."""
    ops = [
        [op if op.stride > 1 and op.kernel > 1 else op._replace(padding="both") for op in plan(fit.spec).ops]
        for fit in (one, other)
    ]
    return one.inputs == other.inputs and ops[0] == ops[1]
