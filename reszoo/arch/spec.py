"""The network as data: one frozen, checked description of a residual network or its plain twin."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field, Strict, model_validator

from reszoo.arch.shorthands import SHORTHANDS, expand
from reszoo.config import FrozenModel, check
from reszoo.errors import ReszooError

Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(ge=0, lt=1)]
Init = Literal["he", "glorot", "orthogonal", "looks_linear"]


class Unit(FrozenModel):
    """One weighted layer of a block."""

    kernel: Annotated[int, Field(ge=0)]
    """Side of the convolution's window, odd; 0 means Dense."""
    ratio: Annotated[float, Field(gt=0)] = 1.0
    """Width of this unit over the width of its block."""
    groups: Count = 1
    """Groups of a grouped convolution (ResNeXt's cardinality)."""


class Block(FrozenModel):
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
    """Of the branch's last norm scale (of its last kernel where there is no norm). `identity`: zero, so that the block
    is the identity at first (Goyal 2017, 5.1); full scale in a block that changes the shape, which could not be it, and
    where padded channels would never learn. `scaled`: the scale over the square root of the number of blocks (Hanin
    2018; De 2020). `random`: full scale."""
    attention: Literal["none", "se"] = "none"
    """`se`: squeeze-and-excitation with reduction 16 at the end of the branch (Hu 2018)."""
    dropout: Rate = 0.0
    """Rate between the units (Zagoruyko 2016, 2.4; Gorishniy 2021)."""
    residual_dropout: Rate = 0.0
    """Rate at the end of the branch (Gorishniy 2021)."""
    drop_path: Rate = 0.0
    """Rate at which the last block's branch is dropped; block l of L has l/L of it (Huang 2016, section 3)."""


class Stage(FrozenModel):
    """Blocks of one width."""

    depth: Count
    """Number of blocks."""
    width: Count
    """Channels leaving every block."""
    stride: Count = 1
    """Stride of the first block."""
    dilation: Count = 1
    """Dilation of the convolutions after the place where the stage's stride would stand."""
    inner: Annotated[float, Field(gt=0)] = 1.0
    """Factor on the width of every unit but the last of a block; 1.0 in the first stage (Li 2017, 3.2: filters pruned
    stage by stage)."""

    def unit_widths(self, body: tuple[Unit, ...]) -> tuple[int, ...]:
        """Returns the channels leaving each unit of a block of this stage."""
        return (
            *(round(self.width * unit.ratio * self.inner) for unit in body[:-1]),
            round(self.width * body[-1].ratio),
        )


class Stem(FrozenModel):
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


class Norm(FrozenModel):
    """The normalisation layers."""

    kind: Literal["batch", "group", "none"] = "batch"
    """`batch` (Ioffe 2015), `group` (Wu 2018) or none at all."""
    epsilon: Annotated[float, Field(gt=0)] = 1e-5
    """Added to the variance."""
    momentum: Rate = 0.9
    """Of the moving statistics, in Keras' convention (PyTorch's is one minus this)."""
    groups: Count = 32
    """Groups of `group`; layers whose width they do not divide take the greatest common divisor."""


class Head(FrozenModel):
    """The layers after the last block."""

    pooling: Literal["avg", "max", "none"] = "avg"
    """Global pooling of the last feature map."""
    classes: Count | None = 1000
    """Width of the classifier; none ends the network without one."""
    activation: Literal["softmax", "sigmoid", "linear"] = "softmax"
    """Of the classifier."""
    dropout: Rate = 0.0
    """Rate before the classifier."""


class NetSpec(FrozenModel):
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
        """Returns this spec with changes: fields, parts of fields, or the words of `reszoo.arch.shorthands`.

        `spec.replace(depths=[2, 2, 2, 2], stem="cifar", block={"stride_at": 1})`

        Raises:
            ReszooError: the changed spec is impossible, or a change has no such field.
        """
        return replace(self, changes, where=self.name)

    def plain(self) -> NetSpec:
        """Returns the plain twin: the same network with the shortcuts taken out."""
        return self.replace(name=f"plain_of_{self.name}", shortcut="none")

    @model_validator(mode="after")
    def _possible(self) -> NetSpec:
        for problem in impossible(self):
            raise problem
        return self


def replace(spec: NetSpec, changes: Mapping[str, Any], *, where: str, also: Iterable[str] = ()) -> NetSpec:
    """Returns `spec` with `changes`; `where` opens an error's message, `also` are further words it offers."""
    fields = expand(spec.model_dump(), changes, known=(*NetSpec.model_fields, *SHORTHANDS), where=where, also=also)
    return check(NetSpec, fields, where=where)


