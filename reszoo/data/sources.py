"""Opening of data sources: folders, files, arrays and streams, read, checked and split."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import Any, TypeAlias

from reszoo.data.arrays import check_inputs
from reszoo.data.columns import Columns
from reszoo.data.dataset import Data as Data
from reszoo.data.examples import Examples as Examples, duplicates
from reszoo.data.image_folder import ImageFiles
from reszoo.data.labels import Task, case_notes, combination_notes
from reszoo.data.openers import arrays_data, folder_data, table_data
from reszoo.data.pairs import Parts, parts_of, read_npz
from reszoo.data.parts import with_part
from reszoo.data.pictures import Channels, check_channels
from reszoo.data.ranges import Scaling as Scaling, is_fraction, value_range
from reszoo.data.splits import refuse_own_validation
from reszoo.data.streams import is_hugging_face, read_columns, read_stream
from reszoo.data.table_files import is_table
from reszoo.errors import ReszooError, nearest
from reszoo.types import Array, Tensor

DataSource: TypeAlias = str | Path | tuple[Any, ...] | Mapping[str, Any] | Iterable[tuple[Tensor, Tensor]]
"""What `open_data` reads; a PyDataset counts as an iterable of batches."""
KERAS_DATASETS = ("mnist", "fashion_mnist", "cifar10", "cifar100")
DATA_SETS = ("digits", *KERAS_DATASETS)
"""Data sets with a name."""
VALIDATION = 0.1
"""Fraction of the training examples that is held out where a source has no validation part."""


def open_data(
    source: DataSource,
    /,
    *,
    size: int | None = None,
    validation: DataSource | None = None,
    test: DataSource | None = None,
    target: str | Sequence[str] | None = None,
    task: Task | None = None,
    columns: Columns | None = None,
    seed: int = 0,
    channels: Channels | None = None,
    groups: str | Sequence[object] | Array | Callable[[Path], object] | None = None,
    sample_weight: str | Sequence[float] | Array | None = None,
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
            `train` and `val` with class folders), a `.npz` with `x` and `y`, a table (`.csv`, `.tsv`, either compressed
            by gzip, a data frame, or a frame and its target), arrays `(x, y)` or `((x, y), (x_test, y_test))`, a dict
            of them, or a stream of batches `(inputs, labels)`, which is read into memory: a `tf.data.Dataset`, a
            PyDataset, a PyTorch `DataLoader`; a Hugging Face dataset. A third array holds weights of the examples.
        size: side of the square that images are resized to, in pixels; by default 224 for image folders, and the
            arrays' own size for arrays.
        validation: a second source of the same kind for validation; by default the source's validation part, or a
            tenth of every class.
        test: a source of the same kind for testing.
        target: column of a table that is learned, or several columns; by default the last one.
        task: `multilabel` for rows of 0 and 1, `regression` for numbers; by default classification.
        columns: encoding of a trained network (`Data.columns`), for a further table; by default a table's encoding is
            learned from its training part.
        seed: of the split.
        channels: `rgb` or `gray`; by default colors for image folders, and the arrays' own channels for arrays.
        groups: a group for every example, for a folder a function of the path, for a table also the name of a column;
            no group is on both sides of the split (patients, cameras, videos).
        sample_weight: a weight for every example, for a table also the name of a column; for the loss in training and
            validation. Arrays and batches may have them as a third array, a dict as `sample_weight`.
        folds: number of folds to split into instead of holding out a tenth.
        fold: the one that is held out, from 0.

    Raises:
        ReszooError: an unknown source, or one without usable examples.
    """
    check_channels(channels)
    for where, value, least in (("size", size, 1), ("seed", seed, 0)):
        if value is not None and (not isinstance(value, Integral) or isinstance(value, bool) or value < least):
            raise ReszooError(where, got=repr(value), expected=f"a whole number, at least {least}")
    if validation is not None and (groups is not None or folds is not None):
        raise ReszooError("validation", got="a source, and groups or folds", expected="one of them")
    settings: dict[str, Any] = {"size": size, "channels": channels, "target": target, "task": task, "seed": seed}
    share = VALIDATION if validation is None else 0.0
    division: dict[str, Any] = {"share": share, "groups": groups, "folds": folds, "fold": fold}
    data = _open(source, **settings, columns=columns, sample_weight=sample_weight, **division)
    if target is not None and data.columns is None:
        raise ReszooError("target", got=repr(target), expected="a table: other sources have labels of their own")
    # A column has its name in every table; arrays have weights of their own.
    named = sample_weight if isinstance(sample_weight, str) else None
    settings |= {"columns": data.columns, "task": data.task, "share": 0.0, "sample_weight": named}
    data = replace(data, seed=seed)
    for part, further in (("validation", validation), ("test", test)):
        if further is not None:
            data = with_part(data, part, _open(further, **settings))
    return replace(data, notes=tuple(dict.fromkeys((*data.notes, *_findings(data)))))


def _findings(data: Data) -> Iterable[str]:
    """Notes on the source as a whole."""
    yield from (f"classes: {note}" for note in (*case_notes(data.classes), *combination_notes(data.classes)))
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
        yield "examples of one class only"
    if data.task == "regression" and not data.train.labels.std(axis=0).all():
        yield "a number to predict that is the same in every example"
    if len(data.shape) == 3:
        yield from duplicates(data.parts()).notes()


