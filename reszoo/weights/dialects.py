"""How other libraries name and lay out weights: rules of zoo_configs/weights/dialects.yaml, and names by hand."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, Strict

from reszoo.config import FrozenModel, check, configs, inherit, read_yaml
from reszoo.errors import ReszooError, nearest
from reszoo.weights.formats.checkpoint import Checkpoint

TORCH = {
    "norm": {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"},
    "conv": {"kernel": "weight", "bias": "bias"},
}
"""Kind of layer -> name of a variable in Keras -> its name in PyTorch."""

COUNTER = "num_batches_tracked"
"""PyTorch's counter of training steps in every norm; outputs do not depend on it."""

IGNORED = (COUNTER, "n_averaged", "total_ops", "total_params")
"""Last parts of names of tensors that are not weights."""


class Dialect(FrozenModel):
    """Names, layout and settings of residual networks in one library."""

    title: str
    source: str = ""
    """The source of its names and settings."""
    layout: Literal["torch", "keras"] = "torch"
    """`torch`: kernels are (out, in, height, width) and variables `weight`, `bias`, `running_mean`, `running_var`."""
    names: dict[str, str | None]
    """Our layer -> theirs, both as templates; null removes a rule of the base."""
    also: dict[str, str] = Field(default_factory=dict)
    """Alternative names in the library -> one of `names`."""
    prefix: str = ""
    """Prefix of all names but the classifier's, in networks with a classifier."""
    activation: Literal["linear", "softmax"] | None = None
    """Activation after the classifier in the library's code."""
    order: Literal["post", "pre"] | None = None
    shortcut: Literal["pad", "project", "pool_project"] | None = None
    """Shortcut of the blocks that change the shape."""
    stride_on: Literal["first", "spatial"] | None = None
    """The unit with a stage's stride: the first one, or the first with a kernel larger than 1."""
    first_stride: int = 1
    """Stride of the first stage."""
    epsilon: float | None = None
    momentum: float | None = None
    """In Keras' convention."""
    groups: dict[str, int] = Field(default_factory=dict)
    """Pattern of architecture names in `config.json` -> groups of their group norms."""
    weight_standardised: Literal["never", "without statistics"] = "never"
    """Whether norms without running statistics imply standardized kernels (BiT)."""
    architectures: Annotated[tuple[str, ...], Strict(False)] | None = None
    """Patterns of architecture names in `config.json` that are this network. Others have the same tensors and compute
    something else."""
    obstacles: dict[str, str] = Field(default_factory=dict)
    """Pattern of architecture names in `config.json` -> what the zoo lacks for networks with the same names."""
    config: dict[str, dict[str | bool, dict[str, Any]]] = Field(default_factory=dict)
    """Field of a `config.json` -> supported values -> fields of this dialect that they change."""
    layers: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Name prefix of a layer without weights -> fields of this dialect that change if the file has such a layer."""
    refuse: str = ""
    """Why files in this dialect cannot be loaded; empty if they can."""

    @cached_property
    def _rules(self) -> tuple[tuple[Template, Template], ...]:
        """Pairs of templates with fewer fields first: a rule for one unit precedes the rule for all units."""
        pairs = [(Template(ours), Template(theirs)) for ours, theirs in self.names.items() if theirs]
        return tuple(sorted(pairs, key=lambda pair: pair[0].text.count("{")))

    def theirs(self, layer: str) -> str | None:
        """Returns the library's name of one of our layers, without the prefix, or None."""
        for ours, theirs in self._rules:
            if (fields := ours.read(layer)) is not None:
                return theirs.write(fields)
        return None

    def ours(self, layer: str) -> str | None:
        """Returns our name of one of the library's layers, or None."""
        layer = self.also.get(layer, layer)
        for ours, theirs in self._rules:
            fields = theirs.read(layer)
            if fields is not None and all(number >= 1 for number in fields.values()):
                return ours.write(fields)
        return None

    def targets(self, names: Iterable[str]) -> dict[str, str]:
        """Returns the library's name of a variable -> our `layer/variable`; names of others are left out."""
        layers: dict[str, str | None] = {}
        result = {}
        for name in names:
            layer, _, last = name.removeprefix(self.prefix).rpartition("/" if self.layout == "keras" else ".")
            ours = layers[layer] if layer in layers else layers.setdefault(layer, self.ours(layer))
            variable = self.variable(ours, last) if ours and last not in IGNORED else None
            if variable is not None:
                result[name] = f"{ours}/{variable}"
        return result

    def variable(self, layer: str, name: str) -> str | None:
        """Returns the name in Keras of the library's variable in one of our layers, or None."""
        if self.layout == "keras":
            return name
        return next((ours for ours, theirs in _variables(layer).items() if theirs == name), None)


def _variables(layer: str) -> dict[str, str]:
    return TORCH["norm" if layer.endswith("_norm") else "conv"]


