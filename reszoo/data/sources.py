"""Data sources with one interface: examples that can be counted and taken by index."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

from reszoo.data.arrays import Arrays, check_arrays, read_batches, shrink_images, split
from reszoo.data.csv_table import read_table
from reszoo.data.image_folder import ImageFiles, index_folder
from reszoo.errors import ReszooError
from reszoo.notebook import html_table
from reszoo.types import Array, Tensor

DataSource: TypeAlias = str | Path | tuple[Array, Array] | Iterable[tuple[Tensor, Tensor]]
"""What `open_data` reads; a PyDataset counts as an iterable of batches."""
KERAS_DATASETS = ("mnist", "fashion_mnist", "cifar10", "cifar100")
VALIDATION = 0.1
"""Fraction of the training examples that is held out where a source has no validation part."""
TABLE_ROWS = 20
"""Classes in a notebook's table; further ones are counted."""


class Examples(Protocol):
    """Images or rows with their labels."""

    @property
    def labels(self) -> Array:
        """Class indices, `(examples,)`."""

    def __len__(self) -> int: ...

    def take(self, indices: Any, boxes: Any = None) -> Array:
        """Returns the examples at these indices: `(n, height, width, channels)` or `(n, features)`."""


@dataclass(frozen=True)
class Scaling:
    """Normalization before the network: `(x / scale - mean) / std`, per channel."""

    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, x: Any) -> Array:
        import numpy as np

        mean, std = np.array(self.mean, "float32"), np.array(self.std, "float32")
        result: Array = (np.asarray(x, "float32") / np.float32(self.scale) - mean) / std
        return result


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
    """Skipped files and other oddities."""
    seed: int = 0
    """Of the split."""
    own_validation: bool = False
    """Whether the source itself has a validation part."""
    task: Literal["classification", "multilabel", "regression"] = "classification"
    """Labels are class indices `(n,)`, zeros and ones `(n, classes)`, or numbers `(n, outputs)`."""
    white: float | None = None
    """Pixel value of white where it is not `scaling.scale`, since pretrained weights determine the scaling."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return tuple(int(side) for side in self.train.take([0]).shape[1:])

    def arrays(self, part: Literal["train", "validation", "test"]) -> tuple[Array, Array]:
        """Returns all examples of a part, scaled, and their class indices: for `model.fit(x, y)`.

        Raises:
            ReszooError: the source has no test part.
        """
        examples: Examples | None = getattr(self, part)
        if examples is None:
            raise ReszooError(f"{self.name}: {part}", got="no such part", expected="train, validation")
        return self.scaling(examples.take(range(len(examples)))), examples.labels

    def counts(self) -> dict[str, tuple[int, int]]:
        """Returns class -> number of examples for training and for validation."""
        import numpy as np

        counts = [np.bincount(part.labels, minlength=len(self.classes)) for part in (self.train, self.validation)]
        return {name: (int(a), int(b)) for name, a, b in zip(self.classes, *counts, strict=True)}

    def __repr__(self) -> str:
        test = "" if self.test is None else f", {len(self.test):,} test"
        sizes = f"{len(self.train):,} training, {len(self.validation):,} validation{test} examples"
        return f"Data({self.name[:40]!r}: {sizes} of {len(self.classes):,} classes, {len(self.notes)} notes)"

    def _repr_html_(self) -> str:
        """Examples of every class."""
        rows = [(name, *pair) for name, pair in self.counts().items()]
        remaining = [f"and {len(rows) - TABLE_ROWS} more classes"] if len(rows) > TABLE_ROWS else []
        notes = [f"and {len(self.notes) - 5} more notes"] if len(self.notes) > 5 else []
        note = "; ".join([*remaining, *self.notes[:5], *notes])
        return html_table(("class", "training", "validation"), rows[:TABLE_ROWS], title=repr(self), note=note)


def open_data(
    source: DataSource,
    /,
    *,
    size: int | None = None,
    validation: DataSource | None = None,
    test: DataSource | None = None,
    target: str | None = None,
    seed: int = 0,
) -> Data:
    """Returns a data source, opened and split.

    Example:
        >>> import reszoo
        >>> data = reszoo.open_data(([[0.0, 1.0]] * 20, [0, 1] * 10))
        >>> data.shape, data.classes, len(data.train), len(data.validation)
        ((2,), ('0', '1'), 18, 2)

    Args:
        source: `digits` (scikit-learn), a name in `keras.datasets` (`cifar10`, ...), a folder of class folders (or of
            `train` and `val` with class folders), a `.npz` with `x` and `y`, a `.csv`, arrays `(x, y)`, or a
            `tf.data.Dataset` or PyDataset of batches `(inputs, labels)`, which is read into memory.
        size: side of the square that images are resized to, in pixels; by default 224 for image folders, and the
            arrays' own size for arrays.
        validation: a second source of the same kind for validation; by default the source's validation part, or a
            tenth of every class.
        test: a source of the same kind for testing.
        target: class column of a `.csv`; by default the last one.
        seed: of the split.

    Raises:
        ReszooError: an unknown source, or one without usable examples.
    """
    settings: dict[str, Any] = {"size": size, "target": target, "seed": seed}
    data = replace(_open(source, **settings, share=VALIDATION if validation is None else 0.0), seed=seed)
    if validation is not None:
        data = replace(data, validation=_same_kind(data, validation, settings), own_validation=True)
    if test is not None:
        data = replace(data, test=_same_kind(data, test, settings))
    absent = [name for name, (_, held) in data.counts().items() if not held]
    notes = (f"no validation example of {', '.join(absent)}",) if absent else ()
    return replace(data, notes=(*data.notes, *notes))


def _same_kind(data: Data, source: DataSource, settings: Mapping[str, Any]) -> Examples:
    """All examples of a further source, with the first one's class indices."""
    import numpy as np

    other = _open(source, **settings, share=0.0)
    shape = tuple(int(side) for side in other.train.take([0]).shape[1:])
    unknown = [name for name in other.classes if name not in data.classes]
    if unknown or shape != data.shape:
        got = f"class {unknown[0]!r}" if unknown else f"examples of shape {shape}"
        raise ReszooError(other.name, got=got, expected=", ".join(data.classes) if unknown else str(data.shape))
    indices = np.array([data.classes.index(name) for name in other.classes])
    return replace(other.train, labels=indices[other.train.labels])  # type: ignore[type-var]


