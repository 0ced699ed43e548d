"""The network as data: one frozen, validated description of a residual network or its plain twin."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field, Strict, model_validator

from reszoo.arch.parts import (
    ORDERS,
    PADS,
    Activation,
    Block as Block,
    Count as Count,
    Head as Head,
    Init,
    Norm as Norm,
    Rate as Rate,
    Stage as Stage,
    Stem as Stem,
    Unit as Unit,
)
from reszoo.arch.shorthands import SHORTHANDS, expand
from reszoo.config import NAME, FrozenModel, check
from reszoo.errors import ReszooError
from reszoo.notebook import html_fields


class NetSpec(FrozenModel):
    """A complete description of a residual or plain network, from which reszoo computes everything else."""

    name: Annotated[str, Field(pattern=NAME)]
    """Name of the network and of the Keras model."""
    input_shape: Annotated[tuple[Count | None, ...], Strict(False)]
    """`(height, width, channels)` of an image, `(features,)` of a dense net; height and width may be None."""
    stem: Stem
    block: Block
    stages: Annotated[tuple[Stage, ...], Strict(False), Field(min_length=1)]
    norm: Norm = Norm()
    activation: Activation = Activation()
    head: Head = Head()
    padding: Literal["both", "same"] = "both"
    """Padding of strided windows: `both` sides by (kernel - 1) // 2, as in PyTorch; `same` as Keras' option of this
    name: only as much as the size of the map needs, and the odd pixel behind."""
    bias: bool = False
    """Whether the weighted layers of stem and blocks have a bias (the classifier always has one)."""
    init: Init = "he"
    """Initial weights of stem and blocks: He 2015b and Glorot 2010 (their variance, drawn uniformly), Saxe 2014 (gain
    sqrt 2) or Balduzzi 2017."""

    @property
    def dense(self) -> bool:
        """Whether the network consists of Dense layers."""
        return self.stem.kernel == 0

    @property
    def stride(self) -> int:
        """Input pixels per step of the last feature map."""
        total = self.stem.stride * (2 if self.stem.pool == "max" else 1)
        for stage in self.stages:
            total *= stage.stride
        return total

    def replace(self, **changes: object) -> NetSpec:
        """Returns this spec with changes: fields, nested fields, or the words of `reszoo.arch.shorthands`.

        Example:
            >>> import reszoo
            >>> reszoo.spec("resnet50").replace(depths=[2, 2, 2, 2], stem="cifar", block={"stride_at": 1})
            NetSpec('resnet50': 224x224x3, post, project, depths 2-2-2-2, widths 256-512-1024-2048)

        Raises:
            ReszooError: the changed spec is invalid.
            UnknownNameError: a change names no field; the nearest names are offered.
        """
        return replace(self, changes, where=self.name)

    def plain(self) -> NetSpec:
        """Returns the plain twin: the same network without shortcuts."""
        return self.replace(name=f"plain_of_{self.name}", shortcut="none")

    @model_validator(mode="after")
    def _check_consistency(self) -> NetSpec:
        for problem in impossible(self):
            raise problem
        return self

    def __repr__(self) -> str:
        depths = "-".join(str(stage.depth) for stage in self.stages)
        widths = "-".join(str(stage.width) for stage in self.stages)
        shape = "x".join("?" if size is None else str(size) for size in self.input_shape)
        block = f"{self.block.order}, {self.block.shortcut}"
        return f"NetSpec({self.name!r}: {shape}, {block}, depths {depths}, widths {widths})"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        return html_fields(self.model_dump(), title=self.name)


def replace(spec: NetSpec, changes: Mapping[str, Any], *, where: str, also: Iterable[str] = ()) -> NetSpec:
    """Returns `spec` with `changes`; error messages begin with `where` and also suggest the names in `also`."""
    fields = expand(spec.model_dump(), changes, known=(*NetSpec.model_fields, *SHORTHANDS), where=where, also=also)
    return check(NetSpec, fields, where=where)


def impossible(spec: NetSpec) -> list[ReszooError]:
    """Returns an error for every contradiction between the fields of a spec, in the order of its parts."""
    problems = [*_kernel_problems(spec), *_shape_problems(spec), *_block_problems(spec), *_word_problems(spec)]
    if spec.dense:
        problems += _dense_problems(spec)
    elif spec.head.pooling == "none" and spec.head.classes:
        hint = "a classifier needs pooled features: head={'pooling': 'avg'} or include_top=False"
        problems.append(ReszooError("head.pooling", got="none", expected="avg, max", hint=hint))
    return [*problems, *_stage_problems(spec)]


def _kernel_problems(spec: NetSpec) -> Iterator[ReszooError]:
    kernels = [("stem.kernel", spec.stem.kernel)]
    kernels += [(f"block.body.{i}.kernel", unit.kernel) for i, unit in enumerate(spec.block.body)]
    for where, kernel in kernels:
        if (kernel == 0) != spec.dense:
            yield ReszooError(where, got=kernel, expected="0 in every unit and the stem (Dense), or in none of them")
        elif kernel and kernel % 2 == 0:
            yield ReszooError(where, got=kernel, expected="odd numbers: the window needs a center pixel")


def _shape_problems(spec: NetSpec) -> Iterator[ReszooError]:
    shape, dense, stride = spec.input_shape, spec.dense, spec.stride
    if spec.stem.first_widths and len(spec.stem.first_widths) != spec.stem.depth - 1:
        expected = f"{spec.stem.depth - 1} widths for a stem of depth {spec.stem.depth}, or none"
        yield ReszooError("stem.first_widths", got=list(spec.stem.first_widths), expected=expected)
    if min(spec.stem.widths) < 1:
        expected = "at least 2 where the stem has several layers, since the first ones are half as wide"
        yield ReszooError("stem.width", got=spec.stem.width, expected=expected)
    if len(shape) != (1 if dense else 3) or shape[-1] is None:
        expected = "(features,)" if dense else "(height, width, channels); height and width may be None"
        yield ReszooError("input_shape", got=shape, expected=expected, hint=_order_of(shape))
    elif not dense and any(size is not None and size < stride for size in shape[:2]):
        expected = f"(height, width, channels) with height and width at least {stride}, the product of the strides"
        hint = _order_of(shape) or f"use at least ({stride}, {stride}, ...), or stem='cifar'"
        yield ReszooError("input_shape", got=shape, expected=expected, hint=hint)


def _block_problems(spec: NetSpec) -> Iterator[ReszooError]:
    block = spec.block
    if block.stride_at > len(block.body):
        yield ReszooError("block.stride_at", got=block.stride_at, expected=f"1 to {len(block.body)}, the block's units")
    if block.shortcut == "none" and block.start != "random":
        hint = "without a shortcut a zero branch outputs zero; use .plain()"
        yield ReszooError("block.start", got=block.start, expected="random in a plain net", hint=hint)
    scales_kernels = spec.norm.kind == "none" or "norm" not in ORDERS[block.order].trail
    if block.start == "scaled" and scales_kernels and spec.init == "looks_linear":
        expected = "he, glorot, orthogonal where block.start is scaled and branches end with a kernel"
        yield ReszooError("init", got=spec.init, expected=expected)
    if block.shortcut == "none" and block.drop_path:
        hint = "without a shortcut a dropped branch leaves no signal"
        yield ReszooError("block.drop_path", got=block.drop_path, expected="0.0 in a plain net", hint=hint)
    widths = [spec.stem.width, *(stage.width for stage in spec.stages)]
    for number, (before, width) in enumerate(pairwise(widths), 1):
        if block.shortcut in PADS and width < before:
            name = f"stage {number - 1}" if number > 1 else "the stem (stem.width)"
            hint = f"padding only adds channels, and stage {number}, {width}, is narrower than {name}, {before}"
            yield ReszooError("block.shortcut", got=block.shortcut, expected="project", hint=hint)


def _word_problems(spec: NetSpec) -> Iterator[ReszooError]:
    """Words that would have no effect, or another one than their name."""
    block, activation = spec.block, spec.activation
    has_norm = spec.norm.kind != "none" and "norm" in ORDERS[block.order].trail
    if block.projection == "bare" and not (has_norm and "project" in block.shortcut):
        expected = "norm: only the orders post, post_bare and inner have norms in their projections"
        yield ReszooError("block.projection", got="bare", expected=expected)
    for field in ("reduction", "multiple"):
        value, default = getattr(block, field), Block.model_fields[field].default
        if block.attention != "se" and value != default:
            yield ReszooError(f"block.{field}", got=value, expected=f"{default} where block.attention is not se")
    if activation.kind != "leaky_relu" and activation.slope != Activation().slope:
        expected = f"{Activation().slope} where activation.kind is not leaky_relu"
        yield ReszooError("activation.slope", got=activation.slope, expected=expected)
    if activation.kind != "relu" and spec.init == "looks_linear":
        hint = "its pairs (z, -z) are linear only behind ReLU"
        yield ReszooError("init", got=spec.init, expected="he, glorot, orthogonal", hint=hint)


def _dense_problems(spec: NetSpec) -> Iterator[ReszooError]:
    fields: list[tuple[str, object, tuple[object, ...]]] = [
        ("block.shortcut", spec.block.shortcut, ("none", "project", "project_all")),
        ("block.attention", spec.block.attention, ("none",)),
        ("stem.pool", spec.stem.pool, ("none",)),
        ("stem.stride", spec.stem.stride, (1,)),
        ("padding", spec.padding, ("both",)),
        *(("stages.stride", stage.stride, (1,)) for stage in spec.stages),
        *(("stages.dilation", stage.dilation, (1,)) for stage in spec.stages),
        *(("block.body.groups", unit.groups, (1,)) for unit in spec.block.body),
    ]
    for where, value, choices in fields:
        if value not in choices:
            yield ReszooError(where, got=value, expected=f"{', '.join(map(str, choices))} in a dense net")


def _stage_problems(spec: NetSpec) -> Iterator[ReszooError]:
    body = spec.block.body
    # The unit with the stride has the dilation of the preceding blocks; 1x1 convolutions have none.
    strided = body[min(spec.block.stride_at, len(body)) - 1]
    for number, (stage, following) in enumerate(pairwise(spec.stages), 1):
        if following.stride > 1 and stage.dilation > 1 and strided.kernel > 1:
            expected = f"1 in stage {number + 1}: stage {number} has dilation {stage.dilation}, no convolution has both"
            hint = "output_stride=16 or 8 turns strides into dilation"
            yield ReszooError(f"stages.{number}.stride", got=following.stride, expected=expected, hint=hint)
    if spec.stages[0].inner != 1.0:
        hint = "set the ratio of block.body instead"
        yield ReszooError("stages.0.inner", got=spec.stages[0].inner, expected="1.0 in the first stage", hint=hint)
    for number, stage in enumerate(spec.stages):
        if stage.reach is not None and (spec.block.attention != "eca" or stage.reach % 2 == 0):
            expected = "odd numbers" if spec.block.attention == "eca" else "None where block.attention is not eca"
            yield ReszooError(f"stages.{number}.reach", got=stage.reach, expected=expected)
        before = stage.width
        for i, (unit, width) in enumerate(zip(body, stage.unit_widths(body), strict=True)):
            where = f"block.body.{i}"
            if width < 1:
                expected = f"ratios that give at least one channel at stage width {stage.width}"
                yield ReszooError(f"{where}.ratio", got=unit.ratio, expected=expected)
            elif width % unit.groups or before % unit.groups:
                expected = f"divisors of its input and output widths, {before} and {width}"
                yield ReszooError(f"{where}.groups", got=unit.groups, expected=expected)
            before = width


def _order_of(shape: tuple[int | None, ...]) -> str:
    """A hint for shapes that look as if they had their channels first."""
    if len(shape) != 3 or shape[0] not in (1, 3) or shape[-1] in (1, 3):
        return ""
    channels, height, width = shape
    swapped = f"({height}, {width}, {channels})"
    return f"channels come last: {swapped}; first after keras.config.set_image_data_format('channels_first')"
