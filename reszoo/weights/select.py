"""Which network of a file is meant: the networks in it, by the tensors themselves, and the choice among them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from reszoo.errors import ReszooError
from reszoo.weights.dialects import Dialect
from reszoo.weights.formats.checkpoint import Checkpoint, common_parts


class Network(NamedTuple):
    """A network in a file: the tensors whose names begin with its prefix."""

    prefix: str
    """The beginning of its names, such as `state_dict.module.`; empty if they begin with the network's own names."""
    dialects: tuple[Dialect, ...] = ()
    """Dialects that have a name for its first block."""

    @property
    def label(self) -> str:
        """The prefix as it is passed to `key=`."""
        return self.prefix.rstrip("./")


_FIRST = ("stage1_block1_unit1_conv", "stage1_block1_unit1_dense", "stage2_block1_unit1_conv")
"""The layers by which a network is located; a file may lack the first stage."""


def networks(checkpoint: Checkpoint, dialects: Iterable[Dialect]) -> list[Network]:
    """Returns the networks in a file whose first block has a name in one of the dialects, in the order of the file."""
    known = [*dialects]
    for layer in _FIRST:
        endings: dict[str, list[Dialect]] = {}
        for dialect in known:
            if (theirs := dialect.theirs(layer)) is not None:
                for variable in (".weight",) if dialect.layout == "torch" else ("/kernel", "/weights"):
                    endings.setdefault(theirs + variable, []).append(dialect)
        located: dict[str, list[Dialect]] = {}
        for name in checkpoint.tensors:
            for ending, candidates in endings.items():
                if not name.endswith(ending):
                    continue
                # A prefix of names with dots ends with one; Keras' may end anywhere.
                before = name.removesuffix(ending)
                if not before or before.endswith(".") or not ending.endswith(".weight"):
                    place = located.setdefault(before, [])
                    place += [dialect for dialect in candidates if dialect not in place]
        if located:
            return [Network(*_normal(prefix, candidates)) for prefix, candidates in located.items()]
    return []


def _normal(prefix: str, dialects: list[Dialect]) -> tuple[str, tuple[Dialect, ...]]:
    """Returns the prefix without that of the dialect, which its classifier does not have."""
    for dialect in dialects:
        if dialect.prefix and f".{prefix}".endswith(f".{dialect.prefix}"):
            return prefix.removesuffix(dialect.prefix), tuple(dialects)
    return prefix, tuple(dialects)


def restricted(checkpoint: Checkpoint, *, key: str | None, prefix: str | None) -> Checkpoint:
    """Returns the tensors under a key, and those whose names begin with a prefix.

    Args:
        checkpoint: the file.
        key: path of a dict, of a module in it, or of both; an empty one means the tensors in no inner dict.
        prefix: the beginning of names, within any dict.

    Raises:
        ReszooError: there are no such tensors.
    """
    names = [*checkpoint.tensors]
    if key == "" and "" in checkpoint.keys:
        inner = tuple(f"{one}." for one in checkpoint.keys if one)
        names = [name for name in names if not name.startswith(inner)] if inner else names
    elif key:
        names = [name for name in names if name.startswith((f"{key}.", f"{key}/"))]
    if not names:
        got = f"no tensors under key {key!r}"
        raise ReszooError(str(checkpoint.path), got=got, expected=_places(checkpoint, ""), hint="choose one of them")
    if prefix:
        begun = [name for name in names if name.startswith(_beginnings(checkpoint, prefix))]
        if not begun:
            got, hint = f"no tensors under prefix {prefix!r}", "choose one of them"
            raise ReszooError(str(checkpoint.path), got=got, expected=_places(checkpoint, key or ""), hint=hint)
        names = begun
    if len(names) == len(checkpoint.tensors):
        return checkpoint
    return replace(checkpoint, tensors={name: checkpoint.tensors[name] for name in names})


def _beginnings(checkpoint: Checkpoint, prefix: str) -> tuple[str, ...]:
    """Returns the beginnings of full names with a prefix in any dict."""
    dicts = ["", *(f"{key}." for key in checkpoint.keys if key)]
    is_whole = prefix.endswith((".", "/", "_")) or "Keras" in checkpoint.container
    return tuple(f"{place}{prefix}{'' if is_whole else '.'}" for place in dicts)


