"""The parts of a spec: stem, blocks, stages, norms, activations, head; and the table of the orders within a block."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, Strict, ValidationInfo, field_validator

from reszoo.config import FrozenModel

Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(ge=0, lt=1)]
Init = Literal["he", "glorot", "orthogonal", "looks_linear"]
Shortcut = Literal["none", "pad", "project", "project_all", "pool_project", "pad_behind", "pool_pad", "pool_pad_behind"]
OrderName = Literal[
    "post",
    "post_bare",
    "inner",
    "norm_first",
    "pre",
    "pre_bare",
    "pre_normed",
    "pre_normed_bare",
    "pre_unshared",
    "pre_unshared_bare",
    "pre_unshared_normed",
    "pre_unshared_normed_bare",
    "pre_raw",
]
PADS = ("pad", "pad_behind", "pool_pad", "pool_pad_behind")
"""Shortcuts without weights that add channels of zeros."""


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
    order: OrderName = "post"
    """Positions of norms and activations: `post` He 2015; `post_bare` as post, nothing after the addition (Gross 2016);
    `inner` as post_bare, nothing after the stem; `pre` He 2016; `pre_raw` as pre_unshared, and norm and activation of
    the first block end the stem (Keras' example ResNet v2); `norm_first` Gorishniy 2021. Endings of `pre`: `_unshared`,
    projections read the input of the block in place of the pre-activation (bearpaw/pytorch-classification); `_normed`,
    norm and activation end the stem, too (weiaicunzai/pytorch-cifar100); `_bare`, nothing after the last block
    (kuangliu/pytorch-cifar)."""
    shortcut: Shortcut = "project"
    """`none` gives the plain twin; `pad`, `project`, `project_all` are options A, B, C of He 2015, 3.3; `pool_project`
    is ResNet-D's. `pad` takes every second pixel and adds half of the zero channels before and half behind;
    `pad_behind` adds all of them behind (fb.resnet.torch); `pool_pad` and `pool_pad_behind` average 2x2 pixels."""
    projection: Literal["norm", "bare"] = "norm"
    """`bare`: projections have no norm, where those of the order have one (Keras' example ResNet v1)."""
    stride_at: Count = 1
    """Unit of a stage's first block that has the stride, from 1."""
    start: Literal["identity", "scaled", "random"] = "random"
    """Initial value of the branch's last norm scale, or of its last kernel where there is no norm. `identity`: zero, so
    that the block is initially the identity (Goyal 2017, 5.1), but full scale in a block that changes the shape: it
    cannot be the identity, and padded channels would never learn. `scaled`: divided by the square root of the number of
    blocks (Hanin 2018; De 2020). `random`: full scale."""
    attention: Literal["none", "se", "eca"] = "none"
    """Gates of the channels at the end of the branch: `se`, squeeze-and-excitation (Hu 2018), or `eca`, a convolution
    along the channels (Wang 2020)."""
    reduction: Count = 16
    """Width of the block over that of the squeeze in `se` (Hu 2018, 6.1)."""
    multiple: Count = 8
    """The width of the squeeze is rounded to a multiple of this number, and at least this number (8 as in timm)."""
    dropout: Rate = 0.0
    """Rate between the units (Zagoruyko 2016, 2.4; Gorishniy 2021)."""
    residual_dropout: Rate = 0.0
    """Rate at the end of the branch (Gorishniy 2021)."""
    drop_path: Rate = 0.0
    """Drop rate of the last block's branch; block l of L has l/L of it (Huang 2016, section 3)."""


def squeeze_width(width: int, reduction: int, multiple: int) -> int:
    """Returns the channels between squeeze and gate of squeeze-and-excitation.

    Example:
        >>> from reszoo.arch.parts import squeeze_width
        >>> squeeze_width(64, 16, 8), squeeze_width(64, 16, 1), squeeze_width(192, 16, 8)
        (8, 4, 16)
    """
    return max(multiple, int(width / reduction + multiple / 2) // multiple * multiple)


def squeeze_fields(widths: Sequence[tuple[int, int]]) -> dict[str, int]:
    """Returns reduction and multiple of squeeze-and-excitation from the widths of blocks and of their squeezes.

    Example:
        >>> from reszoo.arch.parts import squeeze_fields
        >>> squeeze_fields([(256, 64), (512, 128)]), squeeze_fields([(64, 4), (128, 8)])
        ({'reduction': 4, 'multiple': 8}, {'reduction': 16, 'multiple': 1})
    """
    options = product((8, 1, 2, 4, 16, 32), (16, 8, 4, 2, *range(1, max(widths, default=(1, 1))[0] + 1)))
    fitting = (
        {"reduction": reduction, "multiple": multiple}
        for multiple, reduction in (options if widths else ())
        if all(squeeze_width(width, reduction, multiple) == squeeze for width, squeeze in widths)
    )
    return next(fitting, {})


def usual_reach(width: int) -> int:
    """Returns the channels that a gate of `eca` reads in a block (Wang 2020, eq. 12; gamma is 2, b is 1).

    Example:
        >>> from reszoo.arch.parts import usual_reach
        >>> usual_reach(64), usual_reach(256), usual_reach(2048)
        (3, 5, 7)
    """
    reach = int((math.log2(width) + 1) / 2)
    return max(3, reach + 1 - reach % 2)


class Stage(FrozenModel):
    """Blocks of one width."""

    depth: Count
    """Number of blocks."""
    width: Count
    """Output channels of every block."""
    stride: Count = 1
    """Stride of the first block."""
    dilation: Count = 1
    """Dilation of the convolutions after the unit that has the stride."""
    inner: Annotated[float, Field(gt=0)] = 1.0
    """Factor on the width of every unit but the last of a block; 1.0 in the first stage (Li 2017, 3.2: filters pruned
    stage by stage)."""

    reach: Count | None = None
    """Channels that a gate of `eca` reads, odd; None where it grows with the width (Wang 2020, eq. 12)."""

    @field_validator("reach")
    @classmethod
    def _usual_reach(cls, reach: int | None, info: ValidationInfo) -> int | None:
        """The usual number has one notation."""
        return None if "width" in info.data and reach == usual_reach(info.data["width"]) else reach

    def unit_widths(self, body: tuple[Unit, ...]) -> tuple[int, ...]:
        """Returns the output channels of each unit of a block of this stage."""
        return (
            *(round(self.width * unit.ratio * self.inner) for unit in body[:-1]),
            round(self.width * body[-1].ratio),
        )


def shortest_ratio(widths: Sequence[tuple[float, int]]) -> float:
    """Returns the shortest decimal ratio that reproduces all unit widths.

    Example:
        >>> from reszoo.arch.parts import shortest_ratio
        >>> shortest_ratio([(256, 64), (512, 128)])
        0.25

    Args:
        widths: pairs of a stage's width and its unit's width; `round(stage * ratio) == unit` for all of them.
    """
    stage, unit = max(widths)
    decimals = (round(unit / stage, digits) for digits in range(1, 17))
    return next((ratio for ratio in decimals if all(round(w * ratio) == u for w, u in widths)), unit / stage)


def stem_widths(widths: Sequence[int]) -> dict[str, Any]:
    """Returns the fields of a stem whose convolutions have these output channels.

    Example:
        >>> from reszoo.arch.parts import stem_widths
        >>> stem_widths([32, 32, 64])
        {'width': 64, 'depth': 3, 'first_widths': ()}
    """
    *first, width = widths
    usual = all(each == width // 2 for each in first)
    return {"width": width, "depth": len(widths), "first_widths": () if usual else tuple(first)}


class Stem(FrozenModel):
    """The layers before the first block."""

    kernel: Annotated[int, Field(ge=0)]
    """Side of the convolution's window, odd; 0 means Dense."""
    width: Count
    """Output channels of the stem."""
    stride: Count = 1
    """Stride of the first convolution."""
    depth: Count = 1
    """Number of convolutions; those before the last are half as wide (He T. 2019, ResNet-C)."""
    first_widths: Annotated[tuple[Count, ...], Strict(False)] = ()
    """Output channels of the convolutions before the last where they are not half as wide, as in timm's `resnet26t`."""
    pool: Literal["none", "max"] = "none"
    """`max`: a 3x3 max pool of stride 2 at the end."""

    @property
    def widths(self) -> tuple[int, ...]:
        """Output channels of all convolutions, in order."""
        return (*(self.first_widths or (self.width // 2,) * (self.depth - 1)), self.width)


class Norm(FrozenModel):
    """The normalisation layers."""

    kind: Literal["batch", "group", "none"] = "batch"
    """`batch` (Ioffe 2015), `group` (Wu 2018), or `none` for no norms."""
    epsilon: Annotated[float, Field(gt=0)] = 1e-5
    """Added to the variance."""
    momentum: Rate = 0.9
    """Momentum of the moving statistics, in Keras' convention (PyTorch's is one minus this)."""
    groups: Count = 32
    """Groups of a group norm; where they do not divide the width of a layer, the greatest common divisor is used."""


class Activation(FrozenModel):
    """The activations of stem and blocks."""

    kind: Literal["relu", "leaky_relu", "silu", "gelu"] = "relu"
    """`relu`, `leaky_relu` (Maas 2013), `silu` (Elfwing 2018; also called swish), `gelu` (Hendrycks 2016, exact)."""
    slope: Annotated[float, Field(gt=0, lt=1)] = 0.01
    """Factor of `leaky_relu` on values below zero."""


class Head(FrozenModel):
    """The layers after the last block."""

    pooling: Literal["avg", "max", "none"] = "avg"
    """Global pooling of the last feature map."""
    classes: Count | None = 1000
    """Width of the classifier; None for a network without one."""
    activation: Literal["softmax", "sigmoid", "linear"] = "softmax"
    """Activation of the classifier."""
    dropout: Rate = 0.0
    """Rate before the classifier."""


class Order(NamedTuple):
    """The layers around the weighted layers of a block, and at the two ends of the trunk."""

    stem: tuple[str, ...] = ()
    """After the stem."""
    lead: tuple[str, ...] = ()
    """Before the first unit of a block."""
    between: tuple[str, ...] = ()
    """Between two units."""
    trail: tuple[str, ...] = ()
    """After the last unit and after a projection."""
    after: tuple[str, ...] = ()
    """After the addition."""
    final: tuple[str, ...] = ()
    """After the last block."""
    first_lead: bool = True
    """Whether the first block of the network has the layers of `lead`; if not, those of the stem take their place."""
    projection_reads: Literal["input", "lead"] = "input"
    """What a projection reads: the input of the block, or that after the layers of `lead`."""
    between_belongs_to: Literal["unit before", "unit after"] = "unit before"
    """The unit that gives the layers between two units their names."""


# He 2016, Fig. 1b: x -> norm act conv -> norm act conv -> add
_PRE = Order(
    lead=("norm", "act"),
    between=("norm", "act", "dropout"),
    final=("norm", "act"),
    projection_reads="lead",
    between_belongs_to="unit after",
)

ORDERS = {
    # He 2015, Fig. 2: x -> conv norm act -> conv norm -> add -> act
    "post": Order(stem=("norm", "act"), between=("norm", "act", "dropout"), trail=("norm",), after=("act",)),
    # Gross 2016, "Training and investigating residual nets": x -> conv norm act -> conv norm -> add
    "post_bare": Order(stem=("norm", "act"), between=("norm", "act", "dropout"), trail=("norm",)),
    # The same with a free identity path from the stem's convolution on
    "inner": Order(between=("norm", "act", "dropout"), trail=("norm",)),
    # He 2016, with other ends of the trunk, and with a shortcut x -> conv of the blocks that change the shape
    **{
        f"pre{unshared}{normed}{bare}": _PRE._replace(
            stem=("norm", "act") if normed else (),
            final=() if bare else ("norm", "act"),
            projection_reads="input" if unshared else "lead",
        )
        for unshared, normed, bare in product(("", "_unshared"), ("", "_normed"), ("", "_bare"))
    },
    # Keras' example ResNet v2: stem -> norm act -> conv -> norm act conv -> add, and so on
    "pre_raw": _PRE._replace(stem=("norm", "act"), first_lead=False, projection_reads="input"),
    # Gorishniy 2021, 3.2: x -> norm linear act -> linear -> add
    "norm_first": Order(lead=("norm",), between=("act", "dropout"), final=("norm", "act")),
}
"""Order of a block -> the layers at each position."""
