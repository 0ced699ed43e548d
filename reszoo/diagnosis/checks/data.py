"""The inputs and true values: not finite, not scaled, constant, unrelated to each other."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from keras import tree

from reszoo.diagnosis.causes import Cause
from reszoo.diagnosis.graph import Slot, Step
from reszoo.diagnosis.objective import DISTANCES
from reszoo.diagnosis.program import Program, is_norm
from reszoo.types import Array

LARGE = 10.0
"""Root mean square of an input beyond which it counts as not scaled. Initial weights (Glorot 2010, He 2015) keep the
variance of inputs of size 1, so that the first outputs become as many times too large."""
SMALL = 0.01
LARGE_TARGETS = 100.0
"""The same for true values of a regression, which the last layer has to reach from about 1."""
ROWS = 2000
PERMUTATIONS = 39
"""The greatest score of 39 permutations is exceeded by chance once in 40."""
PROBED = 600
"""Most examples of the probes, half of them held out."""
COLUMNS = 4096
"""Most numbers of an example that the probes read, drawn at random."""
FEWEST = 200
"""Fewest examples from which inputs and labels are called unrelated."""


def bad_values(program: Program) -> Iterator[Cause]:
    """Yields NaN and infinite numbers in the inputs and in the true values."""
    parts = [("the inputs", part) for part in tree.flatten(program.x)]
    parts += [("the true values", output.y) for output in program.outputs]
    for name, part in parts:
        if part.dtype.kind != "f" or np.isfinite(part).all():
            continue
        rows = len(part) - int(np.isfinite(part).reshape(len(part), -1).all(axis=1).sum())
        count = int((~np.isfinite(part)).sum())
        yield Cause(
            "bad_values",
            f"{count} NaN or infinite numbers in {name}, in {rows} of {len(part)} examples",
            "one of them can make the loss NaN, and after one step every weight",
            "rows = np.isfinite(x).reshape(len(x), -1).all(axis=1) & np.isfinite(y).reshape(len(y), -1).all(axis=1)\n"
            "x, y = x[rows], y[rows]",
            evidence={"numbers": count, "examples": rows},
        )


def scale_causes(program: Program) -> Iterator[Cause]:
    """Yields causes in the scale of inputs (unfit for the initial weights, with no norm behind) and true values."""
    rows = program.finite_rows[:ROWS]
    x = program.inputs(rows)
    readers = [(step, slot) for step, slot in _first_readers(program) if not program.followed_by_norm(step)]
    slots = [*dict.fromkeys(slot for _, slot in readers)]
    values = program.graph.read(x, outputs=slots) if len(rows) and slots else {}
    for slot, value in values.items():
        size = float(np.sqrt(np.mean(np.square(value, dtype="float64"))))
        # Bags of words are nearly all zeros; what is not zero has to be small.
        if size <= LARGE and not 0 < size * np.sqrt(value.size / max(int(np.count_nonzero(value)), 1)) < SMALL:
            continue
        flat = value.reshape(-1, value.shape[-1])
        deviations = flat.std(axis=0, dtype="float64")
        moving = deviations[deviations > 0]
        spread = f", features deviate by {moving.min():.3g} to {moving.max():.3g}" if len(moving) > 1 else ""
        name = next(step.name for step, other in readers if other == slot)
        yield Cause(
            "input_scaling",
            f"the inputs of {name} have a root mean square of {size:.4g} ({value.min():.4g} to {value.max():.4g}"
            f"{spread})",
            "initial weights and learning rates are made for inputs of about 1; others saturate or kill units, or "
            "learn too slowly",
            "scale = keras.layers.Normalization()\nscale.adapt(x)  # the first layer of the model",
            evidence={"root mean square": size, "expected": 1.0},
        )
    for output in program.outputs:
        finite = output.y[np.isfinite(output.y)] if output.y.dtype.kind in "fiu" else np.empty(0)
        size = float(np.sqrt(np.mean(np.square(finite, dtype="float64")))) if finite.size else 0.0
        if output.loss_name in DISTANCES and output.form == "values" and size > LARGE_TARGETS:
            yield Cause(
                "input_scaling",
                f"the true values have a root mean square of {size:.4g}",
                "the outputs begin near 0 and move by about one learning rate a step: they do not get there, or the "
                "squares of the errors overflow",
                "mean, scale = y.mean(axis=0), y.std(axis=0)\nmodel.fit(x, (y - mean) / scale, ...)",
                evidence={"root mean square of the true values": size, "expected": 1.0},
            )


def _first_readers(program: Program) -> Iterator[tuple[Step, Slot]]:
    """Yields the weighted steps that read the model's input, with no weights but those of norms before, and it."""
    graph = program.graph
    for step in program.weighted:
        if hasattr(step.layer, "embeddings"):
            continue
        before = graph.between(graph.inputs, [step.inputs[0]])
        if not any(one.kernels or is_norm(one.layer) for one in before):
            yield step, step.inputs[0]