def _open(source: Any, *, target: Any, columns: Columns | None, **settings: Any) -> Data:
    if is_table(source):
        for name in ("size", "channels"):
            if settings[name] is not None:
                raise ReszooError(name, got=f"{settings[name]!r} for a table", expected="images")
        return table_data(source, target=target, columns=columns, **settings)
    if isinstance(source, (str, Path)):
        return _named(source, **settings)
    if is_hugging_face(source):
        table = read_columns("dataset", source, size=settings["size"], channels=settings["channels"])
        data = arrays_data("dataset", table.x, table.y, classes=table.classes, **settings)
        return replace(data, notes=(*table.notes, *data.notes))
    parts = parts_of(source)
    if parts is not None:
        if all(isinstance(pair, (tuple, list)) and not is_table(pair) for pair in parts.sources.values()):
            return _from_pairs("arrays", parts, **settings)
        return _from_sources(parts, target=target, columns=columns, **settings)
    if hasattr(source, "shape"):
        raise ReszooError("data", got=f"an array of shape {tuple(source.shape)}", expected="(x, y): inputs and labels")
    if not hasattr(source, "__iter__") and not hasattr(source, "__getitem__"):
        raise ReszooError("data", got=repr(source), expected=_EXPECTED)
    stream = read_stream("batches", source)
    settings = _with_weights("batches", settings, stream.weights)
    data = arrays_data("batches", stream.x, stream.y, classes=stream.classes, **settings)
    return replace(data, notes=(*stream.notes, *data.notes))


def _named(source: str | Path, **settings: Any) -> Data:
    """A path, or the name of a data set."""
    if source == "digits":
        from sklearn.datasets import load_digits

        x, y = load_digits(return_X_y=True)
        return arrays_data("digits", x.reshape(-1, 8, 8, 1), y, white=16.0, test=0.2, **settings)
    if source in KERAS_DATASETS:
        import keras

        train, held = getattr(keras.datasets, str(source)).load_data()
        return _from_pairs(str(source), Parts({"train": train, "test": held}), **settings)
    path = Path(source).expanduser()
    if path.is_dir() and str(source):
        return folder_data(path, **settings)
    if path.is_file() and path.suffix.lower() == ".npz":
        return _from_pairs(path.stem, read_npz(path), **settings)
    if path.is_file():
        got, hint = f"a file of type {path.suffix or 'unknown'}", HINTS.get(path.suffix.lower(), "")
        raise ReszooError(str(path), got=got, expected=_EXPECTED, hint=hint)
    hint = nearest(source, DATA_SETS)
    raise ReszooError("data", got=f"{str(source)!r}, no such file or folder", expected=_EXPECTED, hint=hint)


_EXPECTED = f"a folder of class folders, a .npz, a .csv or .tsv, digits, {', '.join(KERAS_DATASETS)}, (x, y), a dataset"


HINTS = {
    ".npy": "np.savez('data.npz', x=x, y=y)",
    **dict.fromkeys((".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar"), "unpack it first"),
    **dict.fromkeys(
        (".xlsx", ".xls", ".ods", ".parquet", ".feather", ".json", ".jsonl", ".pkl", ".arff", ".dta", ".sav"),
        "save it as .csv, or give the data frame that pandas reads from it",
    ),
    **dict.fromkeys((".txt", ".data", ".dat", ".tab"), "a table is named .csv or .tsv"),
    **dict.fromkeys((".jpg", ".jpeg", ".png", ".webp", ".gif", ".tif"), "a prediction for one picture: predict"),
}
"""For files that are no data source."""

WHOLE: dict[str, Any] = {"share": 0.0, "groups": None, "folds": None, "fold": None}
"""Settings of a part that is not split."""


def _from_pairs(name: str, parts: Parts, **settings: Any) -> Data:
    """Pairs `(x, y)` by part; arrays of one type have one range of values."""
    refuse_own_validation(name, own="validation" in parts.sources, **settings)
    names = {part: name if part == "train" else f"{name}: {part}" for part in parts.sources}
    x = {part: check_inputs(names[part], pair[0]) for part, pair in parts.sources.items()}
    alike = [images for images in x.values() if images.dtype == x["train"].dtype]
    values = value_range(alike) if x["train"].ndim == 4 else None
    opened = {}
    for part, pair in parts.sources.items():
        options = settings | (WHOLE if "validation" in parts.sources or part != "train" else {})
        options |= {} if part == "train" else {"sample_weight": None}
        # Of floats, those from 0 to 1 are as they are beside others from 0 to 255.
        shares = x[part].dtype == x["train"].dtype and not (values and is_fraction(x[part], values))
        own = values if shares else None
        options = _with_weights(names[part], options, *pair[2:])
        opened[part] = arrays_data(names[part], x[part], pair[1], values=own, **options)
    return _joined(parts, opened)


def _with_weights(name: str, settings: dict[str, Any], weights: Any = None) -> dict[str, Any]:
    """Returns settings with the weights that a source itself has.

    Raises:
        ReszooError: there are weights beside it as well.
    """
    if weights is None:
        return settings
    if settings.get("sample_weight") is not None:
        raise ReszooError(f"{name}: sample_weight", got="weights beside those of the source", expected="one of them")
    return settings | {"sample_weight": weights}


def _from_sources(parts: Parts, **settings: Any) -> Data:
    """Sources by part: tables, data sets, streams."""
    own = "validation" in parts.sources
    refuse_own_validation("data", own=own, **settings)
    train = _open(parts.sources["train"], **settings | (WHOLE if own else {}))
    further = settings | WHOLE | {"columns": train.columns, "task": train.task}
    further |= {} if isinstance(settings.get("sample_weight"), str) else {"sample_weight": None}
    others = {part: _open(source, **further) for part, source in parts.sources.items() if part != "train"}
    return _joined(parts, {"train": train, **others})


def _joined(parts: Parts, opened: Mapping[Any, Data]) -> Data:
    data = opened["train"]
    for part in ("validation", "test"):
        data = with_part(data, part, opened[part]) if part in opened else data
    return replace(data, notes=(*parts.notes, *data.notes))
