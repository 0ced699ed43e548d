"""The catalogue of published weights: records as data (zoo_configs/weights/published), and their names."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, Strict

from reszoo.arch import zoo
from reszoo.arch.spec import Count, NetSpec
from reszoo.config import FrozenModel, check, configs, read_yaml
from reszoo.errors import ReszooError, UnknownNameError
from reszoo.weights import infer

DEFAULT = "imagenet"
"""The tag that stands for a network's first record."""

PerChannel = Annotated[tuple[float, ...], Strict(False), Field(min_length=1)]


class Preprocessing(FrozenModel):
    """What was done to images before they met the weights."""

    resize: Count
    """Shorter side, in pixels, before the crop."""
    crop: Count
    """Side of the central square."""
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    scale: float = 255
    """The pixel value that becomes 1."""
    mean: PerChannel
    """Of red, green and blue, or of grey, after scaling."""
    std: PerChannel
    """Of red, green and blue, or of grey, after scaling."""
    channels: Literal["rgb", "bgr", "gray"] = "rgb"
    """The order in which the network takes the channels."""


class File(FrozenModel):
    """One place where the weights lie."""

    url: str
    """`https://...`, `hf://org/repo[@revision]`, or a file of the package itself: `shipped/...`."""
    sha256: str | None = None
    """Its hash or the first digits of it; PyTorch puts eight into the file's name."""
    md5: str | None = None
    megabytes: float | None = None
    """Millions of bytes."""


class Accuracy(FrozenModel):
    """Percent right, and on what."""

    top1: float
    top5: float | None = None
    protocol: str


class Record(FrozenModel):
    """One set of published weights."""

    name: str
    """`network.tag`."""
    files: Annotated[tuple[File, ...], Strict(False)]
    """Mirrors, tried in turn."""
    dialect: str
    licence: str
    """SPDX identifier."""
    source: str
    labels: Literal["imagenet", "cifar10", "cifar100", "fashion_mnist"]
    classes: Count
    preprocessing: Preprocessing
    accuracy: Annotated[tuple[Accuracy, ...], Strict(False)] = ()
    changes: dict[str, Any] = Field(default_factory=dict)
    """What the weights' network has other than the zoo's."""

    @property
    def model(self) -> str:
        """Name of the network."""
        return self.name.partition(".")[0]

    @property
    def tag(self) -> str:
        """Name among the network's weights."""
        return self.name.partition(".")[2]

    @property
    def packaged(self) -> Path | None:
        """The file, where it comes with the package."""
        paths = (configs() / "weights" / file.url for file in self.files if "://" not in file.url)
        return next(paths, None)

    @property
    def non_commercial(self) -> bool:
        """Whether the licence forbids commercial use."""
        return "-NC" in self.licence.upper()


@cache
def records() -> dict[str, Record]:
    """Returns all records by name; of one network, its default comes first."""
    found: dict[str, Record] = {}
    for file in sorted((configs() / "weights" / "published").glob("*.yaml")):
        content = read_yaml(file)
        for name, fields in content["records"].items():
            data = {"name": name, **content.get("shared", {}), **fields}
            found[name] = check(Record, data, where=f"{file.name}: {name}")
    return found


def record(name: str) -> Record:
    """Returns a record of the catalogue, by `network.tag`.

    Raises:
        UnknownNameError: there is none; with the nearest names.
    """
    if name not in records():
        some = ", ".join([*records()][:3])
        expected = f"{some}, ... (`reszoo list --pretrained` shows all)"
        raise UnknownNameError("unknown weights", got=name, known=records(), expected=expected)
    return records()[name]


def list_weights(model: str | None = None) -> list[str]:
    """Returns the names of published weights, of one network or of all; the first one is a network's `"imagenet"`.

    `list_weights("resnet50")[0] == "resnet50.tv2_in1k"`

    Raises:
        UnknownNameError: no such network.
    """
    if model is not None:
        zoo.entry(model)
    return [name for name, found in records().items() if model in (None, found.model)]


def find(weights: str, spec: NetSpec | None) -> Record:
    """Returns the record that a name or a network's tag means.

    Raises:
        ReszooError: there is none; with the network's tags, or the network that has it.
    """
    if weights in records():
        return records()[weights]
    model = None
    if spec is not None:
        model = spec.name if spec.name in zoo.builtin().names else infer.named_like(spec) or spec.name
    own = {found.tag: found for found in records().values() if found.model == model}
    if own and weights == DEFAULT:
        return next(iter(own.values()))
    if weights in own:
        return own[weights]
    where = f"{spec.name}.weights" if spec else "weights"
    tags = f"{model}'s {', '.join([DEFAULT, *own])}" if own else f"no tag: none is published for {model}"
    expected = f"{WEIGHTS}; {tags}" if spec else WEIGHTS
    if Path(weights).suffix in _SUFFIXES:
        raise ReszooError(where, got=f"no such file {weights!r}", expected=expected)
    elsewhere = [found.name for found in records().values() if found.tag == weights]
    if elsewhere:
        hint = f"other networks have it: {', '.join(elsewhere[:4])}"
        raise ReszooError(where, got=repr(weights), expected=expected, hint=hint)
    known = [DEFAULT, *own] if own else records()
    raise UnknownNameError(where, got=weights, known=known, expected=expected)


WEIGHTS = "a file or folder, https://..., hf://org/repo[@revision], a name of reszoo.list_weights()"
_SUFFIXES = (".pth", ".pt", ".th", ".bin", ".safetensors", ".h5", ".keras", ".json", ".tar")
