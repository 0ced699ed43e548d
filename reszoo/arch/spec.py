"""The network as data: one frozen, checked description of a residual network or its plain twin."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, Strict, model_validator

from reszoo.arch.rules import impossible

Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(ge=0, lt=1)]
Init = Literal["he", "glorot", "orthogonal", "looks_linear"]


class Part(BaseModel):
    """What every part of a spec has in common: frozen, no unknown fields, no conversions."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Unit(Part):
    """One weighted layer of a block."""

    kernel: Annotated[int, Field(ge=0)]
    """Side of the convolution's window, odd; 0 means Dense."""
    ratio: Annotated[float, Field(gt=0)] = 1.0
    """Width of this unit over the width of its block."""
    groups: Count = 1
    """Groups of a grouped convolution (ResNeXt's cardinality)."""


class Block(Part):
    """The residual block: its branch F(x) and the shortcut around it."""

    body: Annotated[tuple[Unit, ...], Strict(False), Field(min_length=1)]
    """The weighted layers of the branch."""
    order: Literal["post", "pre", "inner", "norm_first"] = "post"
    """Where norms and activations stand: `post` He 2015; `pre` He 2016; `inner` as post, nothing after the addition;
    `norm_first` Gorishniy 2021."""
    shortcut: Literal["none", "pad", "project", "project_all", "pool_project"] = "project"
    """`none` makes the plain twin; `pad`, `project`, `project_all` are options A, B, C of He 2015, 3.3; `pool_project`
    is ResNet-D's."""
    stride_at: Count = 1
    """Which unit of a stage's first block takes the stride, from 1."""
    start: Literal["identity", "scaled", "random"] = "random"
    """Of the branch's last norm scale (of its last kernel where there is no norm): `identity` starts it at zero where
    the shortcut carries every channel, and at full scale in a block whose shortcut pads channels with zeros, where a
    zero branch could never learn; `scaled` divides it by the square root of the number of blocks (Hanin 2018; De 2020);
    `random` starts it at full scale."""
    attention: Literal["none", "se"] = "none"
    """`se`: squeeze-and-excitation with reduction 16 at the end of the branch (Hu 2018)."""
    dropout: Rate = 0.0
    """Rate between the units (Zagoruyko 2016, 2.4; Gorishniy 2021)."""
    residual_dropout: Rate = 0.0
    """Rate at the end of the branch (Gorishniy 2021)."""
    drop_path: Rate = 0.0
    """Rate at which the last block's branch is dropped; block l of L has l/L of it (Huang 2016, section 3)."""


class Stage(Part):
    """Blocks of one width."""

    depth: Count
    """Number of blocks."""
    width: Count
    """Channels leaving every block."""
    stride: Count = 1
    """Stride of the first block."""
    dilation: Count = 1
    """Dilation of the convolutions after the place where the stage's stride would stand."""


class Stem(Part):
    """The layers before the first block."""

    kernel: Annotated[int, Field(ge=0)]
    """Side of the convolution's window, odd; 0 means Dense."""
    width: Count
    """Channels leaving the stem."""
    stride: Count = 1
    """Stride of the first convolution."""
    depth: Count = 1
    """Number of convolutions; those before the last are half as wide (He T. 2019, ResNet-C)."""
    pool: Literal["none", "max"] = "none"
    """`max`: a 3x3 max pool of stride 2 at the end."""


class Norm(Part):
    """The normalisation layers."""

    kind: Literal["batch", "group", "none"] = "batch"
    """`batch` (Ioffe 2015), `group` (Wu 2018) or none at all."""
    epsilon: Annotated[float, Field(gt=0)] = 1e-5
    """Added to the variance."""
    momentum: Rate = 0.9
    """Of the moving statistics, in Keras' convention (PyTorch's is one minus this)."""
    groups: Count = 32
    """Groups of `group`; layers whose width they do not divide take the greatest common divisor."""


class Head(Part):
    """The layers after the last block."""

    pooling: Literal["avg", "max", "none"] = "avg"
    """Global pooling of the last feature map."""
    classes: Count | None = 1000
    """Width of the classifier; none ends the network without one."""
    activation: Literal["softmax", "sigmoid", "linear"] = "softmax"
    """Of the classifier."""
    dropout: Rate = 0.0
    """Rate before the classifier."""


class NetSpec(Part):
    """A residual network or plain network, complete: everything reszoo computes comes from one of these."""

    name: Annotated[str, Field(pattern=r"^[^/\s]+$")]
    """Name of the network and of the Keras model."""
    input_shape: Annotated[tuple[Count | None, ...], Strict(False)]
    """`(height, width, channels)` of an image, `(features,)` of a dense net; height and width may be None."""
    stem: Stem
    block: Block
    stages: Annotated[tuple[Stage, ...], Strict(False), Field(min_length=1)]
    norm: Norm = Norm()
    head: Head = Head()
    bias: bool = False
    """Whether the weighted layers of stem and blocks have a bias (the classifier always has)."""
    init: Init = "he"
    """Initial weights of stem and blocks: He 2015b and Glorot 2010 (their variance, drawn uniformly), Saxe 2014 (gain
    sqrt 2) or Balduzzi 2017."""

    @property
    def dense(self) -> bool:
        """Whether this is a net of Dense layers."""
        return self.stem.kernel == 0

    @property
    def stride(self) -> int:
        """Input pixels per step of the last feature map."""
        total = self.stem.stride * (2 if self.stem.pool == "max" else 1)
        for stage in self.stages:
            total *= stage.stride
        return total

    def replace(self, **changes: Any) -> NetSpec:
        """Returns this spec with changes: fields, parts of fields, or the shorthands and words of `reszoo.arch.change`.

        `spec.replace(depths=[2, 2, 2, 2], stem="cifar", block={"stride_at": 1})`

        Raises:
            ReszooError: the changed spec is impossible, or a change has no such field.
        """
        from reszoo.arch.change import replace

        return replace(self, changes, where=self.name)

    def plain(self) -> NetSpec:
        """Returns the plain twin: the same network with the shortcuts taken out."""
        return self.replace(name=f"plain_of_{self.name}", shortcut="none")

    @model_validator(mode="after")
    def _possible(self) -> NetSpec:
        for problem in impossible(self):
            raise problem
        return self
