"""The catalog of published weights: records from zoo_configs/weights/published, found by name."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, Strict

from reszoo.arch import zoo
from reszoo.arch.spec import Count, NetSpec
from reszoo.config import FrozenModel, check, configs, read_yaml
from reszoo.errors import ReszooError, UnknownNameError
from reszoo.notebook import html_table
from reszoo.weights import infer

DEFAULT = "imagenet"
"""The tag of a network's default weights, its first record."""

PerChannel = Annotated[tuple[float, ...], Strict(False), Field(min_length=1)]


class Preprocessing(FrozenModel):
    """How images were preprocessed when the weights were trained."""

    resize: Count
    """Length of the shorter side before the crop, in pixels."""
    crop: Count
    """Side of the central square crop, in pixels."""
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    scale: float = 255
    """The pixel value that is scaled to 1."""
    mean: PerChannel
    """Per channel (red, green, blue, or gray), after scaling."""
    std: PerChannel
    """Per channel (red, green, blue, or gray), after scaling."""
    channels: Literal["rgb", "bgr", "gray"] = "rgb"
    """Channel order of the network's input."""


class File(FrozenModel):
    """One download location of weights."""

    url: str
    """`https://...`, `hf://org/repo[@revision]`, or a file in the package: `shipped/...`."""
    sha256: str | None = None
    """The hash or its first digits; PyTorch puts eight of them into the file name."""
    md5: str | None = None
    megabytes: float | None = None
    """Size in millions of bytes."""


class Accuracy(FrozenModel):
    """Published accuracy in percent, and how it was measured."""

    top1: float
    top5: float | None = None
    protocol: str


class Record(FrozenModel):
    """One set of published weights."""

    name: str
    """`network.tag`."""
    files: Annotated[tuple[File, ...], Strict(False)]
    """Mirrors, tried in order."""
    dialect: str
    licence: str
    """SPDX identifier of the license."""
    source: str
    labels: Literal["imagenet", "cifar10", "cifar100", "fashion_mnist"]
    classes: Count
    preprocessing: Preprocessing
    accuracy: Annotated[tuple[Accuracy, ...], Strict(False)] = ()
    changes: dict[str, Any] = Field(default_factory=dict)
    """Differences of the weights' network from the network of the zoo."""

    @property
    def model(self) -> str:
        """Name of the network: `resnet50` of `resnet50.tv2_in1k`."""
        return self.name.partition(".")[0]

    @property
    def tag(self) -> str:
        """Tag of the weights: `tv2_in1k` of `resnet50.tv2_in1k`."""
        return self.name.partition(".")[2]

    @property
    def packaged(self) -> Path | None:
        """Path of the file if it is part of the package, else None."""
        paths = (configs() / "weights" / file.url for file in self.files if "://" not in file.url)
        return next(paths, None)

    @property
    def non_commercial(self) -> bool:
        """Whether the license forbids commercial use."""
        return "-NC" in self.licence.upper()

    def __repr__(self) -> str:
        top1 = f", top-1 {self.accuracy[0].top1:g} %" if self.accuracy else ""
        return f"Record({self.name!r}, {self.classes} classes, {self.licence}{top1})"

    def _repr_html_(self) -> str:
        rows: list[tuple[str, object]] = [
            ("source", self.source),
            ("license", self.licence),
            ("classes", f"{self.classes} ({self.labels})"),
            ("preprocessing", self.preprocessing),
            *((f"top-1 %, {accuracy.protocol}", accuracy.top1) for accuracy in self.accuracy),
            *(("file", file.url) for file in self.files),
        ]
        return html_table((), rows, title=self.name)


@cache
def records() -> dict[str, Record]:
    """Returns name -> record of all published weights; the default of each network comes first."""
    result: dict[str, Record] = {}
    for file in sorted((configs() / "weights" / "published").glob("*.yaml")):
        content = read_yaml(file)
        for name, fields in content["records"].items():
            data = {"name": name, **content.get("shared", {}), **fields}
            result[name] = check(Record, data, where=f"{file.name}: {name}")
    return result


def record(name: str) -> Record:
    """Returns the record of published weights with this name, `network.tag`.

    Example:
        >>> import reszoo
        >>> reszoo.record("resnet50.tv2_in1k").preprocessing.crop
        224

    Raises:
        UnknownNameError: there are no such weights; the message suggests the nearest names.
    """
    if name not in records():
        some = ", ".join([*records()][:3])
        expected = f"{some}, ... (`reszoo list --weights` shows all)"
        raise UnknownNameError("unknown weights", got=name, known=records(), expected=expected)
    return records()[name]


def list_weights(model: str | None = None) -> list[str]:
    """Returns the names of the published weights of one network, or of all; the first is the network's default.

    Example:
        >>> import reszoo
        >>> reszoo.list_weights("resnet50")[0]
        'resnet50.tv2_in1k'

    Raises:
        UnknownNameError: there is no such network.
    """
    if model is not None:
        zoo.entry(model)
    return [record.name for record in records().values() if model in (None, record.model)]


def find(weights: str, spec: NetSpec | None) -> Record:
    """Returns the record with a name (`resnet50.tv2_in1k`), or with a tag of the spec's network (`tv2_in1k`).

    Raises:
        ReszooError: there is none; the message lists the network's tags, or the networks that have this tag.
    """
    if weights in records():
        return records()[weights]
    model = None
    if spec is not None:
        model = spec.name if spec.name in zoo.builtin().names else infer.zoo_name(spec) or spec.name
    by_tag = {record.tag: record for record in records().values() if record.model == model}
    if by_tag and weights == DEFAULT:
        return next(iter(by_tag.values()))
    if weights in by_tag:
        return by_tag[weights]
    where = f"{spec.name}.weights" if spec else "weights"
    tags = f"{model}'s {', '.join([DEFAULT, *by_tag])}" if by_tag else f"no weights are published for {model}"
    expected = f"{WEIGHTS}; {tags}" if spec else WEIGHTS
    if Path(weights).suffix in _SUFFIXES:
        raise ReszooError(where, got=f"no such file {weights!r}", expected=expected)
    others = [record.name for record in records().values() if record.tag == weights]
    if others:
        hint = f"other networks have it: {', '.join(others[:4])}"
        raise ReszooError(where, got=repr(weights), expected=expected, hint=hint)
    known = [DEFAULT, *by_tag] if by_tag else records()
    raise UnknownNameError(where, got=weights, known=known, expected=expected)


WEIGHTS = (
    "a file or folder, https://..., hf://org/repo[@revision], a name in reszoo.list_weights() (`reszoo list --weights`)"
)
_SUFFIXES = (".pth", ".pt", ".th", ".bin", ".safetensors", ".h5", ".keras", ".json", ".tar")
