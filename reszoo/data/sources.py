"""Data sources, all with one face: examples that can be counted and taken by number."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from reszoo.data.arrays import Arrays, gathered
from reszoo.data.csv_table import read_table
from reszoo.data.image_folder import Pictures, found_in
from reszoo.errors import ReszooError

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

    def arrays(self, part: Literal["train", "validation", "test"]) -> tuple[Any, Any]:
        """Returns all examples of a part, scaled, and their class numbers: for a `fit()` of your own.

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

        numbers = [np.bincount(part.labels, minlength=len(self.classes)) for part in (self.train, self.validation)]
        return {name: (int(a), int(b)) for name, a, b in zip(self.classes, *numbers, strict=True)}


def open_data(
    source: Any,
    /,
    *,
    size: int | None = None,
    validation: Any = None,
    test: Any = None,
    target: str | None = None,
    seed: int = 0,
) -> Data:
    """Returns a data source, opened and split.

    Args:
        source: `digits` (scikit-learn), a name of `keras.datasets` (`cifar10`, ...), a folder of class folders (or of
            `train` and `val` with class folders), a `.npz` with `x` and `y`, a `.csv`, arrays `(x, y)`, or a
            `tf.data.Dataset` or PyDataset of batches `(inputs, labels)`, which is read into memory.
        size: side of the square that images are shown in, in pixels; by default 224 for those of a folder, and arrays
            as they are.
        validation: a second source of the same kind for validation; by default a tenth of every class is held out,
            unless the source has a part for it.
        test: one more source, for testing.
        target: of a `.csv`, the column of classes; the last one by default.
        seed: of the split.

    Raises:
        ReszooError: there is no such source, or nothing in it that can be learnt from.
    """
    how: dict[str, Any] = {"size": size, "target": target, "seed": seed}
    data = replace(_open(source, **how, share=VALIDATION if validation is None else 0.0), seed=seed)
    if validation is not None:
        data = replace(data, validation=_of_same_kind(data, validation, how), own_validation=True)
    if test is not None:
        data = replace(data, test=_of_same_kind(data, test, how))
    absent = [name for name, (_, held) in data.counts().items() if not held]
    notes = (f"no example of {', '.join(absent)} for validation",) if absent else ()
    return replace(data, notes=(*data.notes, *notes))


def _of_same_kind(data: Data, source: Any, how: Mapping[str, Any]) -> Examples:
    """A further source, whole, its classes numbered as the first one's."""
    import numpy as np

    other = _open(source, **how, share=0.0)
    shape = tuple(int(side) for side in other.train.take([0]).shape[1:])
    strange = [name for name in other.classes if name not in data.classes]
    if strange or shape != data.shape:
        got = f"class {strange[0]!r}" if strange else f"examples of shape {shape}"
        raise ReszooError(other.name, got=got, expected=", ".join(data.classes) if strange else str(data.shape))
    numbers = np.array([data.classes.index(name) for name in other.classes])
    return replace(other.train, labels=numbers[other.train.labels])  # type: ignore[type-var]


def _open(source: Any, *, size: int | None, target: str | None, seed: int, share: float) -> Data:
    split_off: dict[str, Any] = {"size": size, "seed": seed, "share": share}
    if isinstance(source, tuple) and len(source) == 2:
        return _arrays("arrays", *source, **split_off)
    if source == "digits":
        from sklearn.datasets import load_digits

        x, y = load_digits(return_X_y=True)
        return _arrays("digits", x.reshape(-1, 8, 8, 1), y, scale=16.0, test=0.2, **split_off)
    if source in KERAS_DATASETS:
        import keras

        (x, y), held = getattr(keras.datasets, source).load_data()
        return _with_test(_arrays(source, x, y, **split_off), *held)
    if not isinstance(source, (str, Path)):
        if not hasattr(source, "__iter__") and not hasattr(source, "__getitem__"):
            raise ReszooError("data", got=repr(source), expected=_ALLOWED)
        return _arrays("batches", *gathered("batches", source), **split_off)
    path = Path(source).expanduser()
    readers: dict[str, Callable[[], Data]] = {
        ".npz": lambda: _npz(path, **split_off),
        ".csv": lambda: _table(path, target, **split_off),
    }
    if path.is_dir():
        return _folder(path, **split_off)
    if path.is_file() and path.suffix in readers:
        return readers[path.suffix]()
    raise ReszooError("data", got=repr(str(source)), expected=_ALLOWED)


_ALLOWED = f"a folder of class folders, a .npz, a .csv, digits, {', '.join(KERAS_DATASETS)}, (x, y), a dataset"


def _with_test(data: Data, x: Any, y: Any) -> Data:
    train: Any = data.train
    held = Arrays(*_checked(data.name, x, y), train.size)
    return replace(data, test=replace(held, x=_shrunk(held.x, held.size)))


