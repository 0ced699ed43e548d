"""How other libraries name and lay out weights: data (zoo_configs/weights/dialects.yaml) and what reads it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache, cached_property
from typing import Annotated, Any, Literal

from pydantic import Field, Strict

from reszoo.config import FrozenModel, check, configs, inherit, read_yaml

TORCH = {
    "norm": {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"},
    "conv": {"kernel": "weight", "bias": "bias"},
}
"""Kind of layer -> Keras' name of a variable -> PyTorch's."""

COUNTER = "num_batches_tracked"
"""PyTorch's count of training steps in every norm: no network computes with it."""

IGNORED = (COUNTER, "n_averaged")
"""Last words of names that are no weights."""


class Dialect(FrozenModel):
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
    architectures: Annotated[tuple[str, ...], Strict(False)] | None = None
    """Patterns of the names that a `config.json` may give such a network; others have the same weights and compute
    something else."""
    config: dict[str, dict[str | bool, dict[str, Any]]] = Field(default_factory=dict)
    """Field of a `config.json` -> its known values -> what they change here."""
    layers: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Beginning of the name of a layer without weights -> what it changes here where the file has it."""
    refuse: str = ""
    """Why such a file cannot be read."""

    @cached_property
    def _rules(self) -> tuple[tuple[Template, Template], ...]:
        """Pairs of templates, those with fewer fields first: a rule for one unit comes before the rule for all."""
        pairs = [(Template(ours), Template(theirs)) for ours, theirs in self.names.items() if theirs]
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


class Template:
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
    file = configs() / "weights" / "dialects.yaml"
    read = read_yaml(file)
    return {name: check(Dialect, inherit(name, read, kind="dialect"), where=f"{file.name}: {name}") for name in read}


def written(layer: str, variable: str, dialect: Dialect) -> str | None:
    """Returns the name of one of our variables in a dialect."""
    theirs = dialect.theirs(layer)
    if theirs is None:
        return None
    if dialect.layout == "keras":
        return f"{theirs}/{variable}"
    return f"{theirs if layer == 'predictions' else dialect.prefix + theirs}.{_variables(layer)[variable]}"