def _places(checkpoint: Checkpoint, key: str) -> str:
    """Returns the dicts and first parts of names in a file, those under a key if there are any."""
    names = [name.removeprefix(f"{key}.") for name in checkpoint.tensors if not key or name.startswith(f"{key}.")]
    keys = [f"{one}." for one in checkpoint.keys if one] if not key else []
    first = [name[: match.end()] for name in names or checkpoint.tensors if (match := re.search(r"[./]", name))]
    return ", ".join(repr(place) for place in [*dict.fromkeys([*keys, *first])][:8]) or "names without a prefix"


def chosen(checkpoint: Checkpoint, candidates: Sequence[Network]) -> Network:
    """Returns the network that is meant if there are several.

    Averaged weights are preferred, as in timm: they are what is evaluated. Then come the keys that libraries use for
    the network itself (`state_dict`, `model`, `module`, `net`, `network`, `weights`).

    Raises:
        ReszooError: nothing tells which one is meant.
    """
    if len(candidates) == 1:
        return candidates[0]
    parts = [re.split(r"[./]", candidate.label) for candidate in candidates]
    common = len(common_parts(parts))
    ranks = [_rank(path[common:]) for path in parts]
    best = min(ranks)
    if best == len(_PREFERRED) + 1 or ranks.count(best) > 1:
        labels = ", ".join(
            repr(candidate.label) if candidate.label else "the top level" for candidate in candidates[:6]
        )
        got = f"{len(candidates)} networks: {labels}"
        label = candidates[-1].label
        hint = f"choose one with key=..., such as key={label!r}, or with prefix=..."
        raise ReszooError(str(checkpoint.path), got=got, expected="one network", hint=hint)
    return candidates[ranks.index(best)]


_PREFERRED = ("state_dict", "model", "module", "net", "network", "weights", "")

_AVERAGED = re.compile(r"(^|[_.-])(ema|swa|avg|average|averaged|averages|averaging|polyak|shadow)([_.\d-]|$)")


def is_averaged(part: str) -> bool:
    """Returns whether a key is that of averaged weights, such as `model_ema`, `emaModel` or `swa_state_dict`."""
    return bool(_AVERAGED.search(re.sub(r"(?<=[a-z\d])(?=[A-Z])", "_", part).lower()))


def _rank(path: Sequence[str]) -> int:
    """Returns the rank of a path without what all have in common; 0 is preferred most."""
    if any(map(is_averaged, path)):
        return 0
    first = path[0] if path else ""
    return 1 + (_PREFERRED.index(first) if first in _PREFERRED else len(_PREFERRED))


def by_dicts(checkpoint: Checkpoint) -> list[Network]:
    """Returns the networks in a file with unknown names: the dicts that hold most kernels, without common prefixes."""
    inner = {key: _names_of(checkpoint, key) for key in checkpoint.keys}
    kernels = {key: sum(len(checkpoint.tensors[name].shape) >= 2 for name in names) for key, names in inner.items()}
    most = max(kernels.values(), default=0)
    keys = [key for key, number in kernels.items() if number and 2 * number >= most] or [""]
    return [Network(_common(checkpoint, key, inner.get(key, [*checkpoint.tensors]))) for key in keys]


def inner_networks(checkpoint: Checkpoint, network: Network) -> Iterator[Network]:
    """Yields the modules of a network that hold most of its kernels, the outermost first."""
    prefix = network.prefix
    kernels = [name for name, tensor in checkpoint.tensors.items() if len(tensor.shape) == 4]
    most = sum(name.startswith(prefix) for name in kernels) / 2
    while True:
        inner = (name.removeprefix(prefix).partition(".") for name in kernels if name.startswith(prefix))
        children = Counter(first for first, dot, _ in inner if dot).most_common(1)
        if not children or children[0][1] <= most:
            return
        child = children[0][0]
        prefix += f"{child}."
        yield Network(prefix)


def _names_of(checkpoint: Checkpoint, key: str) -> list[str]:
    """Returns the names in one dict, without those in dicts inside of it."""
    inner = tuple(
        f"{one}." for one in checkpoint.keys if one and one != key and one.startswith(f"{key}." if key else "")
    )
    names = [name for name in checkpoint.tensors if not key or name.startswith(f"{key}.")]
    return [name for name in names if not inner or not name.startswith(inner)]


def _common(checkpoint: Checkpoint, key: str, names: list[str]) -> str:
    """Returns the prefix of all names of kernels in a dict, such as `state_dict.module.`."""
    start = f"{key}." if key else ""
    if "Keras" in checkpoint.container:
        return start
    kernels = [name.split(".")[:-1] for name in names if len(checkpoint.tensors[name].shape) >= 2]
    shared = common_parts(kernels)
    return ".".join(shared) + "." if shared else start
