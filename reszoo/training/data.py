"""Data sources, all with one face: examples that can be counted and taken by number."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from reszoo.errors import ReszooError
from reszoo.training.pictures import Pictures, found_in

KERAS_DATASETS = ("mnist", "fashion_mnist", "cifar10", "cifar100")
VALIDATION = 0.1
"""Share of the training examples that is held out where a source has no validation of its own."""


class Examples(Protocol):
    """Images or rows with their labels."""

    @property
    def labels(self) -> Any:
        """Class numbers, `(examples,)`."""

    def __len__(self) -> int: ...

    def take(self, numbers: Any, shown: Any = None) -> Any:
        """Returns the examples with these numbers: `(n, height, width, channels)` or `(n, features)`."""


@dataclass(frozen=True)
class Arrays:
    """Examples in memory."""

    x: Any
    labels: Any

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, numbers: Any, shown: Any = None) -> Any:
        """Returns the examples with these numbers."""
        return self.x[numbers]


@dataclass(frozen=True)
class Scaling:
    """What is done to numbers before the network: divided by `scale`, less `mean`, over `std` (of every channel)."""

    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, x: Any) -> Any:
        import numpy as np

        mean, std = np.array(self.mean, "float32"), np.array(self.std, "float32")
        return (np.asarray(x, "float32") / np.float32(self.scale) - mean) / std


@dataclass(frozen=True)
class Data:
    """Examples for training, validation and, where the source has them, testing."""

    name: str
    train: Examples
    validation: Examples
    classes: tuple[str, ...]
    scaling: Scaling
    test: Examples | None = None
    notes: tuple[str, ...] = ()
    """What was left out, and what is odd."""
    seed: int = 0
    """Of the split."""
    own_validation: bool = False
    """Whether the source itself has a validation part."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example."""
        return tuple(int(size) for size in self.train.take([0]).shape[1:])

    def counts(self) -> dict[str, tuple[int, int]]:
        """Returns class -> number of examples for training and for validation."""
        import numpy as np

        numbers = [np.bincount(part.labels, minlength=len(self.classes)) for part in (self.train, self.validation)]
        return {name: (int(a), int(b)) for name, a, b in zip(self.classes, *numbers, strict=True)}


def open_data(
    source: Any, /, *, size: int | None = None, test: str | Path | None = None, target: str | None = None, seed: int = 0
) -> Data:
    """Returns a data source, opened and split.

    Args:
        source: `digits` (scikit-learn), a name of `keras.datasets` (`cifar10`, ...), a folder of class folders (or of
            `train` and `val` with class folders), a `.npz` with `x` and `y`, a `.csv`, or arrays `(x, y)`.
        size: side of the square that images of a folder are shown in, in pixels; 224 by default.
        test: a second source of the same kind for testing.
        target: of a `.csv`, the column of classes; the last one by default.
        seed: of the split.

    Raises:
        ReszooError: there is no such source, or nothing in it that can be learnt from.
    """
    data = replace(_open(source, size or 224, target, seed), seed=seed)
    if test is not None:
        data = replace(data, test=_open(test, size or 224, target, seed, whole=True).train)
    absent = [name for name, (_, held) in data.counts().items() if not held]
    notes = (f"no example of {', '.join(absent)} for validation",) if absent else ()
    return replace(data, notes=(*data.notes, *notes))


def _open(source: Any, size: int, target: str | None, seed: int, *, whole: bool = False) -> Data:
    if isinstance(source, tuple) and len(source) == 2:
        return _arrays("arrays", *source, seed=seed, whole=whole)
    if source == "digits":
        from sklearn.datasets import load_digits

        x, y = load_digits(return_X_y=True)
        return _arrays("digits", x.reshape(-1, 8, 8, 1), y, seed=seed, scale=16.0, whole=whole, test=0.2)
    if source in KERAS_DATASETS:
        import keras

        (x, y), held = getattr(keras.datasets, source).load_data()
        data = _arrays(source, x, y, seed=seed, whole=whole)
        return replace(data, test=Arrays(*_checked(source, *held)))
    path = Path(str(source)).expanduser()
    readers: dict[str, Callable[[], Data]] = {
        ".npz": lambda: _npz(path, seed, whole),
        ".csv": lambda: _csv(path, target, seed, whole),
    }
    if path.is_dir():
        return _folder(path, size, seed, whole)
    if path.is_file() and path.suffix in readers:
        return readers[path.suffix]()
    allowed = f"a folder of class folders, a .npz, a .csv, digits, {', '.join(KERAS_DATASETS)}"
    raise ReszooError("data", given=repr(str(source)), allowed=allowed)


def _checked(name: str, x: Any, y: Any) -> tuple[Any, Any]:
    import numpy as np

    x, y = np.asarray(x), np.asarray(y).reshape(-1)
    if len(x) != len(y) or not len(x):
        raise ReszooError(name, given=f"{len(x)} examples and {len(y)} labels", allowed="as many, and at least one")
    if not np.issubdtype(y.dtype, np.integer) or y.min() < 0:
        raise ReszooError(name, given=f"labels of type {y.dtype} from {y.min()}", allowed="class numbers from 0")
    if x.dtype.kind not in "fiub" or x.ndim not in (2, 3, 4):
        raise ReszooError(
            name, given=f"x of shape {x.shape}, {x.dtype}", allowed="(n, height, width[, channels]) or (n, features)"
        )
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        raise ReszooError(name, given="x with NaN or infinity", allowed="numbers")
    return (x[..., None] if x.ndim == 3 else x), y.astype("int64")