def _open(source: Any, *, size: int | None, target: str | None, seed: int, share: float) -> Data:
    settings: dict[str, Any] = {"size": size, "seed": seed, "share": share}
    if isinstance(source, tuple) and len(source) == 2:
        return _from_arrays("arrays", *source, **settings)
    if source == "digits":
        from sklearn.datasets import load_digits

        x, y = load_digits(return_X_y=True)
        return _from_arrays("digits", x.reshape(-1, 8, 8, 1), y, scale=16.0, test=0.2, **settings)
    if source in KERAS_DATASETS:
        import keras

        (x, y), held = getattr(keras.datasets, source).load_data()
        return _with_test(_from_arrays(source, x, y, **settings), *held)
    if not isinstance(source, (str, Path)):
        if not hasattr(source, "__iter__") and not hasattr(source, "__getitem__"):
            raise ReszooError("data", got=repr(source), expected=_EXPECTED)
        return _from_arrays("batches", *read_batches("batches", source), **settings)
    path = Path(source).expanduser()
    readers: dict[str, Callable[[], Data]] = {
        ".npz": lambda: _npz(path, **settings),
        ".csv": lambda: _table(path, target, **settings),
    }
    if path.is_dir():
        return _folder(path, **settings)
    if path.is_file() and path.suffix in readers:
        return readers[path.suffix]()
    raise ReszooError("data", got=repr(str(source)), expected=_EXPECTED)


_EXPECTED = f"a folder of class folders, a .npz, a .csv, digits, {', '.join(KERAS_DATASETS)}, (x, y), a dataset"


def _with_test(data: Data, x: Any, y: Any) -> Data:
    train: Any = data.train
    test = Arrays(*check_arrays(data.name, x, y), train.size)
    return replace(data, test=replace(test, x=shrink_images(test.x, test.size)))


def _from_arrays(
    name: str,
    x: Any,
    y: Any,
    *,
    seed: int,
    share: float,
    size: int | None = None,
    scale: float | None = None,
    classes: Sequence[str] | None = None,
    test: float = 0.0,
) -> Data:
    """Examples in memory; a fraction `test` of every class is held out first, then `share` for validation."""
    x, y = check_arrays(name, x, y)
    scale = scale or (255.0 if x.dtype.kind in "ui" and x.ndim == 4 else 1.0)
    remaining, test_part = Arrays(shrink_images(x, size), y, size if x.ndim == 4 else None), None
    if test:
        rest, held = split(y, test, seed)
        remaining, test_part = remaining.subset(rest), remaining.subset(held)
    rest, held = split(remaining.labels, share, seed)
    train = remaining.subset(rest)
    axes = tuple(range(x.ndim - 1))
    mean, std = train.x.mean(axis=axes) / scale, train.x.std(axis=axes) / scale
    scaling = Scaling(scale, tuple(map(float, mean)), tuple(float(value) or 1.0 for value in std))
    names = tuple(classes or map(str, range(int(y.max()) + 1)))
    return Data(name, train, remaining.subset(held), names, scaling, test_part)


def _npz(path: Path, **settings: Any) -> Data:
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise ReszooError(str(path), got=f"a file that is not .npz ({error})", expected="arrays x and y") from None
    if not {"x", "y"} <= set(arrays):
        expected = "x and y, optionally x_test and y_test"
        raise ReszooError(str(path), got=f"arrays {', '.join(arrays)}", expected=expected)
    data = _from_arrays(path.stem, arrays["x"], arrays["y"], **settings)
    has_test = {"x_test", "y_test"} <= set(arrays)
    return _with_test(data, arrays["x_test"], arrays["y_test"]) if has_test else data


def _table(path: Path, target: str | None, **settings: Any) -> Data:
    x, labels, classes = read_table(path, target)
    return _from_arrays(path.stem, x, labels, classes=classes, **settings)


def _folder(folder: Path, *, size: int | None, seed: int, share: float) -> Data:
    folders = {word: folder / word for word in ("train", "val", "validation", "test") if (folder / word).is_dir()}
    index = index_folder(folders.pop("train", folder))
    train = ImageFiles(index.paths, index.labels, size or 224)
    # ImageNet's channel statistics.
    scaling = Scaling(255.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    others = {word: index_folder(path, index.classes) for word, path in folders.items()}
    notes = (*index.notes, *(note for other in others.values() for note in other.notes))
    parts = {word: ImageFiles(other.paths, other.labels, size or 224) for word, other in others.items()}
    validation = parts.get("val") or parts.get("validation")
    has_validation = validation is not None
    if validation is None:
        rest, held = split(index.labels, share, seed)
        train, validation = train.subset(rest), train.subset(held)
    test = parts.get("test")
    return Data(folder.name, train, validation, index.classes, scaling, test, notes, own_validation=has_validation)
