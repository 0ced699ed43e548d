"""Windows of a graph: padding and subsampling in layers of their own become settings of the window they belong to."""

from __future__ import annotations

from reszoo.errors import ReszooError
from reszoo.weights.graph_match import Steps
from reszoo.weights.keras_graph import Step


def windows(steps: Steps, where: str) -> Steps:
    """Returns the steps of a graph whose convolutions and pools have their padding and stride.

    Raises:
        ReszooError: zeros are padded for something else.
    """
    return _joined_pools(_without_padding(steps, where))


def _without_padding(steps: Steps, where: str) -> Steps:
    """Returns the steps with zero padding as a setting of the windows that read it."""
    result: list[Step] = []
    place: dict[int, int] = {}
    for number, step in enumerate(steps):
        sources = [steps[each] for each in step.inputs]
        if sources and sources[0].kind == "zero_pad" and step.kind in ("conv", "pool"):
            if step.settings["padding"] != "valid" or steps[sources[0].inputs[0]].kind == "zero_pad":
                raise ReszooError(where, got=f"layer {step.name!r}, which pads twice")
            settings = step.settings | {"padding": sources[0].settings["pixels"]}
            step = step._replace(inputs=sources[0].inputs, settings=settings)
        elif any(source.kind == "zero_pad" for source in sources):
            raise ReszooError(where, got=f"layer {sources[0].name!r}, which pads neither a convolution nor a pool")
        if step.kind != "zero_pad":
            place[number] = len(result)
            result.append(step._replace(inputs=tuple(place[each] for each in step.inputs)))
    return result


def _joined_pools(steps: Steps) -> Steps:
    """Returns the steps with a pool of stride one and a subsampling of it as one strided pool."""
    result: list[Step] = []
    place: dict[int, int] = {}
    for number, step in enumerate(steps):
        step = step._replace(inputs=tuple(place[each] for each in step.inputs))
        before = result[-1] if result else step
        is_subsampling = step.kind == "pool" and step.settings["kernel"] == 1 and step.inputs == (len(result) - 1,)
        if is_subsampling and before.kind == "pool" and before.settings["stride"] == 1:
            window = before.settings
            # Keras pads a pool of stride one by the same number of pixels on both sides, which are never the largest.
            neutral = {"padding": (window["kernel"] - 1) // 2, "neutral": True} if window["padding"] == "same" else {}
            result[-1] = before._replace(settings=window | neutral | {"stride": step.settings["stride"]})
        else:
            result.append(step)
        place[number] = len(result) - 1
    return result