def _arrays(
    name: str,
    x: Any,
    y: Any,
    *,
    seed: int,
    scale: float | None = None,
    classes: Sequence[str] | None = None,
    whole: bool = False,
    test: float = 0.0,
) -> Data:
    x, y = _checked(name, x, y)
    classes = tuple(classes or map(str, range(int(y.max()) + 1)))
    if whole:
        return Data(name, Arrays(x, y), Arrays(x, y), classes, Scaling(1, (0,), (1,)))
    held = None
    if test:
        kept, out = split(y, test, seed)
        held, x, y = Arrays(x[out], y[out]), x[kept], y[kept]
    kept, out = split(y, VALIDATION, seed)
    train = Arrays(x[kept], y[kept])
    scale = scale or (255.0 if x.dtype.kind in "ui" and x.ndim == 4 else 1.0)
    axes = tuple(range(x.ndim - 1))
    mean, std = train.x.mean(axis=axes) / scale, train.x.std(axis=axes) / scale
    told = Scaling(scale, tuple(map(float, mean)), tuple(float(value) or 1.0 for value in std))
    return Data(name, train, Arrays(x[out], y[out]), classes, told, held)


def split(labels: Any, share: float, seed: int) -> tuple[Any, Any]:
    """Returns numbers of the examples that stay and of those held out: of every class the same share."""
    import numpy as np

    random, out = np.random.default_rng([seed, 7]), []
    for number in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == number))
        out.append(members[: round(share * len(members))])
    held = np.sort(np.concatenate(out))
    return np.setdiff1d(np.arange(len(labels)), held), held


def _npz(path: Path, seed: int, whole: bool) -> Data:
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise ReszooError(str(path), given=f"a file that is not .npz ({error})", allowed="arrays x and y") from None
    if not {"x", "y"} <= set(arrays):
        raise ReszooError(str(path), given=f"arrays {', '.join(arrays)}", allowed="x and y, and x_test and y_test")
    data = _arrays(path.stem, arrays["x"], arrays["y"], seed=seed, whole=whole)
    if {"x_test", "y_test"} <= set(arrays) and not whole:
        return replace(data, test=Arrays(*_checked(path.stem, arrays["x_test"], arrays["y_test"])))
    return data


def _csv(path: Path, target: str | None, seed: int, whole: bool) -> Data:
    """Columns of numbers as they are, columns of words as one column per word."""
    import numpy as np

    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.reader(stream))
    if len(rows) < 3:
        raise ReszooError(str(path), given=f"{len(rows)} lines", allowed="a line of names and at least two rows")
    names, rows = rows[0], [row for row in rows[1:] if row]
    short = next((number for number, row in enumerate(rows, 2) if len(row) != len(names)), None)
    if short:
        raise ReszooError(f"{path}, row {short}", given="another number of columns", allowed=str(len(names)))
    target = target or names[-1]
    if target not in names:
        raise ReszooError(f"{path}: target", given=repr(target), allowed=", ".join(names))
    columns = {name: [row[place].strip() for row in rows] for place, name in enumerate(names)}
    words = sorted(set(columns.pop(target)), key=lambda word: (len(word), word) if word.isdecimal() else (0, word))
    labels = np.array([words.index(row[names.index(target)].strip()) for row in rows])
    features = [feature for name, values in columns.items() for feature in _features(path, name, values)]
    return _arrays(path.stem, np.array(features, "float32").T, labels, seed=seed, classes=words, whole=whole)


def _features(path: Path, name: str, values: list[str]) -> list[list[float]]:
    if "" in values:
        row = values.index("") + 2
        raise ReszooError(f"{path}, row {row}, column {name}", given="nothing", allowed="a number or a word")
    try:
        return [[float(value) for value in values]]
    except ValueError:
        return [[float(value == word) for value in values] for word in sorted(set(values))]


def _folder(folder: Path, size: int, seed: int, whole: bool) -> Data:
    parts = {word: folder / word for word in ("train", "val", "validation", "test") if (folder / word).is_dir()}
    found = found_in(parts.get("train", folder))
    train = Pictures(found.paths, found.labels, size)
    told = Scaling(255.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    if whole:
        return Data(folder.name, train, train, found.classes, told, None, found.notes)
    held = {word: found_in(path, found.classes) for word, path in parts.items() if word != "train"}
    notes = [*found.notes, *(note for other in held.values() for note in other.notes)]
    validation = held.get("val") or held.get("validation")
    if validation:
        checked: Examples = Pictures(validation.paths, validation.labels, size)
    else:
        kept, out = split(found.labels, VALIDATION, seed)
        train, checked = train.only(kept), train.only(out)
    test = held.get("test")
    tested = Pictures(test.paths, test.labels, size) if test else None
    own = validation is not None
    return Data(folder.name, train, checked, found.classes, told, tested, tuple(notes), own_validation=own)
