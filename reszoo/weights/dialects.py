"""How other libraries name and lay out weights: data (zoo_configs/weights/dialects.yaml) and what reads it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from fnmatch import fnmatch
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field

from reszoo.arch import zoo
from reszoo.arch.check import check
from reszoo.arch.spec import Part
from reszoo.errors import ReszooError
from reszoo.weights.tensors import Checkpoint, Tensor

TORCH = {
    "norm": {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"},
    "conv": {"kernel": "weight", "bias": "bias"},
}
"""Kind of layer -> Keras' name of a variable -> PyTorch's."""

COUNTER = "num_batches_tracked"
"""PyTorch's count of training steps in every norm: no network computes with it."""

IGNORED = (COUNTER, "n_averaged")
"""Last words of names that are no weights."""


class Dialect(Part):
    """One library's way to write a residual network down."""

    title: str
    source: str = ""
    """Where its names and settings were read."""
    layout: Literal["torch", "keras"] = "torch"
    """`torch`: kernels are (out, in, height, width) and variables `weight`, `bias`, `running_mean`, `running_var`."""
    names: dict[str, str | None]
    """Our layer -> theirs, both with fields; null where the base's has no counterpart."""
    also: dict[str, str] = Field(default_factory=dict)
    """Further names of theirs that mean one of `names`."""
    prefix: str = ""
    """Put before the names of the trunk where there is a head."""
    activation: Literal["linear", "softmax"] | None = None
    """What its code puts after the classifier."""
    order: Literal["post", "pre"] | None = None
    shortcut: Literal["pad", "project", "pool_project"] | None = None
    """Of the blocks that change the shape."""
    stride_on: Literal["first", "spatial"] | None = None
    """Which unit takes a stage's stride: the first one, or the first with a window of more than one pixel."""
    first_stride: int = 1
    """Of the first stage."""
    epsilon: float | None = None
    momentum: float | None = None
    """In Keras' convention."""
    weight_standardised: Literal["never", "without statistics"] = "never"
    """Where norms without running statistics mean that kernels are standardised too (BiT)."""
    architectures: tuple[str, ...] | None = None
    """Patterns of the names that a `config.json` may give such a network; others have the same weights and compute
    something else."""
    config: dict[str, dict[str | bool, dict[str, Any]]] = Field(default_factory=dict)
    """Field of a `config.json` -> its known values -> what they change here."""
    refuse: str = ""
    """Why such a file cannot be read."""

    @cached_property
    def _rules(self) -> tuple[tuple[_Template, _Template], ...]:
        """Pairs of templates, those with fewer fields first: a rule for one unit comes before the rule for all."""
        pairs = [(_Template(ours), _Template(theirs)) for ours, theirs in self.names.items() if theirs]
        return tuple(sorted(pairs, key=lambda pair: pair[0].text.count("{")))

    def theirs(self, layer: str) -> str | None:
        """Returns their name of one of our layers, without the prefix."""
        for ours, theirs in self._rules:
            if (fields := ours.read(layer)) is not None:
                return theirs.write(fields)
        return None

    def ours(self, layer: str) -> str | None:
        """Returns our name of one of their layers."""
        layer = self.also.get(layer, layer)
        for ours, theirs in self._rules:
            fields = theirs.read(layer)
            if fields is not None and all(number >= 1 for number in fields.values()):
                return ours.write(fields)
        return None

    def variable(self, layer: str, name: str) -> str | None:
        """Returns Keras' name of a variable of one of our layers."""
        if self.layout == "keras":
            return name
        return next((ours for ours, theirs in _variables(layer).items() if theirs == name), None)


def _variables(layer: str) -> dict[str, str]:
    return TORCH["norm" if layer.endswith("_norm") else "conv"]


class _Template:
    """A name with fields: `layer{stage}.{block-1}.conv{unit}`, `res{stage+1}{block.letter}`."""

    _FIELD = re.compile(r"\{(\w+)(?:([+-]\d)|(\.letter))?\}")

    def __init__(self, text: str):
        self.text = text
        seen: set[str] = set()

        def group(field: re.Match[str]) -> str:
            if field[1] in seen:
                return f"(?:{'[a-z]' if field[3] else r'[0-9]+'})"
            seen.add(field[1])
            return f"(?P<{field[1]}>{'[a-z]' if field[3] else r'[0-9]{1,5}'})"

        parts, place = [], 0
        for field in self._FIELD.finditer(text):
            parts += [re.escape(text[place : field.start()]), group(field)]
            place = field.end()
        self._pattern = re.compile("".join(parts) + re.escape(text[place:]))
        self._shift = {field[1]: int(field[2] or 0) for field in self._FIELD.finditer(text)}

    def read(self, name: str) -> dict[str, int] | None:
        """Returns the numbers in a name, counted from 1; nothing when it is another name."""
        match = self._pattern.fullmatch(name)
        if match is None:
            return None
        return {field: self._number(word) - self._shift[field] for field, word in match.groupdict().items()}

    def write(self, fields: Mapping[str, int]) -> str:
        """Returns the name with these numbers, counted from 1."""

        def word(field: re.Match[str]) -> str:
            number = fields[field[1]] + int(field[2] or 0)
            return chr(ord("a") + number - 1) if field[3] else str(number)

        return self._FIELD.sub(word, self.text)

    @staticmethod
    def _number(word: str) -> int:
        return int(word) if word.isdecimal() else ord(word) - ord("a") + 1


