"""Opening of examples in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reszoo.data.arrays import Arrays, check_inputs, check_weights, shrink_images, to_channels
from reszoo.data.dataset import Data
from reszoo.data.duplicates import copies, digests
from reszoo.data.labels import Task, read_labels
from reszoo.data.memory import check_memory
from reszoo.data.pictures import Channels
from reszoo.data.ranges import Range, measure, value_range
from reszoo.data.splits import divide, split, strata
from reszoo.errors import ReszooError


def arrays_data(
    name: str,
    x: Any,
    y: Any,
    *,
    size: int | None = None,
    channels: Channels | None = None,
    task: Task | None = None,
    white: float | None = None,
    values: Range | None = None,
    classes: Sequence[str] | None = None,
    sample_weight: Any = None,
    test: float = 0.0,
    seed: int = 0,
    **division: Any,
) -> Data:
    """Returns examples in memory, checked and split.

    Args:
        name: of the source.
        x: inputs.
        y: labels of any form (`read_labels`).
        size: side of the square that images are resized to, in pixels.
        channels: that images are converted to.
        task: of the labels.
        white: value of white, where it is known; by default the values are judged.
        values: range of the values, where they belong to a larger source.
        classes: names of the classes, where the source has them.
        sample_weight: a weight for every example.
        test: fraction of every class that is held out for testing, before the validation part.
        seed: of the split.
        division: further settings of the split (`divide`).

    Raises:
        ReszooError: examples that no training can use.
    """
    x, labels = check_inputs(name, x), read_labels(name, y, task=task, classes=classes)
    if len(x) != len(labels.values) or not len(x):
        got = f"{len(x)} examples and {len(labels.values)} labels"
        raise ReszooError(name, got=got, expected="equal numbers of both, at least one")
    if isinstance(sample_weight, str) or callable(sample_weight):
        expected = f"for {name}: a number for every example"
        raise ReszooError("sample_weight", got=repr(sample_weight), expected=expected)
    weights = check_weights(name, sample_weight, len(x))
    notes = [*labels.notes]
    notes += [] if weights is None else [f"{name}: sample weights from {weights.min():g} to {weights.max():g}"]
    if white is None and x.ndim == 4:
        values = values or value_range(x)
        white = values.white
        notes += [f"{name}: {values.note}"] if values.note else []
    if channels and x.ndim == 4:
        before, x = x.shape[-1], to_channels(name, x, channels, white)
        notes += [f"{name}: images of {before} channels were converted to {channels}"] if x.shape[-1] != before else []
    remaining = Arrays(shrink_images(x, size), labels.values, size if x.ndim == 4 else None, weights)
    test_part = None
    groups = division.pop("groups", None)
    if callable(groups) or isinstance(groups, str):
        got = "a function" if callable(groups) else repr(groups)
        raise ReszooError("groups", got=got, expected=f"for {name}: a group for every example")
    if test or division["share"] or division.get("folds"):
        check_memory(name, remaining.x.nbytes)
    if test:
        rest, held = split(strata(remaining.labels), test, seed)
        remaining, test_part = remaining.subset(rest), remaining.subset(held)
        groups = groups if groups is None or len(groups) != len(x) else [groups[index] for index in rest]
    equal = copies(digests([remaining])[0]) if x.ndim == 4 and division["share"] else None
    rest, held, remarks = divide(remaining.labels, seed=seed, groups=groups, copies=equal, **division)
    train = remaining.subset(rest)
    scaling, validation = measure(train.x, white or 1.0), remaining.subset(held)
    return Data(
        name=name,
        train=train,
        validation=validation,
        test=test_part,
        classes=labels.classes,
        scaling=scaling,
        notes=(*notes, *remarks),
        task=labels.task,
        white=white,
    )
