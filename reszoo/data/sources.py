"""Opening of data sources: folders, files, arrays and streams, read, checked and split."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from reszoo.data.arrays import check_inputs
from reszoo.data.csv_table import read_table
from reszoo.data.dataset import Data as Data
from reszoo.data.duplicates import duplicates
from reszoo.data.examples import Examples as Examples
from reszoo.data.hugging_face import is_hugging_face, read_columns
from reszoo.data.image_folder import ImageFiles
from reszoo.data.join import with_part
from reszoo.data.labels import Task
from reszoo.data.open_arrays import arrays_data
from reszoo.data.open_folder import folder_data
from reszoo.data.pairs import Parts, parts_of, read_npz
from reszoo.data.pictures import Channels, check_channels
from reszoo.data.ranges import Scaling as Scaling, value_range
from reszoo.data.splits import refuse_own_validation
from reszoo.data.streams import read_stream
from reszoo.errors import ReszooError, nearest
from reszoo.types import Array, Tensor

DataSource: TypeAlias = str | Path | tuple[Any, ...] | Mapping[str, Any] | Iterable[tuple[Tensor, Tensor]]
"""What `open_data` reads; a PyDataset counts as an iterable of batches."""
KERAS_DATASETS = ("mnist", "fashion_mnist", "cifar10", "cifar100")
VALIDATION = 0.1
"""Fraction of the training examples that is held out where a source has no validation part."""


def open_data(
    source: DataSource,
    /,
    *,
    size: int | None = None,
    validation: DataSource | None = None,
    test: DataSource | None = None,
    target: str | None = None,
    seed: int = 0,
    task: Task | None = None,
    channels: Channels | None = None,
    groups: Sequence[Any] | Array | Callable[[Path], Any] | None = None,
    folds: int | None = None,
    fold: int | None = None,
) -> Data:
    """Returns a data source, opened and split.

    Example:
        >>> import reszoo
        >>> data = reszoo.open_data(([[0.0, 1.0]] * 20, [0, 1] * 10))
        >>> data.shape, data.classes, len(data.train), len(data.validation)
        ((2,), ('0', '1'), 18, 2)

    Args:
        source: `digits` (scikit-learn), a name in `keras.datasets` (`cifar10`, ...), a folder of class folders (or of
            `train` and `val` with class folders), a `.npz` with `x` and `y`, a `.csv`, arrays `(x, y)` or
            `((x, y), (x_test, y_test))`, a dict of them, or a stream of batches `(inputs, labels)`, which is read into
            memory: a `tf.data.Dataset`, a PyDataset, a PyTorch `DataLoader`; a Hugging Face dataset.
        size: side of the square that images are resized to, in pixels; by default 224 for image folders, and the
            arrays' own size for arrays.
        validation: a second source of the same kind for validation; by default the source's validation part, or a
            tenth of every class.
        test: a source of the same kind for testing.
        target: class column of a `.csv`; by default the last one.
        seed: of the split.
        task: `multilabel` for rows of 0 and 1, `regression` for numbers; by default classification.
        channels: `rgb` or `gray`; by default colors for image folders, and the arrays' own channels for arrays.
        groups: a group for every example, or for a folder a function of the path; no group is on both sides of the
            split (patients, cameras, videos).
        folds: number of folds to split into instead of holding out a tenth.
        fold: the one that is held out, from 0.

    Raises:
        ReszooError: an unknown source, or one without usable examples.
    """
    check_channels(channels)
    for where, value, least in (("size", size, 1), ("seed", seed, 0)):
        if value is not None and value < least:
            raise ReszooError(where, got=value, expected=f"at least {least}")
    if validation is not None and (groups is not None or folds is not None):
        raise ReszooError("validation", got="a source, and groups or folds", expected="one of them")
    settings: dict[str, Any] = {"size": size, "target": target, "seed": seed, "channels": channels}
    share = VALIDATION if validation is None else 0.0
    data = _open(source, **settings, share=share, task=task, groups=groups, folds=folds, fold=fold)
    data = replace(data, seed=seed)
    for part, further in (("validation", validation), ("test", test)):
        if further is not None:
            data = with_part(data, part, _open(further, **settings, share=0.0, task=data.task))
    return replace(data, notes=tuple(dict.fromkeys((*data.notes, *_findings(data)))))


def _findings(data: Data) -> Iterable[str]:
    """Notes on the source as a whole."""
    if not len(data.validation):
        yield "no example for validation"
    elif data.task != "regression":
        counts = data.counts().items()
        absent = [name for name, (_, held) in counts if not held]
        # Of folders, the reader has said it.
        missing = [name for name, pair in counts if not any(pair) and not isinstance(data.train, ImageFiles)]
        for names, words in ((absent, "no validation example of"), (missing, "no example of")):
            if names:
                more = f" and {len(names) - 20} more" if len(names) > 20 else ""
                yield f"{words} {', '.join(names[:20])}{more}"
    if data.task == "classification" and sum(any(pair) for pair in data.counts().values()) == 1:
        yield "examples of one class only: there is nothing to learn"
    if len(data.shape) == 3:
        yield from duplicates(data.parts()).notes()


def _open(source: Any, *, target: str | None, **settings: Any) -> Data:
    if isinstance(source, (str, Path)):
        return _named(source, target, **settings)
    if is_hugging_face(source):
        table = read_columns("dataset", source, size=settings["size"], channels=settings["channels"])
        data = arrays_data("dataset", table.x, table.y, classes=table.classes, **settings)
        return replace(data, notes=(*table.notes, *data.notes))
    parts = parts_of(source)
    if parts is not None:
        return _from_parts("arrays", parts, target=target, **settings)
    if hasattr(source, "shape"):
        raise ReszooError("data", got=f"an array of shape {tuple(source.shape)}", expected="(x, y): inputs and labels")
    if not hasattr(source, "__iter__") and not hasattr(source, "__getitem__"):
        raise ReszooError("data", got=repr(source), expected=_EXPECTED)
    stream = read_stream("batches", source)
    data = arrays_data("batches", stream.x, stream.y, classes=stream.classes, **settings)
    return replace(data, notes=(*stream.notes, *data.notes))


def _named(source: str | Path, target: str | None, **settings: Any) -> Data:
    """A path, or the name of a data set."""
    if source == "digits":
        from sklearn.datasets import load_digits

        x, y = load_digits(return_X_y=True)
        return arrays_data("digits", x.reshape(-1, 8, 8, 1), y, white=16.0, test=0.2, **settings)
    if source in KERAS_DATASETS:
        import keras

        train, held = getattr(keras.datasets, str(source)).load_data()
        return _from_parts(str(source), Parts({"train": train, "test": held}), **settings)
    path = Path(source).expanduser()
    readers: dict[str, Callable[[], Data]] = {
        ".npz": lambda: _from_parts(path.stem, read_npz(path), **settings),
        ".csv": lambda: _table(path, target, **settings),
    }
    if path.is_dir():
        return folder_data(path, **settings)
    if path.is_file() and path.suffix.lower() in readers:
        return readers[path.suffix.lower()]()
    if path.exists():
        raise ReszooError(str(path), got=f"a file of type {path.suffix or 'unknown'}", expected=_EXPECTED)
    hint = nearest(source, ("digits", *KERAS_DATASETS))
    raise ReszooError("data", got=f"{str(source)!r}, no such file or folder", expected=_EXPECTED, hint=hint)


_EXPECTED = f"a folder of class folders, a .npz, a .csv, digits, {', '.join(KERAS_DATASETS)}, (x, y), a dataset"


def _from_parts(name: str, parts: Parts, **settings: Any) -> Data:
    """Sources by part; arrays of one type have one range of values."""
    sources = parts.sources
    own = "validation" in sources
    refuse_own_validation(name, own=own, **settings)
    pairs = {part: source for part, source in sources.items() if isinstance(source, (tuple, list)) and len(source) == 2}
    if pairs.keys() != sources.keys():
        opened = {part: _open(source, **_further(settings, own or part != "train")) for part, source in sources.items()}
    else:
        settings.pop("target", None)
        x = {part: check_inputs(_part_name(name, part), pair[0]) for part, pair in pairs.items()}
        alike = [images for images in x.values() if images.dtype == x["train"].dtype]
        values = value_range(alike) if x["train"].ndim == 4 else None
        opened = {}
        for part, pair in pairs.items():
            given = values if x[part].dtype == x["train"].dtype else None
            options = _further(settings, own or part != "train")
            opened[part] = arrays_data(_part_name(name, part), x[part], pair[1], values=given, **options)
    data = opened["train"]
    for part in ("validation", "test"):
        data = with_part(data, part, opened[part]) if part in opened else data
    return replace(data, notes=(*parts.notes, *data.notes))


def _part_name(name: str, part: str) -> str:
    return name if part == "train" else f"{name}: {part}"


def _further(settings: Mapping[str, Any], whole: bool) -> dict[str, Any]:
    """Settings of a part that is not split."""
    return {**settings, "share": 0.0, "groups": None, "folds": None, "fold": None} if whole else {**settings}


def _table(path: Path, target: str | None, **settings: Any) -> Data:
    x, labels, classes = read_table(path, target)
    return arrays_data(path.stem, x, labels, classes=classes, **settings)