@cache
def dialects() -> dict[str, Dialect]:
    """Returns all dialects by name."""
    file = zoo.configs() / "weights" / "dialects.yaml"
    made: dict[str, dict[str, Any]] = {}
    for name, fields in zoo.read_yaml(file).items():
        base = made.get(fields.get("base", ""), {})
        own = {key: value for key, value in fields.items() if key != "base"}
        made[name] = {**base, **own, "names": {**base.get("names", {}), **own.get("names", {})}}
        made[name]["architectures"] = _tuple(own.get("architectures"))
    return {name: check(Dialect, fields, where=f"{file.name}: {name}") for name, fields in made.items()}


def _tuple(values: Any) -> tuple[str, ...] | None:
    return None if values is None else tuple(values)


class Named(NamedTuple):
    """A tensor under our name, in Keras' layout."""

    tensor: Tensor
    source: str
    """Its name in the file."""


class Translated(NamedTuple):
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
        given = f"names of no known library ({', '.join([*checkpoint.tensors][:4])}, ...)"
        known = "; ".join(dialect.title for dialect in dialects().values() if not dialect.refuse)
        mend = "a map of our names to theirs can be given: names={'stem_conv': 'conv_1', ...}"
        raise ReszooError(where, given=given, allowed=known, mend=mend)
    if dialect.refuse:
        raise ReszooError(where, given=f"weights of {dialect.title}", mend=dialect.refuse)
    return found._replace(dialect=_configured(checkpoint, dialect))


def _by_hand(checkpoint: Checkpoint, names: Mapping[str, Any] | str | Path) -> Dialect:
    given = zoo.read_yaml(Path(names)) if isinstance(names, (str, Path)) else dict(names)
    layout = given.pop("layout", "keras" if "Keras" in checkpoint.container else "torch")
    for ours in given:
        if not any(ours == known or _Template(known).read(ours) is not None for known in dialects()["reszoo"].names):
            raise ReszooError("names", given=repr(ours), allowed=", ".join(dialects()["reszoo"].names))
    return check(Dialect, {"title": "names given by hand", "layout": layout, "names": given}, where="names")


def _common_prefix(checkpoint: Checkpoint) -> list[str]:
    """`model.` where most names begin with it: the attribute under which somebody's module keeps the network."""
    first = Counter(name.partition(".")[0] + "." for name in checkpoint.tensors if "." in name)
    return [prefix for prefix, count in first.most_common(1) if count > len(checkpoint.tensors) // 2]


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
    # A file that lists layers without weights lists them all.
    complete = checkpoint.layers - {name.rpartition(separator)[0] for name in checkpoint.tensors}
    layers = checkpoint.layers if own and complete else frozenset()
    return Translated(checkpoint, dialect, tensors, tuple(unknown), tuple(ignored), layers)


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
        given = f"architecture {named!r}, whose weights look like those of {dialect.title}"
        raise ReszooError(where, given=given, allowed=", ".join(patterns) or "none", mend="it is another network")
    changes: dict[str, Any] = {}
    for field, values in dialect.config.items():
        value = config.get(field)
        if value is not None and (not isinstance(value, (str, bool)) or value not in values):
            raise ReszooError(f"{where}: {field}", given=repr(value), allowed=", ".join(map(repr, values)))
        changes |= values.get(value, {}) if value is not None else {}
    return dialect.model_copy(update=changes) if changes else dialect


def written(layer: str, variable: str, dialect: Dialect) -> str | None:
    """Returns the name of one of our variables in a dialect."""
    theirs = dialect.theirs(layer)
    if theirs is None:
        return None
    if dialect.layout == "keras":
        return f"{theirs}/{variable}"
    return f"{theirs if layer == 'predictions' else dialect.prefix + theirs}.{_variables(layer)[variable]}"