def label_causes(program: Program) -> Iterator[Cause]:
    """Yields true values that are no numbers, class numbers where rows are needed, and values that are all equal."""
    for output in program.outputs:
        y = output.y
        if y.dtype.kind not in "iufb":
            yield Cause(
                "labels",
                f"true values of type {y.dtype}, such as {str(y.reshape(-1)[0])[:40]!r}: no numbers",
                "no loss takes them",
                "names, y = np.unique(y, return_inverse=True)  # class numbers, and the names they stand for",
            )
        if output.from_numbers:
            yield Cause(
                "labels",
                f"class numbers for {output.loss_name}",
                f"that loss takes one-hot rows of {output.units}; fit() refuses the numbers",
                "model.compile(..., loss='sparse_categorical_crossentropy')",
            )
        if len(y) > 1 and y.dtype.kind in "iufb" and (y == y[:1]).all():
            yield Cause(
                "labels",
                f"all {len(y)} true values are equal",
                "they tell nothing apart: a constant is the best prediction",
                "np.unique(y, return_counts=True)  # check how the labels were read",
            )


def relation_causes(program: Program, *, seed: int) -> Iterator[Cause]:
    """Yields what two probes, a linear one and one with a Gaussian kernel, say of inputs and true values.

    Labels that neither predicts better than permuted ones are unrelated to the inputs; where only the second one does,
    a single layer misses what a hidden one would find. Suspected only, and from 200 examples on: a relation that
    neither probe finds may exist.
    """
    rows = program.finite_rows[:PROBED]
    for output in program.outputs:
        features, target = features_of(program, rows), _target(output.y[rows], output.form)
        if features is None or target is None or len(rows) < FEWEST or (target == target[:1]).all():
            continue
        if _pairs(program):
            # Whether a user likes a film lies in neither alone.
            continue
        (linear, kernel), (linear_chance, kernel_chance) = _probes(features, target, seed)
        score, chance = max(linear, kernel), max(linear_chance, kernel_chance)
        if score <= chance:
            yield Cause(
                "labels",
                f"no relation between inputs and true values in {len(rows)} examples: probes explain {score:.1%} of "
                f"the variance of held-out ones, permuted ones up to {chance:.1%}",
                "labels that belong to other examples can be learned by heart, and help with no new example",
                "look at a few pairs of x and y, and check that both were shuffled alike",
                certain=False,
                evidence={"variance explained": score, "permuted labels, greatest": chance},
            )
        elif len(program.weighted) == 1 and linear <= linear_chance and kernel > 2 * kernel_chance:
            yield Cause(
                "layers",
                f"one weighted layer, and no linear relation between inputs and true values in {len(rows)} examples: a "
                f"linear probe explains {linear:.1%} of the variance of held-out ones (permuted ones up to "
                f"{linear_chance:.1%}), one with a Gaussian kernel {kernel:.1%} (up to {kernel_chance:.1%})",
                "a hidden layer is missing",
                HIDDEN,
                certain=False,
                evidence={"linear probe": linear, "kernel probe": kernel, "permuted labels, greatest": kernel_chance},
            )


