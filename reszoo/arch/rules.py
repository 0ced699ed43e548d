"""The ways in which the parts of a spec can contradict each other: what single fields cannot say."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from reszoo.errors import ReszooError

if TYPE_CHECKING:
    from reszoo.arch.spec import NetSpec


def impossible(spec: NetSpec) -> list[ReszooError]:
    """What single fields cannot say: the ways in which parts of a spec contradict each other."""
    block, dense, problems = spec.block, spec.dense, []

    def no(where: str, given: object, allowed: str, mend: str = "") -> None:
        problems.append(ReszooError(where, given=given, allowed=allowed, mend=mend))

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
            mend = f"give at least ({stride}, {stride}, ...), or stem='cifar'"
            no("input_shape", spec.input_shape, least, _order_of(spec.input_shape) or mend)
    if block.stride_at > len(block.body):
        no("block.stride_at", block.stride_at, f"1 to {len(block.body)}, the units of the block")
    if block.shortcut == "none" and block.start != "random":
        no(
            "block.start",
            block.start,
            "random in a plain net",
            "without a shortcut a zero branch passes nothing: use .plain()",
        )
    if block.start == "scaled" and spec.init not in ("he", "glorot"):
        no("init", spec.init, "he, glorot where branches start scaled")
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
        for where, given, allowed in (
            ("block.shortcut", block.shortcut, ("none", "project", "project_all")),
            ("block.attention", block.attention, ("none",)),
            ("stem.pool", spec.stem.pool, ("none",)),
            ("stem.stride", spec.stem.stride, (1,)),
            *(("stages.stride", stage.stride, (1,)) for stage in spec.stages),
            *(("stages.dilation", stage.dilation, (1,)) for stage in spec.stages),
            *(("block.body.groups", unit.groups, (1,)) for unit in block.body),
        ):
            if given not in allowed:
                no(where, given, f"{', '.join(map(str, allowed))} in a dense net")
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
    for stage in spec.stages:
        before = stage.width
        for i, unit in enumerate(block.body):
            width = round(stage.width * unit.ratio)
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