def impossible(spec: NetSpec) -> list[ReszooError]:
    """What single fields cannot say: the ways in which parts of a spec contradict each other."""
    block, dense, problems = spec.block, spec.dense, []

    def no(where: str, got: object, expected: str, hint: str = "") -> None:
        problems.append(ReszooError(where, got=got, expected=expected, hint=hint))

    kernels = [("stem.kernel", spec.stem.kernel)]
    kernels += [(f"block.body.{i}.kernel", unit.kernel) for i, unit in enumerate(block.body)]
    for where, kernel in kernels:
        if (kernel == 0) != dense:
            no(where, kernel, "0 in every unit and the stem (Dense), or in none of them")
        elif kernel and kernel % 2 == 0:
            no(where, kernel, "odd numbers, which have a centre")
    if spec.stem.depth > 1 and spec.stem.width < 2:
        no("stem.width", spec.stem.width, "at least 2 where the stem has several layers: the first are half as wide")
    if len(spec.input_shape) != (1 if dense else 3) or spec.input_shape[-1] is None:
        shape = "(features,)" if dense else "(height, width, channels); height and width may be None"
        no("input_shape", spec.input_shape, shape, _order_of(spec.input_shape))
    elif not dense:
        stride = spec.stride
        if any(size is not None and size < stride for size in spec.input_shape[:2]):
            least = f"(height, width, channels), height and width of at least {stride}, the product of the strides"
            hint = f"give at least ({stride}, {stride}, ...), or stem='cifar'"
            no("input_shape", spec.input_shape, least, _order_of(spec.input_shape) or hint)
    if block.stride_at > len(block.body):
        no("block.stride_at", block.stride_at, f"1 to {len(block.body)}, the units of the block")
    if block.shortcut == "none" and block.start != "random":
        no(
            "block.start",
            block.start,
            "random in a plain net",
            "without a shortcut a zero branch passes nothing: use .plain()",
        )
    scales_kernels = spec.norm.kind == "none" or block.order in ("pre", "norm_first")
    if block.start == "scaled" and scales_kernels and spec.init == "looks_linear":
        no("init", spec.init, "he, glorot, orthogonal where the last kernels of branches start scaled")
    if block.shortcut == "none" and block.drop_path:
        no(
            "block.drop_path",
            block.drop_path,
            "0.0 in a plain net",
            "without a shortcut nothing passes a dropped branch",
        )
    if block.shortcut == "pad":
        widths = [spec.stem.width, *(stage.width for stage in spec.stages)]
        if any(after < before for before, after in pairwise(widths)):
            no(
                "block.shortcut",
                "pad",
                "project where a stage is narrower than the one before it",
                "padding only adds channels",
            )
    if dense:
        for where, got, expected in (
            ("block.shortcut", block.shortcut, ("none", "project", "project_all")),
            ("block.attention", block.attention, ("none",)),
            ("stem.pool", spec.stem.pool, ("none",)),
            ("stem.stride", spec.stem.stride, (1,)),
            *(("stages.stride", stage.stride, (1,)) for stage in spec.stages),
            *(("stages.dilation", stage.dilation, (1,)) for stage in spec.stages),
            *(("block.body.groups", unit.groups, (1,)) for unit in block.body),
        ):
            if got not in expected:
                no(where, got, f"{', '.join(map(str, expected))} in a dense net")
    elif spec.head.pooling == "none" and spec.head.classes:
        no(
            "head.pooling",
            "none",
            "avg, max",
            "a classifier needs a pooled map: head={'pooling': 'avg'} or include_top=False",
        )
    for number, (stage, following) in enumerate(pairwise(spec.stages), 1):
        # The unit with the stride still sees the dilation of the blocks before it; a window of one pixel sees none.
        unit = block.body[min(block.stride_at, len(block.body)) - 1]
        if following.stride > 1 and stage.dilation > 1 and unit.kernel > 1:
            one = f"1 in stage {number + 1}: stage {number} has dilation {stage.dilation}, no convolution has both"
            hint = "output_stride=16 or 8 turns strides into dilation"
            no(f"stages.{number}.stride", following.stride, one, hint)
    if spec.stages[0].inner != 1.0:
        no("stages.0.inner", spec.stages[0].inner, "1.0 in the first stage", "give block.body's ratio instead")
    for stage in spec.stages:
        before = stage.width
        for i, (unit, width) in enumerate(zip(block.body, stage.unit_widths(block.body), strict=True)):
            if width < 1:
                no(f"block.body.{i}.ratio", unit.ratio, f"ratios that leave a channel of stage width {stage.width}")
            elif width % unit.groups or before % unit.groups:
                no(f"block.body.{i}.groups", unit.groups, f"divisors of the widths around it, {before} and {width}")
            before = width
    return problems


def _order_of(shape: tuple[int | None, ...]) -> str:
    """A hint where a shape looks like one with its channels in front."""
    if len(shape) != 3 or shape[0] not in (1, 3) or shape[-1] in (1, 3):
        return ""
    channels, *size = shape
    last = f"({size[0]}, {size[1]}, {channels})"
    return f"channels come last: {last}; in front after keras.config.set_image_data_format('channels_first')"
