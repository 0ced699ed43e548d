"""A checkpoint in our words: its dialect recognised, every tensor under our name and in Keras' layout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

from reszoo.arch.recover import common_prefix
from reszoo.config import check, read_yaml
from reszoo.errors import ReszooError
from reszoo.weights.dialects import IGNORED, Dialect, Template, dialects
from reszoo.weights.formats.checkpoint import Checkpoint, Tensor

HARMLESS = {"in_chans", "num_classes", "drop_rate", "drop_path_rate", "zero_init_last", "global_pool"}
"""Arguments of timm's builders that do not change what its weights compute, or that shapes tell."""


class Named(NamedTuple):
    """A tensor under our name, in Keras' layout."""

    tensor: Tensor
    source: str
    """Its name in the file."""


@dataclass(frozen=True, eq=False)
class Translated:
    """A checkpoint in our words."""

    checkpoint: Checkpoint
    dialect: Dialect
    tensors: dict[str, Named]
    """`layer/variable` -> the tensor."""
    unknown: tuple[str, ...]
    """Names in the file that the dialect does not know."""
    ignored: tuple[str, ...]
    """Names of what is no weight."""
    layers: frozenset[str]
    """Of a Keras file in our names: all its layers."""
    prefix: str = ""
    """What every name in the file begins with."""


def translate(checkpoint: Checkpoint, names: Mapping[str, Any] | str | Path | None = None) -> Translated:
    """Returns a checkpoint under our names; its dialect is recognised from the names in it.

    Args:
        checkpoint: an opened file.
        names: a map written by hand where no dialect fits: our layer (`stem_conv`, or with fields:
            `stage{stage}_block{block}_unit{unit}_conv`) -> theirs, as a dict or a YAML file; and `layout: torch` or
            `keras`, by default the container's.

    Raises:
        ReszooError: no dialect fits, or the one that does belongs to a network that is not in the zoo.
    """
    tried = [_by_hand(checkpoint, names)] if names is not None else dialects().values()
    prefixes = ["", *_common_prefix(checkpoint)]
    found = max(
        (_translate(checkpoint, dialect, prefix) for prefix in prefixes for dialect in tried),
        key=lambda found: len(found.tensors),
    )
    where, dialect = str(checkpoint.path), found.dialect
    if names is None and len(found.tensors) < max(2, len(found.unknown)):
        got = f"names of no known library ({', '.join(found.unknown[:4])}, ...)"
        known = ", ".join(name for name, dialect in dialects().items() if not dialect.refuse)
        hint = "a map of our names to theirs can be given: names={'stem_conv': 'conv_1', ...}"
        raise ReszooError(where, got=got, expected=known, hint=hint)
    if dialect.refuse:
        raise ReszooError(where, got=f"weights of {dialect.title}", hint=dialect.refuse)
    return replace(found, dialect=_configured(checkpoint, dialect))


def _by_hand(checkpoint: Checkpoint, names: Mapping[str, Any] | str | Path) -> Dialect:
    got = read_yaml(Path(names)) if isinstance(names, (str, Path)) else dict(names)
    layout = got.pop("layout", "keras" if "Keras" in checkpoint.container else "torch")
    for ours in got:
        if not any(ours == known or Template(known).read(ours) is not None for known in dialects()["reszoo"].names):
            raise ReszooError("names", got=repr(ours), expected=", ".join(dialects()["reszoo"].names))
    return check(Dialect, {"title": "names given by hand", "layout": layout, "names": got}, where="names")


def _common_prefix(checkpoint: Checkpoint) -> list[str]:
    """`model.` where most names begin with it: the attribute under which somebody's module keeps the network; or the
    prefix that one of our own networks was built with."""
    first = Counter(name.partition(".")[0] + "." for name in checkpoint.tensors if "." in name)
    common = [prefix for prefix, count in first.most_common(1) if count > len(checkpoint.tensors) // 2]
    return [*common, *filter(None, [common_prefix(name.partition("/")[0] for name in checkpoint.tensors)])]


def _translate(checkpoint: Checkpoint, dialect: Dialect, prefix: str) -> Translated:
    tensors: dict[str, Named] = {}
    unknown, ignored = [], []
    separator = "/" if dialect.layout == "keras" else "."
    for name, tensor in checkpoint.tensors.items():
        layer, _, last = name.removeprefix(prefix).removeprefix(dialect.prefix).rpartition(separator)
        ours = dialect.ours(layer)
        variable = dialect.variable(ours, last) if ours else None
        if last in IGNORED:
            ignored.append(name)
        elif ours is None or variable is None:
            unknown.append(name)
        else:
            tensor = _in_keras_layout(ours, tensor) if dialect.layout == "torch" else tensor
            tensors[f"{ours}/{variable}"] = Named(tensor, name)
    own = dialect is dialects()["reszoo"]
    # A file that lists layers without weights lists them all; a legacy one lists a sub-model, and not what is in it.
    weighted = {name.rpartition(separator)[0] for name in checkpoint.tensors}
    layers = checkpoint.layers if own and weighted < checkpoint.layers else frozenset()
    layers = frozenset(layer.removeprefix(prefix) for layer in layers)
    return Translated(checkpoint, dialect, tensors, tuple(unknown), tuple(ignored), layers, prefix)


def _in_keras_layout(layer: str, tensor: Tensor) -> Tensor:
    if layer == "predictions" and len(tensor.shape) == 4 and tensor.shape[2:] == (1, 1):
        # A classifier may be stored as a 1x1 convolution.
        tensor = tensor.reshaped(tensor.shape[:2])
    axes = {4: (2, 3, 1, 0), 2: (1, 0)}.get(len(tensor.shape))
    return tensor.permuted(axes) if axes else tensor


def _configured(checkpoint: Checkpoint, dialect: Dialect) -> Dialect:
    """The dialect as the file's own `config.json` narrows it."""
    where, config = f"{checkpoint.path}: config.json", checkpoint.config
    named = config.get("architecture") or next(iter(config.get("architectures") or []), None)
    patterns = dialect.architectures
    if isinstance(named, str) and patterns is not None and not any(fnmatch(named, pattern) for pattern in patterns):
        got = f"architecture {named!r}, whose weights look like those of {dialect.title}"
        raise ReszooError(where, got=got, expected=", ".join(patterns) or "none", hint="it is another network")
    changes: dict[str, Any] = {}
    strange = sorted({*(config.get("model_args") or {})} - HARMLESS) if patterns is not None else []
    if strange:
        expected = ", ".join(sorted(HARMLESS))
        raise ReszooError(f"{where}: model_args", got=strange[0], expected=expected, hint="it is another network")
    for field, values in dialect.config.items():
        value = config.get(field)
        if value is not None and (not isinstance(value, (str, bool)) or value not in values):
            raise ReszooError(f"{where}: {field}", got=repr(value), expected=", ".join(map(repr, values)))
        changes |= values.get(value, {}) if value is not None else {}
    for begins, change in dialect.layers.items():
        changes |= change if any(layer.startswith(begins) for layer in checkpoint.layers) else {}
    return dialect.model_copy(update=changes) if changes else dialect