def _shrunk(x: Any, size: int | None) -> Any:
    """Images that are larger than asked for, made smaller once; larger ones are made when they are taken."""
    if size is None or x.ndim != 4 or min(x.shape[1:3]) <= size:
        return x
    import keras
    import numpy as np

    parts = [np.asarray(x[start : start + 512], "float32") for start in range(0, len(x), 512)]
    shown = {"crop_to_aspect_ratio": True, "antialias": True, "data_format": "channels_last"}
    smaller = [keras.ops.image.resize(part, (size, size), **shown) for part in parts]
    return np.concatenate([keras.ops.convert_to_numpy(part) for part in smaller])


def _checked(name: str, x: Any, y: Any) -> tuple[Any, Any]:
    import numpy as np

    x, y = np.asarray(x), np.asarray(y).reshape(-1)
    if len(x) != len(y) or not len(x):
        raise ReszooError(name, got=f"{len(x)} examples and {len(y)} labels", expected="as many, and at least one")
    if not np.issubdtype(y.dtype, np.integer) or y.min() < 0:
        raise ReszooError(name, got=f"labels of type {y.dtype} from {y.min()}", expected="class numbers from 0")
    if x.dtype.kind not in "fiub" or x.ndim not in (2, 3, 4):
        raise ReszooError(
            name, got=f"x of shape {x.shape}, {x.dtype}", expected="(n, height, width[, channels]) or (n, features)"
        )
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        raise ReszooError(name, got="x with NaN or infinity", expected="numbers")
    return (x[..., None] if x.ndim == 3 else x), y.astype("int64")


def _arrays(
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
    """Examples in memory, a share of every class held out for validation, and before that one for testing."""
    x, y = _checked(name, x, y)
    scale = scale or (255.0 if x.dtype.kind in "ui" and x.ndim == 4 else 1.0)
    whole = Arrays(_shrunk(x, size), y, size if x.ndim == 4 else None)
    tested, rest = None, whole
    if test:
        kept, out = split(y, test, seed)
        tested, rest = whole.only(out), whole.only(kept)
    kept, out = split(rest.labels, share, seed)
    train = rest.only(kept)
    axes = tuple(range(x.ndim - 1))
    mean, std = train.x.mean(axis=axes) / scale, train.x.std(axis=axes) / scale
    told = Scaling(scale, tuple(map(float, mean)), tuple(float(value) or 1.0 for value in std))
    names = tuple(classes or map(str, range(int(y.max()) + 1)))
    return Data(name, train, rest.only(out), names, told, tested)


def split(labels: Any, share: float, seed: int) -> tuple[Any, Any]:
    """Returns numbers of the examples that stay and of those held out: of every class the same share."""
    import numpy as np

    random, out = np.random.default_rng([seed, 7]), []
    for number in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == number))
        out.append(members[: round(share * len(members))])
    held = np.sort(np.concatenate(out))
    return np.setdiff1d(np.arange(len(labels)), held), held


def _npz(path: Path, **how: Any) -> Data:
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise ReszooError(str(path), got=f"a file that is not .npz ({error})", expected="arrays x and y") from None
    if not {"x", "y"} <= set(arrays):
        raise ReszooError(str(path), got=f"arrays {', '.join(arrays)}", expected="x and y, and x_test and y_test")
    data = _arrays(path.stem, arrays["x"], arrays["y"], **how)
    own_test = {"x_test", "y_test"} <= set(arrays)
    return _with_test(data, arrays["x_test"], arrays["y_test"]) if own_test else data


def _table(path: Path, target: str | None, **how: Any) -> Data:
    x, labels, classes = read_table(path, target)
    return _arrays(path.stem, x, labels, classes=classes, **how)


def _folder(folder: Path, *, size: int | None, seed: int, share: float) -> Data:
    parts = {word: folder / word for word in ("train", "val", "validation", "test") if (folder / word).is_dir()}
    found = found_in(parts.get("train", folder))
    pictures = Pictures(found.paths, found.labels, size or 224)
    told = Scaling(255.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    held = {word: found_in(path, found.classes) for word, path in parts.items() if word != "train"}
    notes = [*found.notes, *(note for other in held.values() for note in other.notes)]
    opened = {word: Pictures(other.paths, other.labels, size or 224) for word, other in held.items()}
    validation = opened.get("val") or opened.get("validation")
    train = pictures
    if validation is None:
        kept, out = split(found.labels, share, seed)
        train, validation = pictures.only(kept), pictures.only(out)
    own = "val" in opened or "validation" in opened
    return Data(
        folder.name, train, validation, found.classes, told, opened.get("test"), tuple(notes), own_validation=own
    )
