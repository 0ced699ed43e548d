"""Examples for the check and for the calibration of int8."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from reszoo.data.sources import Data, DataSource, Examples, open_data
from reszoo.deployment.network import Network
from reszoo.deployment.signature import random_inputs
from reszoo.errors import ReszooError
from reszoo.types import Array, KerasModel

RANDOM = 33
"""Examples of a check without data: one more than a call takes, so that the file runs at two batch sizes."""
CALIBRATION = 256
"""Examples of a calibration; more change nothing."""
MIN_CALIBRATION, FEW = 32, 128
"""Fewer calibration examples are refused, or noted."""
MAX_RATIO = 3.0
"""Of the spreads of calibration examples and of others."""


class CheckSet(NamedTuple):
    """Examples, as the exported file takes them."""

    x: Any
    """An array; for a network with several inputs, arrays by name."""
    labels: Array | None
    real: bool
    calibration: Array | None
    classes: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def total(self) -> int:
        """Number of examples."""
        return len(next(iter(self.x.values())) if isinstance(self.x, dict) else self.x)


def check_set(
    network: Network,
    exported: KerasModel,
    data: Data | DataSource | None,
    calibration: Data | DataSource | None,
    *,
    inside: bool,
    quantize: str | None,
    limit: int,
) -> CheckSet:
    """Returns the examples of the check, and those of the calibration if the file has 8-bit numbers.

    Without 8-bit numbers the check uses the test part of the data, else its own validation part, else everything. With
    them it uses the test or validation part, and the calibration uses the training part or data of its own.

    Raises:
        ReszooError: data that do not fit the network; or a calibration on too few examples, or on examples of another
            range.
    """
    shape = tuple(exported.inputs[0].shape[1:])
    if data is None:
        x = random_inputs(exported, RANDOM)
        return CheckSet(x, None, False, None, (), ("checked on random examples: accuracy is unknown without data=",))
    if len(exported.inputs) != 1:
        hint = "without data= the file is checked on random examples"
        raise ReszooError("deploy.data", got=f"a network of {len(exported.inputs)} inputs", expected="one", hint=hint)
    source, raw = _opened(data, shape, network)
    notes: list[str] = [] if network.scaling is not None else [_unknown_scaling(raw)]
    examples = _part(source, held_out=quantize == "int8" and calibration is None)
    settings: dict[str, Any] = {"network": network, "exported": exported, "inside": inside}
    x = _taken(source, examples, limit, raw=raw, **settings)
    labels, label_notes = _labels(source, examples.labels[_spread(len(examples), limit)], network, exported)
    classes: tuple[str, ...] = network.classes
    if not classes and labels is not None and _has_names(source) and len(source.classes) == _width(exported):
        classes = source.classes
        label_notes = (*label_notes, f"class names are those of {source.name}")
    chosen = None
    if quantize == "int8":
        other, other_raw = (source, raw) if calibration is None else _opened(calibration, shape, network)
        chosen = _taken(other, other.train, CALIBRATION, raw=other_raw, **settings)
        notes += _check_calibration(chosen, x)
    return CheckSet(x, labels, True, chosen, classes, (*notes, *label_notes, *source.notes[:3]))


def _opened(data: Data | DataSource, shape: tuple[int | None, ...], network: Network) -> tuple[Data, bool]:
    """The data, and whether they are arrays, which a network of unknown scaling takes as they are."""
    if isinstance(data, Data):
        return data, False
    side = shape[0] if len(shape) == 3 and shape[0] == shape[1] else None
    settings: dict[str, Any] = {"size": None if isinstance(data, tuple) else side, "seed": network.seed}
    if network.scaling is not None and len(shape) == 3:
        settings["channels"] = {1: "gray", 3: "rgb"}.get(shape[-1] or 0)
    if network.columns is not None:
        settings["columns"] = network.columns
    if network.task != "classification":
        settings["task"] = network.task
    return open_data(data, **settings), isinstance(data, tuple)


def _unknown_scaling(raw: bool) -> str:
    if raw:
        return "the preprocessing of this network is unknown: the arrays are its inputs as they are"
    return "the preprocessing of this network is unknown: inputs are scaled by the statistics of the data"


def _part(source: Data, *, held_out: bool) -> Examples:
    if source.test is not None:
        return source.test
    return source.validation if source.own_validation or held_out else _Everything(source.train, source.validation)


class _Everything:
    """Two sets of examples as one."""

    def __init__(self, *parts: Examples):
        self._parts = [part for part in parts if len(part)]
        self.labels = np.concatenate([part.labels for part in self._parts])

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Any, boxes: Any = None) -> Array:
        rows, start = np.asarray(indices), 0
        chunks = []
        for part in self._parts:
            inner = rows[(rows >= start) & (rows < start + len(part))] - start
            chunks += [part.take(inner)] if len(inner) else []
            start += len(part)
        return np.concatenate(chunks)


def _spread(count: int, limit: int) -> Array:
    """Indices of up to `limit` examples, evenly spaced and ascending."""
    return np.unique(np.linspace(0, count - 1, min(count, limit)).astype("int64")) if count else np.zeros(0, "int64")


def _taken(
    source: Data, examples: Examples, limit: int, *, raw: bool, network: Network, exported: KerasModel, inside: bool
) -> Array:
    """Examples as the file takes them."""
    rows = _spread(len(examples), limit)
    if not len(rows):
        raise ReszooError(f"deploy: {source.name}", got="no example to check", expected="at least one held out")
    x, tensor = np.asarray(examples.take(rows)), exported.inputs[0]
    shape = tuple(tensor.shape[1:])
    if len(shape) == 1 and x.ndim > 2:
        x = x.reshape(len(x), -1)
    if x.shape[1:] != tuple(a or b for a, b in zip(shape, x.shape[1:], strict=False)) or x.ndim != len(shape) + 1:
        got = f"examples of shape {x.shape[1:]}"
        raise ReszooError(f"deploy: {source.name}", got=got, expected=f"{shape}, as the network takes")
    if network.scaling is None:
        return (x if raw else source.scaling(x)).astype(tensor.dtype)
    _check_range(source.name, x, network.scaling.scale)
    if not inside:
        return np.asarray(network.inputs(x), tensor.dtype)
    return (np.clip(np.rint(x), 0, 255) if tensor.dtype == "uint8" else x).astype(tensor.dtype)


def _check_range(name: str, x: Array, scale: float) -> None:
    """Refuses pixels that are scaled already; tables (scale 1) have any range."""
    low, high = float(x.min()), float(x.max())
    if scale <= 1:
        return
    if low < 0 or high > 1.2 * scale or (x.dtype.kind == "f" and 0 < high <= scale / 100):
        got = f"values from {low:.3g} to {high:.3g}"
        hint = "the network scales them itself: pass examples as they are in the files"
        raise ReszooError(f"deploy: {name}", got=got, expected=f"0 to {scale:g}, as in training", hint=hint)


def _check_calibration(chosen: Array, x: Array) -> list[str]:
    if len(chosen) < MIN_CALIBRATION:
        expected = f"at least {MIN_CALIBRATION}, better {CALIBRATION}"
        raise ReszooError("deploy.calibration", got=f"{len(chosen)} examples", expected=expected)
    spread, other = float(chosen.astype("float32").std()), float(x.astype("float32").std())
    if not spread:
        raise ReszooError("deploy.calibration", got="examples of one value", expected="examples as in use")
    if max(spread, other) > MAX_RATIO * min(spread, other):
        got = f"examples with a standard deviation of {spread:.3g}, and others to check with one of {other:.3g}"
        raise ReszooError("deploy.calibration", got=got, expected="examples of the same range")
    few = f"calibrated on {len(chosen)} examples; {FEW} to {CALIBRATION} are better"
    return [few] if len(chosen) < FEW else [f"calibrated on {len(chosen)} examples"]


def _has_names(source: Data) -> bool:
    return source.classes != tuple(map(str, range(len(source.classes))))


def _width(exported: KerasModel) -> int:
    outputs = exported.outputs
    return int(outputs[0].shape[-1] or 0) if len(outputs) == 1 and len(outputs[0].shape) == 2 else 0


def _labels(
    source: Data, labels: Array, network: Network, exported: KerasModel
) -> tuple[Array | None, tuple[str, ...]]:
    """Class indices of the network, or None and the reason: matched by name where both name their classes."""
    width = _width(exported)
    if source.task != "classification":
        return None, (f"no accuracy: the task is {source.task}",)
    if width < 2:
        return None, ("no accuracy: the network has no classes",)
    if not network.classes or not _has_names(source):
        fits = len(labels) and int(labels.max()) < width
        return (labels, ()) if fits else (None, (f"no accuracy: labels up to {labels.max()} of {width} outputs",))
    unknown = [name for name in source.classes if name not in network.classes]
    if unknown:
        return None, (f"no accuracy: the network has no class {unknown[0]!r}",)
    return np.array([network.classes.index(name) for name in source.classes])[labels], ()