def _pairs(program: Program) -> bool:
    """Returns whether the inputs are two or three identities, such as a user and a film, and nothing else."""
    parts = [np.asarray(part) for part in tree.flatten(program.x)]
    whole = all(part.dtype.kind in "iu" for part in parts) and any(hasattr(one, "embeddings") for one in program.layers)
    return whole and 2 <= sum(int(np.prod(part.shape[1:])) for part in parts) <= 3


HIDDEN = "x = keras.layers.Dense(64, activation='relu', kernel_initializer='he_normal')(x)  # before the last layer"
"""The remedy for a missing layer."""


def features_of(program: Program, rows: Array) -> Array | None:
    """Returns the inputs as standardized rows; token numbers as counts of tokens."""
    parts = []
    for part in tree.flatten(program.x):
        value = part[rows]
        if value.dtype.kind not in "iufb":
            return None
        value = value.reshape(len(value), -1)
        if value.dtype.kind in "iu" and any(hasattr(layer, "embeddings") for layer in program.layers):
            if value.min() < 0 or value.max() >= 5000:
                return None
            # Which tokens there are, and which stands where.
            parts.append(value.astype("float32"))
            value = np.stack([np.bincount(row, minlength=int(value.max()) + 1) for row in value])
        parts.append(value.astype("float32"))
    features = np.concatenate(parts, axis=1)
    if features.shape[1] > COLUMNS:
        features = features[:, np.random.default_rng(0).choice(features.shape[1], COLUMNS, replace=False)]
    features = features.astype("float64")
    return (features - features.mean(axis=0)) / np.maximum(features.std(axis=0), 1e-9)


def _target(y: Array, form: str) -> Array | None:
    y = y.reshape(len(y), -1).astype("float64") if y.dtype.kind in "iufb" else np.empty((0, 0))
    if not y.size or y.shape[1] > 20:
        return None
    if form == "classes" and y.shape[1] == 1 and 2 < len(np.unique(y)) <= 100:
        return (y == np.unique(y)).astype("float64")
    return y


def _probes(features: Array, target: Array, seed: int) -> tuple[list[float], list[float]]:
    """Returns the held-out R2 of a linear and a kernel ridge probe, and the greatest ones of permuted targets."""
    random = np.random.default_rng(seed)
    order = random.permutation(len(features))
    half = len(order) // 2
    features, target = features[order], target[order]
    target = (target - target.mean(axis=0)) / np.maximum(target.std(axis=0), 1e-9)
    targets = np.stack([target, *(random.permutation(target) for _ in range(PERMUTATIONS))])
    linear = features @ features.T / features.shape[1]
    squares = np.diag(linear)[:, None] + np.diag(linear)[None] - 2 * linear
    scores = []
    for kernel in (linear, np.exp(-squares / max(float(np.median(squares)), 1e-9))):
        eigen, vectors = np.linalg.eigh(kernel[:half, :half])
        ridge = 0.1 * max(float(eigen.mean()), 1e-9)
        solve = vectors / (np.clip(eigen, 0, None) + ridge)
        predictions = kernel[half:, :half] @ (solve @ (vectors.T @ targets[:, :half]))
        predictions -= predictions.mean(axis=1, keepdims=True)
        truth = targets[:, half:] - targets[:, half:].mean(axis=1, keepdims=True)
        norms = (predictions**2).sum(axis=(1, 2)) * (truth**2).sum(axis=(1, 2))
        # The squared correlation does not depend on the penalty's shrinkage.
        products = (predictions * truth).sum(axis=(1, 2))
        scores.append(np.sign(products) * products**2 / np.maximum(norms, 1e-12))
    return [float(one[0]) for one in scores], [float(one[1:].max()) for one in scores]