class Template:
    """A layer name with fields, such as `layer{stage}.{block-1}.conv{unit}` or `res{stage+1}{block.letter}`."""

    _FIELD = re.compile(r"\{(\w+)(?:([+-]\d)|(\.letter))?\}")

    def __init__(self, text: str):
        self.text = text
        seen: set[str] = set()

        def group(field: re.Match[str]) -> str:
            if field[1] in seen:
                return f"(?:{'[a-z]' if field[3] else r'[0-9]+'})"
            seen.add(field[1])
            return f"(?P<{field[1]}>{'[a-z]' if field[3] else r'[0-9]{1,5}'})"

        parts, end = [], 0
        for field in self._FIELD.finditer(text):
            parts += [re.escape(text[end : field.start()]), group(field)]
            end = field.end()
        self._pattern = re.compile("".join(parts) + re.escape(text[end:]))
        self._shift = {field[1]: int(field[2] or 0) for field in self._FIELD.finditer(text)}

    def read(self, name: str) -> dict[str, int] | None:
        """Returns the fields of a name, counted from 1, or None if the name does not match."""
        match = self._pattern.fullmatch(name)
        if match is None:
            return None
        return {field: self._number(word) - self._shift[field] for field, word in match.groupdict().items()}

    def write(self, fields: Mapping[str, int]) -> str:
        """Returns the name for these fields, counted from 1."""

        def word(field: re.Match[str]) -> str:
            number = fields[field[1]] + int(field[2] or 0)
            return chr(ord("a") + number - 1) if field[3] else str(number)

        return self._FIELD.sub(word, self.text)

    @staticmethod
    def _number(word: str) -> int:
        return int(word) if word.isdecimal() else ord(word) - ord("a") + 1


@cache
def dialects() -> dict[str, Dialect]:
    """Returns name -> dialect of all dialects."""
    file = configs() / "weights" / "dialects.yaml"
    entries = read_yaml(file)
    return {
        name: check(Dialect, inherit(name, entries, kind="dialect"), where=f"{file.name}: {name}") for name in entries
    }


def variable_name(layer: str, variable: str, dialect: Dialect) -> str | None:
    """Returns the full name of one of our variables in a dialect, or None if it has none."""
    theirs = dialect.theirs(layer)
    if theirs is None:
        return None
    if dialect.layout == "keras":
        return f"{theirs}/{variable}"
    return f"{theirs if layer == 'predictions' else dialect.prefix + theirs}.{_variables(layer)[variable]}"


LayerNames: TypeAlias = Mapping[str, Any] | str | Path
"""Our layer names -> those in a file, as a mapping or the path of a YAML file."""


def candidates(checkpoint: Checkpoint, names: LayerNames | None) -> list[Dialect]:
    """Returns the dialects that a file may be in: with names by hand, these alone, or added to each known dialect.

    Raises:
        ReszooError: a name of a layer is not ours.
    """
    known = [*dialects().values()]
    if names is None:
        return known
    layout, rules = _rules(checkpoint, names)
    alone = check(Dialect, {"title": "custom names", "layout": layout, "names": rules}, where="names")

    def title(dialect: Dialect) -> str:
        return f"custom names and those of {dialect.title}"

    added = [
        check(
            Dialect,
            {**dialect.model_dump(), "title": title(dialect), "names": {**dialect.names, **rules}},
            where="names",
        )
        for dialect in known
        if dialect.layout == layout and not dialect.refuse
    ]
    return [alone, *added]


def _rules(checkpoint: Checkpoint, names: LayerNames) -> tuple[str, dict[str, Any]]:
    rules = read_yaml(Path(names)) if isinstance(names, (str, Path)) else dict(names)
    layout = rules.pop("layout", "keras" if "Keras" in checkpoint.container else "torch")
    layers = dialects()["reszoo"].names
    for ours in rules:
        # `stage{stage}_block{block}_unit1_conv` is a layer of ours with some numbers in place of fields.
        example = re.sub(r"\{\w+\}", "1", str(ours))
        if not any(ours == layer or Template(layer).read(example) is not None for layer in layers):
            raise ReszooError("names", got=repr(ours), expected=", ".join(layers))
    return layout, rules


def check_names(checkpoint: Checkpoint, names: LayerNames, prefix: str) -> None:
    """Checks that the file has every layer in a map by hand.

    Raises:
        ReszooError: it lacks one.
    """
    layout, rules = _rules(checkpoint, names)
    separator = "/" if layout == "keras" else "."
    layers = {*(name.removeprefix(prefix).rpartition(separator)[0] for name in checkpoint.tensors)}
    for ours, theirs in rules.items():
        if theirs is None or any(Template(theirs).read(layer) is not None for layer in layers):
            continue
        expected = ", ".join(sorted(layers)[:6]) + (", ..." if len(layers) > 6 else "")
        got = f"{theirs!r} for {ours!r}, which is not in {checkpoint.path.name}"
        raise ReszooError("names", got=got, expected=expected, hint=nearest(theirs, layers))
