"""Examples and labels in the forms that people give them: `(x, y)`, pairs of pairs, dicts and `.npz` files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from reszoo.data.parts import Part, part_of
from reszoo.errors import ReszooError

INPUTS = ("x", "image", "images", "data", "features", "inputs")
LABELS = ("y", "label", "labels", "target", "targets")
WEIGHTS = ("sampleweight", "sampleweights", "weight", "weights")
"""Names without underscores."""
PARTS: dict[int, tuple[Part, ...]] = {2: ("train", "test"), 3: ("train", "validation", "test")}
"""The meaning of so many sources in a tuple, as `keras.datasets` returns them."""
EXPECTED = "x and y, optionally x_test and y_test"


class Parts(NamedTuple):
    """Sources by part, each `(x, y)`, `(x, y, weights)` or what `open_data` reads; training is among them."""

    sources: dict[Part, Any]
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Parts({', '.join(self.sources)})"


def parts_of(source: Any, /) -> Parts | None:
    """Returns the parts of a tuple, list or dict of arrays; None for anything else, such as a list of batches.

    `((x, y), (x_test, y_test))`, as from `keras.datasets`, is training and test; with three pairs the second one is
    validation.

    Raises:
        ReszooError: several paths, or a dict without inputs and labels.
    """
    if isinstance(source, Mapping):
        return by_name("data", source)
    if not isinstance(source, (tuple, list)):
        return None
    if len(source) in (2, 3) and all(_is_pair(item) for item in source):
        if isinstance(source, list):
            # Batches of rows look the same.
            return None
        return Parts(dict(zip(PARTS[len(source)], source, strict=True)))
    if source and all(isinstance(item, (str, Path)) for item in source):
        hint = f"open_data({str(source[0])!r}, test=...) for a further source; pictures: a folder of class folders"
        raise ReszooError("data", got=f"{len(source)} names or paths", expected="one source, or (x, y)", hint=hint)
    if len(source) in (2, 3) and all(map(_is_stream, source)):
        return Parts(dict(zip(PARTS[len(source)], source, strict=True)))
    if len(source) == 2:
        return Parts({"train": (source[0], source[1])})
    if isinstance(source, tuple) and len(source) > 3 and all(hasattr(item, "shape") for item in source):
        hint = "((x_train, y_train), (x_test, y_test)): train_test_split has another order"
        raise ReszooError("data", got=f"{len(source)} arrays", expected="pairs of inputs and labels", hint=hint)
    if len(source) == 3 and isinstance(source, tuple) and not any(isinstance(item, tuple) for item in source):
        return Parts({"train": tuple(source)})
    return None


def _is_stream(item: Any) -> bool:
    """Whether something yields batches: neither an array nor a list."""
    yields = hasattr(item, "__iter__") or hasattr(item, "__getitem__")
    return yields and not hasattr(item, "shape") and not isinstance(item, (tuple, list, str, bytes, Mapping))


def _is_pair(item: Any) -> bool:
    """Whether something is `(x, y)` or `(x, y, weights)` with several examples, and not rows or labels."""
    if not isinstance(item, (tuple, list)) or len(item) not in (2, 3):
        return False
    return _depth(item[0]) > 1 and _depth(item[1]) > 0 and (len(item) == 2 or 0 < _depth(item[2]) < 3)


def _depth(value: Any) -> int:
    """Number of axes; of a list, by its first items."""
    if hasattr(value, "shape"):
        return len(value.shape)
    return 1 + _depth(value[0]) if isinstance(value, (list, tuple)) and len(value) else 0


def by_name(where: str, arrays: Mapping[Any, Any], /) -> Parts:
    """Returns the parts of named arrays: `x`, `y`, `x_test`, `y_test`, `train_images`, ...; or of sources by part.

    Args:
        where: the file or argument, for messages.
        arrays: by name.

    Raises:
        ReszooError: inputs or labels are missing, or there are two of them.
    """
    names = [str(name) for name in arrays]
    values = dict(zip(names, arrays.values(), strict=True))
    parts = {name: part_of(name) for name in names}
    if names and all(parts.values()):
        sources = {part: values[name] for name, part in parts.items() if part}
        if "train" not in sources or len(sources) < len(names):
            raise ReszooError(where, got=f"parts {', '.join(names)}", expected="train, and optionally validation, test")
        return Parts(sources)
    slots: dict[tuple[Part, str], str] = {}
    unused = []
    for name in names:
        slot = _slot(name)
        if slot is None:
            unused.append(name)
        elif slot in slots:
            raise ReszooError(where, got=f"both {slots[slot]} and {name}", expected=EXPECTED)
        else:
            slots[slot] = name
    missing = [(part, other) for part, kind in slots for other in "xy" if (part, other) not in slots]
    if ("train", "x") not in slots or missing:
        raise ReszooError(where, got=f"arrays {', '.join(names) or 'none'}", expected=EXPECTED)
    pairs: dict[Part, Any] = {}
    for part, kind in slots:
        if kind == "x":
            names_of_part = [slots[part, each] for each in "xyw" if (part, each) in slots]
            pairs[part] = tuple(values[name] for name in names_of_part)
    return Parts(pairs, (f"{where}: not used: {', '.join(unused)}",) if unused else ())


def _slot(name: str) -> tuple[Part, str] | None:
    """The part, and `x`, `y` or `w`, that a name means."""
    words = re.sub("(sample)[-_](weights?)", r"\1\2", name.lower()).replace("-", "_").split("_")
    meanings = {**dict.fromkeys(INPUTS, "x"), **dict.fromkeys(LABELS, "y"), **dict.fromkeys(WEIGHTS, "w")}
    kinds = [meanings[word] for word in words if word in meanings]
    parts = [part for word in words if (part := part_of(word))]
    if len(kinds) != 1 or len(kinds) + len(parts) != len(words) or len(parts) > 1:
        return None
    return (parts[0] if parts else "train"), kinds[0]


def read_npz(path: Path, /) -> Parts:
    """Returns the parts in a `.npz` file.

    Raises:
        ReszooError: the file is damaged, holds pickled objects, or lacks inputs or labels.
    """
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as error:
        # A damaged archive raises errors of several libraries.
        is_archive = _is_archive(path)
        objects = is_archive and "allow_pickle" in str(error)
        hint = "arrays of objects are not read: save numbers or words" if objects else ""
        got = f"a file that is not .npz{f' ({error})' if is_archive else ''}"
        raise ReszooError(str(path), got=got, expected="arrays x and y", hint=hint) from None
    return by_name(str(path), arrays)


def _is_archive(path: Path) -> bool:
    """Whether a file begins as a zip archive, which a `.npz` file is, or cannot be opened."""
    try:
        with open(path, "rb") as file:
            return file.read(2) == b"PK"
    except OSError:
        return True
